"""Objects whose scans are known: water, rods, air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def ellipse(
    size: int, spacing_mm: float, a_mm: float, b_mm: float, *, x_mm: float = 0.0, y_mm: float = 0.0
) -> NDArray[np.bool_]:
    """True inside of an ellipse around a point; (row, column), the middle of the image is 0."""
    axis = (np.arange(size) - (size - 1) / 2) * spacing_mm
    inside: NDArray[np.bool_] = ((axis - x_mm) / a_mm) ** 2 + ((axis[:, None] - y_mm) / b_mm) ** 2 <= 1
    return inside


def disc(size: int, spacing_mm: float, radius_mm: float, *, x_mm: float = 0.0, y_mm: float = 0.0) -> Image:
    """Share of each pixel that a disc covers."""
    fine = ellipse(size * 8, spacing_mm / 8, radius_mm, radius_mm, x_mm=x_mm, y_mm=y_mm)
    share: Image = fine.reshape(size, 8, size, 8).mean(axis=(1, 3), dtype=np.float32)
    return share


def water(size: int, spacing_mm: float, a_mm: float, b_mm: float, *, hu: float = 0.0) -> Image:
    """An ellipse in air, HU (row, column)."""
    return np.where(ellipse(size, spacing_mm, a_mm, b_mm), hu, -1000).astype(np.float32)
