"""Patterns that no object has: the same in every output, or steps of grey."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

CHANCE = 3.0
LOWEST_PER_HU, HIGHEST_PER_HU = 0.25, 0.75
"""Frequencies of grey levels at which any step of 1.4 HU or more shows; whole HU, as files hold, show at 1 alone."""

SOFT_HU = 150.0
"""Values are taken from soft tissue and water, where they are many."""

BIN_HU = 0.05
FEWEST_VALUES = 2000

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def fixed_pattern_hu(before_hu: Volume, after_hu: Volume, where: Mask) -> float:
    """Standard deviation over a uniform object of what all outputs share and their inputs do not.

    The covariance of what was changed in two scans with independent noise, mean over pairs, is the square of what was
    changed in both alike. Less 3 standard errors, by chance.

    Args:
        before_hu: input, HU (realisation, row, column); independent noise.
        after_hu: output, likewise.
        where: bool (row, column), where the object is uniform.

    Returns:
        HU, 0 or more.
    """
    change = (after_hu - before_hu)[:, where].astype(np.float64)
    change -= change.mean(axis=1, keepdims=True)
    count = len(change)
    covariance = (change @ change.T / change.shape[1])[np.triu_indices(count, 1)]
    chance = CHANCE * float(covariance.std(ddof=1)) / math.sqrt(len(covariance))
    return math.sqrt(max(0.0, float(covariance.mean()) - chance))


def grey_steps(after_hu: Volume, where: Mask) -> float:
    """How much the values keep to steps: 0 not at all, 1 exactly; whole numbers are no steps.

    The largest ``|mean(exp(2 pi i f v))|`` of the values v over frequencies of 0.25 to 0.75 per HU: values in steps of
    s HU have one of 1 at every multiple of 1/s; values with noise of 1 HU and more have none above 0.25 per HU.

    Args:
        after_hu: output, HU (realisation, row, column).
        where: bool (row, column).
    """
    values = after_hu[:, where]
    values = values[np.abs(values) < SOFT_HU]
    if len(values) < FEWEST_VALUES:
        return math.nan
    counts, _ = np.histogram(values, bins=round(2 * SOFT_HU / BIN_HU), range=(-SOFT_HU, SOFT_HU))
    spectrum = np.abs(np.fft.rfft(counts)) / len(values)
    per_hu = np.fft.rfftfreq(len(counts), BIN_HU)
    return float(spectrum[(per_hu >= LOWEST_PER_HU) & (per_hu <= HIGHEST_PER_HU)].max())
