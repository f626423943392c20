"""Low-dose CT denoising with ISCL (interdependent self-cooperative learning) on MONAI.

The public names, imported when they are first used, so that ``import iscl_monai`` costs nothing:

>>> import numpy as np
>>> from iscl_monai import Denoiser, Derivation, denoise, denoise_volume, read_series, write_derived_series
>>> denoiser = Denoiser.from_bundle("bundles/iscl")  # doctest: +SKIP
>>> series = read_series("scan/", geometry="slices")  # doctest: +SKIP
>>> denoised_hu = denoise_volume(series.hu, denoiser)  # doctest: +SKIP

Everything here that cannot be done without guessing raises :class:`Refusal`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from iscl_monai.version import __version__

if TYPE_CHECKING:
    from iscl_monai.dicom.derivation import Derivation
    from iscl_monai.dicom.series import CTSeries, find_series, read_series
    from iscl_monai.dicom.write import write_derived_series
    from iscl_monai.errors import Refusal
    from iscl_monai.evaluation.evaluate import evaluate_datalist, evaluate_pair, evaluate_without_reference
    from iscl_monai.hu import HUWindow
    from iscl_monai.inference.anything import denoise
    from iscl_monai.inference.denoiser import Denoiser
    from iscl_monai.inference.slice_denoiser import denoise_volume

HOMES = {
    "CTSeries": "iscl_monai.dicom.series",
    "Denoiser": "iscl_monai.inference.denoiser",
    "Derivation": "iscl_monai.dicom.derivation",
    "HUWindow": "iscl_monai.hu",
    "Refusal": "iscl_monai.errors",
    "denoise": "iscl_monai.inference.anything",
    "denoise_volume": "iscl_monai.inference.slice_denoiser",
    "evaluate_datalist": "iscl_monai.evaluation.evaluate",
    "evaluate_pair": "iscl_monai.evaluation.evaluate",
    "evaluate_without_reference": "iscl_monai.evaluation.evaluate",
    "find_series": "iscl_monai.dicom.series",
    "read_series": "iscl_monai.dicom.series",
    "write_derived_series": "iscl_monai.dicom.write",
}

__all__ = [
    "CTSeries",
    "Denoiser",
    "Derivation",
    "HUWindow",
    "Refusal",
    "__version__",
    "denoise",
    "denoise_volume",
    "evaluate_datalist",
    "evaluate_pair",
    "evaluate_without_reference",
    "find_series",
    "read_series",
    "write_derived_series",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
