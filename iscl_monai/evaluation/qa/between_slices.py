"""What changes from slice to slice though the object does not: strength of denoising, and brightness."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.figures import SteadinessFigures

LEAST_NOISE_HU = 1e-6

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def steadiness(module: str, before_hu: Volume, after_hu: Volume, where: Mask) -> SteadinessFigures:
    """How much denoising differs between scans of one object that differ in their noise alone.

    Args:
        module: its name.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.
        where: flat parts, bool (row, column).
    """
    before, after = (scans[:, where].astype(np.float64) for scans in (before_hu, after_hu))
    left = [_noise(scans) for scans in (before, after)]
    ratio = left[1] / np.maximum(left[0], LEAST_NOISE_HU)
    brightness = (after - before).mean(axis=1)
    return SteadinessFigures(
        module=module,
        strength_spread=float(ratio.max() - ratio.min()),
        brightness_spread_hu=float(brightness.max() - brightness.min()),
    )


def _noise(scans: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Standard deviation of each scan's difference from the mean of the others, its own mean taken away."""
    others = (scans.sum(axis=0) - scans) / (len(scans) - 1)
    sigma: npt.NDArray[np.float64] = (scans - others).std(axis=1)
    return sigma
