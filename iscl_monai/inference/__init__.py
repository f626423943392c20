"""Denoise what hospitals have: DICOM folders and files, NIfTI volumes, arrays; slice by slice, written whole or not."""

from iscl_monai.inference.denoiser import Denoiser, ModelIdentity, denoise_volume
from iscl_monai.inference.tiles import SeamlessInferer

__all__ = ["Denoiser", "ModelIdentity", "SeamlessInferer", "denoise_volume"]
