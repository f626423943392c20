"""Discs on a grid of pixels, each pixel with the share of its area that the disc covers."""

from __future__ import annotations

import math

import numpy as np

from iscl_monai.phantom.canvas import Floats

_LINES_PER_PIXEL = 128


def disc_coverage(shape: tuple[int, ...], centre: tuple[float, float], radius: float) -> Floats:
    """Share of each pixel that a disc covers.

    Exact along the rows, and a sum over many lines along the columns, so that the sum over all pixels is the
    disc's area within 0.01 %.

    Args:
        shape: (rows, columns).
        centre: (row, column), pixel centres being whole numbers.
        radius: in pixels; 0 covers nothing.

    Returns:
        float32 in [0, 1], of that shape.
    """
    coverage = np.zeros(shape, np.float32)
    first = max(0, math.floor(centre[1] - radius + 0.5))
    last = min(shape[1] - 1, math.ceil(centre[1] + radius - 0.5))
    top = max(0, math.floor(centre[0] - radius + 0.5))
    bottom = min(shape[0] - 1, math.ceil(centre[0] + radius - 0.5))
    if radius <= 0 or last < first or bottom < top:
        return coverage
    lines = (np.arange(_LINES_PER_PIXEL) + 0.5) / _LINES_PER_PIXEL - 0.5
    x = (np.arange(first, last + 1)[:, None] + lines).ravel() - centre[1]
    half = np.sqrt(np.clip(radius**2 - x**2, 0, None))
    rows = np.arange(top, bottom + 1)[:, None] - centre[0]
    covered = np.minimum(rows + 0.5, half) - np.maximum(rows - 0.5, -half)
    covered = covered.clip(0, 1).reshape(len(rows), -1, _LINES_PER_PIXEL).mean(axis=2)
    coverage[top : bottom + 1, first : last + 1] = covered
    return coverage
