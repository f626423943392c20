"""Strengths, and quantities that are quadratic in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRENGTHS: Floats = np.linspace(0, 1, 21)
"""Share of a method's change that is added: 0 is the noisy input, 1 the method's own output."""
OBSERVED_EVERY = 2
"""The observer looks at every second one."""


def mean_square(moments: Iterable[Sequence[float]]) -> Floats:
    """Mean of ``(x + s c)^2`` at each of the :data:`STRENGTHS`, over parts of different size.

    Args:
        moments: of each part the means of ``x x``, ``x c`` and ``c c``, and its size.
    """
    rows = np.array(list(moments), np.float64).reshape(-1, 4)
    count = rows[:, 3].sum()
    if not count:
        return np.full(len(STRENGTHS), np.nan)
    xx, xc, cc = (rows[:, :3] * rows[:, 3:]).sum(axis=0) / count
    squares: Floats = np.maximum(xx + 2 * STRENGTHS * xc + STRENGTHS**2 * cc, 0)
    return squares


def strength_at(reduction: Floats, wanted: float) -> float:
    """The first strength at which a noise reduction is reached, between two of them on a straight line; NaN if none.

    Args:
        reduction: at each of the :data:`STRENGTHS`.
        wanted: likewise a share.
    """
    reached = np.flatnonzero(reduction >= wanted)
    if not reached.size:
        return float("nan")
    high = int(reached[0])
    if high == 0:
        return 0.0
    low = high - 1
    share = (wanted - reduction[low]) / (reduction[high] - reduction[low])
    return float(STRENGTHS[low] + share * (STRENGTHS[high] - STRENGTHS[low]))
