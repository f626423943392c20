"""Whether values can be those of a magnitude image: 0 or more, dark where there is nothing, of many levels."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ImageRefusal

LEAST_LEVELS = 16
"""Distinct values; a mask or a label map has fewer, an 8-bit scan some hundred."""

UNIFORM_DISTANCE = 0.1
"""Largest distance of cumulative distributions (Kolmogorov) at which values count as spread evenly over their range.

Measured: the phase of a complex 0.055 T scan 0.01, 17 magnitude scans (0.055 T, 3 T, T1w) 0.46 to 0.69."""

SAMPLED = 1_000_000
GIVE_MAGNITUDE = "give the magnitude (ImageType M) as the scanner reconstructed it"


def check_magnitude(path: Path, values: npt.NDArray[np.float32]) -> None:
    """Refuse what cannot be the magnitude of an MR scan.

    Args:
        path: of the file or folder, for the message.
        values: of the whole scan, any shape.

    Raises:
        ImageRefusal: NaN, negative values, one value, a mask, or values spread evenly as those of phase.
    """
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        _refuse(path, "NaN or infinite values", "finite numbers", "replace them, e.g. numpy.nan_to_num")
    if lowest < 0:
        what = "phase, a real part, z-scores or CT" if lowest < -0.01 * highest else "an interpolated magnitude"
        _refuse(path, f"values {lowest:g} to {highest:g}, as of {what}", "a magnitude, 0 or more", GIVE_MAGNITUDE)
    if lowest == highest:
        _refuse(path, f"nothing but {lowest:g}", "an image", "give another file")
    sample = values.ravel()[:: max(1, values.size // SAMPLED)]
    levels = np.unique(sample).size
    if levels < LEAST_LEVELS:
        _refuse(path, f"{levels} distinct values, a mask or label map", "an image", "give the scan itself")
    if distance_from_uniform(sample) < UNIFORM_DISTANCE:
        _refuse(
            path,
            f"values spread evenly over {lowest:g} to {highest:g}, as those of phase",
            "a magnitude, dark where there is nothing",
            GIVE_MAGNITUDE,
        )


def distance_from_uniform(values: npt.NDArray[np.float32]) -> float:
    """Kolmogorov's distance of some values from an even spread between the lowest and the highest of them."""
    ordered = np.sort(values.astype(np.float64))
    even = (ordered - ordered[0]) / (ordered[-1] - ordered[0])
    return float(np.abs(np.linspace(0, 1, ordered.size) - even).max())


def _refuse(path: Path, came: str, allowed: str, cure: str) -> NoReturn:
    raise ImageRefusal(f"{path}: {came}", allowed=allowed, cure=cure)
