"""Denoise what hospitals have: DICOM folders and files, NIfTI volumes, arrays; slice by slice, written whole or not."""

from iscl_monai.inference.anything import denoise
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.engine import DenoisingEngine
from iscl_monai.inference.image import denoise_image
from iscl_monai.inference.series import Outcome, denoise_series
from iscl_monai.inference.slice_denoiser import ModelIdentity, SliceDenoiser, denoise_volume
from iscl_monai.inference.tiles import SeamlessInferer

__all__ = [
    "Denoiser",
    "DenoisingEngine",
    "ModelIdentity",
    "Outcome",
    "SeamlessInferer",
    "SliceDenoiser",
    "denoise",
    "denoise_image",
    "denoise_series",
    "denoise_volume",
]
