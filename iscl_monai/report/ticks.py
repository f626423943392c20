"""Where an axis begins and ends, and which round numbers are written along it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from iscl_monai.report.numbers import MINUS

MARGIN = 0.05
ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def limits(values: npt.ArrayLike, log: bool, low: float | None, high: float | None) -> tuple[float, float]:
    """Both ends of an axis, the first one smaller: what was asked for, else the data with a twentieth around it.

    Args:
        values: what is to be shown; NaN, and on logarithmic axes 0 and less, do not count.
        log: logarithmic.
        low: asked for, or None.
        high: asked for, or None.
    """
    numbers = np.asarray(values, np.float64)
    numbers = numbers[np.isfinite(numbers) & ((numbers > 0) | (not log))]
    first, last = (float(numbers.min()), float(numbers.max())) if numbers.size else (1.0, 1.0)
    if log:
        room = max(math.log10(last / first), 0.1) * MARGIN
        first, last = first / 10**room, last * 10**room
    else:
        room = (last - first) * MARGIN or abs(first) * MARGIN or 1.0
        # An axis that nearly reaches 0 reaches it.
        first = first - room if first < 0 else (0.0 if first < 0.4 * last else first - room)
        last = last + room if last > 0 else 0.0
    first, last = first if low is None else low, last if high is None else high
    return (first, last) if first < last else (first, first + (abs(first) or 1.0))


def ticks(ends: tuple[float, float], log: bool, *, most: int) -> list[float]:
    """Round numbers within both ends, ascending, at most about ``most``."""
    return _decades(ends, most) if log else _steps(ends, most)


def _steps(ends: tuple[float, float], most: int) -> list[float]:
    rough = (ends[1] - ends[0]) / most
    decade = 10 ** math.floor(math.log10(rough))
    step = next(decade * factor for factor in ROUND if decade * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(ends[0] / step - 1e-9), math.floor(ends[1] / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(ends: tuple[float, float], most: int) -> list[float]:
    """1, 2 and 5 of each decade, or 1 only where that is too many; round steps where not even two fit."""
    exponents = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    for factors in ((1.0, 2.0, 5.0), (1.0,)):
        found = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        within = [value for value in found if ends[0] * (1 - 1e-9) <= value <= ends[1] * (1 + 1e-9)]
        if 2 <= len(within) <= most:
            return within
    return within[:: math.ceil(len(within) / most)] if len(within) > 1 else _steps(ends, most)


def labels(values: Sequence[float]) -> list[str]:
    """All with as many decimals as they need to differ and to be right; those of decades each by itself."""
    sizes = [abs(value) for value in values if value]
    if sizes and max(sizes) > 50 * min(sizes):
        written = [f"{value:.12g}" for value in values]
    else:
        gap = min((abs(b - a) for a, b in itertools.pairwise(values)), default=max(sizes, default=1.0))
        decimals = next(
            (count for count in range(12) if all(abs(round(value, count) - value) <= gap * 1e-3 for value in values)),
            12,
        )
        written = [f"{value:.{decimals}f}" for value in values]
    return [text.replace("-", MINUS) for text in written]
