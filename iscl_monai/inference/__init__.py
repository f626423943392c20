"""Denoise what hospitals have: DICOM folders and files, NIfTI volumes, arrays; slice by slice, written whole or not.

The pieces on MONAI (``engine``, ``tiles``) are imported from their own modules: they take seconds, and few need them.
"""

from iscl_monai.inference.anything import denoise
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.image import denoise_image
from iscl_monai.inference.series import Outcome, denoise_series
from iscl_monai.inference.slice_denoiser import ModelIdentity, SliceDenoiser, denoise_volume

__all__ = [
    "Denoiser",
    "ModelIdentity",
    "Outcome",
    "SliceDenoiser",
    "TrainingRecord",
    "denoise",
    "denoise_image",
    "denoise_series",
    "denoise_volume",
]
