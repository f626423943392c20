"""Denoise what hospitals have: DICOM folders and files, NIfTI volumes, arrays; slice by slice, written whole or not.

The names are imported when they are first used: torch takes seconds to import, pydicom and SciPy one, and what is wrong
with a path is refused without any of them. The pieces on MONAI (``engine``, ``tiles``) take seconds more, few need
them, and they are imported from their own modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iscl_monai.inference.anything import denoise
    from iscl_monai.inference.denoiser import Denoiser
    from iscl_monai.inference.familiarity import TrainingRecord
    from iscl_monai.inference.image import denoise_image
    from iscl_monai.inference.series import Outcome, denoise_series
    from iscl_monai.inference.slice_denoiser import ModelIdentity, SliceDenoiser, denoise_volume

HOMES = {
    "Denoiser": "denoiser",
    "ModelIdentity": "slice_denoiser",
    "Outcome": "series",
    "SliceDenoiser": "slice_denoiser",
    "TrainingRecord": "familiarity",
    "denoise": "anything",
    "denoise_image": "image",
    "denoise_series": "series",
    "denoise_volume": "slice_denoiser",
}

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


def __getattr__(name: str) -> Any:
    """Import a name from where it lives."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
