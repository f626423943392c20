"""What a few slices of a scan hold, in numbers that do not depend on its noise: means of small blocks of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion

Scalar = TypeVar("Scalar", bound=np.generic)
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
SampledSlice = tuple[Floats, Mask | None]
"""HU (row, column) as the file's own rules give them, and True where a pixel is padding; None: nowhere."""

MOST_SLICES = 9
BLOCK_PX = 128
"""Blocks of pixels across a slice, about: 4 pixels of 512."""
FILL_BELOW_HU = -1100.0
LEAST_FILL = 0.005
"""A value below that of air that so many pixels share exactly was filled in: no noise hits one value so often."""
INNER_RADIUS = 0.85
"""Of the circle that touches the sides: what lies within was certainly reconstructed."""
OUTER_RADIUS = 0.97
"""Nearly all pixels of a value that is filled in around the circle of reconstruction lie beyond."""
PIXELS_PER_SLICE = 20_000
BRIGHT_HU = 2000.0
DARK_HU = -900.0


def sample_indices(count: int) -> list[int]:
    """Numbers of up to nine slices, spread evenly over a series or volume, the middle one always among them."""
    if count <= MOST_SLICES:
        return list(range(count))
    spread = {round((index + 0.5) * count / MOST_SLICES - 0.5) for index in range(MOST_SLICES)}
    return sorted(spread | {count // 2} if MOST_SLICES % 2 == 0 else spread)


@dataclass(frozen=True, eq=False, kw_only=True)
class ValueStatistics:
    """Blocks of all sampled slices together; padding and what was filled in are left out.

    Attributes:
        mean_hu: of each block.
        sd_hu: standard deviation of the pixels of each block.
        inner: blocks within the circle of reconstruction.
        border: blocks at the edge of the image, or of what is left of it.
        speckled: blocks that hold both air and a pixel as bright as metal.
        pixels: a sample of single pixels, sorted, HU.
        valid: pixels that were looked at.
        fill: share of the pixels that was left out.
        at_lowest: share of the valid pixels that have the very lowest value of their slice.
        at_highest: likewise the very highest.
        slice_mean_hu: the same blocks' means, slice by slice.
        field_mm: side of the square of the size of what is left, averaged over slices; None: no spacing is known.
    """

    mean_hu: Floats
    sd_hu: Floats
    inner: Mask
    border: Mask
    speckled: Mask
    pixels: Floats
    valid: int
    fill: float
    at_lowest: float
    at_highest: float
    slice_mean_hu: tuple[Floats, ...]
    field_mm: float | None

    def share(self, lowest_hu: float, highest_hu: float) -> float:
        """Share of the blocks whose mean lies within."""
        return float(np.mean((self.mean_hu >= lowest_hu) & (self.mean_hu < highest_hu))) if self.mean_hu.size else 0.0

    def median_hu(self, lowest_hu: float, highest_hu: float) -> float:
        """Median of the blocks' means within; NaN when there is none."""
        return _median(self.mean_hu[(self.mean_hu >= lowest_hu) & (self.mean_hu < highest_hu)])

    def noise_hu(self, lowest_hu: float, highest_hu: float) -> float:
        """Median standard deviation of the blocks whose mean lies within; NaN when there is none."""
        return _median(self.sd_hu[(self.mean_hu >= lowest_hu) & (self.mean_hu < highest_hu)])

    def range_hu(self) -> tuple[float, float]:
        """Without the lowest and the highest thousandth of the pixels."""
        lowest, highest = np.quantile(self.pixels, [0.001, 0.999]) if self.pixels.size else (np.nan, np.nan)
        return float(lowest), float(highest)

    def rescaled(self, slope: float, offset_hu: float) -> ValueStatistics:
        """As they would be if the values were ``(value - offset_hu) / slope``; what was left out stays left out."""
        means = tuple((means - offset_hu) / slope for means in self.slice_mean_hu)
        return replace(self, mean_hu=_together(means), sd_hu=self.sd_hu / abs(slope), slice_mean_hu=means)


def measure(slices: Iterable[SampledSlice], spacing_mm: Sequence[float] | None = None) -> ValueStatistics:
    """Statistics of a few slices of one scan.

    Args:
        slices: see ``SampledSlice``; all of one scan, e.g. those of :func:`sample_indices`.
        spacing_mm: between rows, between columns; None when unknown.

    Raises:
        ValueError: no slice at all.

    Returns:
        Everything that :mod:`iscl_monai.dicom.values` judges by.
    """
    parts = [_Part.of(hu, padded) for hu, padded in slices]
    if not parts:
        raise ValueError("no slice to look at")
    valid, pixels = sum(part.valid for part in parts), sum(part.size for part in parts)
    side = None
    if spacing_mm is not None:
        side = float(np.sqrt(valid / len(parts) * spacing_mm[0] * spacing_mm[1]))
    return ValueStatistics(
        mean_hu=_together([part.mean_hu for part in parts]),
        sd_hu=_together([part.sd_hu for part in parts]),
        inner=_together([part.inner for part in parts]),
        border=_together([part.border for part in parts]),
        speckled=_together([part.speckled for part in parts]),
        pixels=np.sort(_together([part.pixels for part in parts])),
        valid=valid,
        fill=1 - valid / pixels if pixels else 1.0,
        at_lowest=sum(part.at_lowest for part in parts) / valid if valid else 0.0,
        at_highest=sum(part.at_highest for part in parts) / valid if valid else 0.0,
        slice_mean_hu=tuple(part.mean_hu for part in parts),
        field_mm=side,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    """One slice."""

    mean_hu: Floats
    sd_hu: Floats
    inner: Mask
    border: Mask
    speckled: Mask
    pixels: Floats
    valid: int
    size: int
    at_lowest: int
    at_highest: int

    @classmethod
    def of(cls, hu: Floats, padded: Mask | None) -> _Part:
        left_out = _left_out(hu, padded)
        size_px = max(2, min(hu.shape) // BLOCK_PX)
        whole = ~_blocks(left_out, size_px).any(axis=(1, 3))
        blocks = _blocks(hu, size_px)[whole.nonzero()[0], :, whole.nonzero()[1]].reshape(-1, size_px * size_px)
        inner = _radius(*whole.shape) < INNER_RADIUS
        border = whole & ~binary_erosion(whole)  # beyond the edge nothing is whole
        kept = hu[~left_out] if left_out.any() else hu.reshape(-1)
        return cls(
            mean_hu=blocks.mean(axis=1, dtype=np.float32),
            sd_hu=blocks.std(axis=1, dtype=np.float32),
            inner=inner[whole],
            border=border[whole],
            speckled=(blocks.min(axis=1, initial=np.inf) < DARK_HU) & (blocks.max(axis=1, initial=-np.inf) > BRIGHT_HU),
            pixels=kept[:: max(1, kept.size // PIXELS_PER_SLICE)],
            valid=kept.size,
            size=hu.size,
            at_lowest=int((kept == kept.min()).sum()) if kept.size else 0,
            at_highest=int((kept == kept.max()).sum()) if kept.size else 0,
        )


def _left_out(hu: Floats, padded: Mask | None) -> Mask:
    """Padding, and what was filled in: below air, or around the circle of reconstruction."""
    left_out: Mask = ~np.isfinite(hu)
    if padded is not None:
        left_out |= padded
    for _ in range(3):
        lowest = hu.min(initial=np.inf, where=~left_out)
        filled = (hu == lowest) & ~left_out
        share = filled.mean()
        outside = (filled & _outside(*hu.shape)).mean() > 0.98 * share
        if share < LEAST_FILL or not (lowest < FILL_BELOW_HU or outside):
            break
        left_out |= filled
    return left_out


@lru_cache(maxsize=4)
def _outside(rows: int, columns: int) -> Mask:
    """Pixels beyond the circle of reconstruction."""
    return _radius(rows, columns) > OUTER_RADIUS


def _radius(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Distance from the middle; 1 in the middle of each side."""
    down, across = (np.abs(2 * (np.arange(count) + 0.5) / count - 1) for count in (rows, columns))
    distance: npt.NDArray[np.float64] = np.hypot(down[:, None], across)
    return distance


def _blocks(plane: npt.NDArray[Scalar], size_px: int) -> npt.NDArray[Scalar]:
    """A view (block row, row, block column, column); what is left over at the end is cut off."""
    rows, columns = (length // size_px for length in plane.shape)
    return plane[: rows * size_px, : columns * size_px].reshape(rows, size_px, columns, size_px)


def _together(parts: Sequence[npt.NDArray[Scalar]]) -> npt.NDArray[Scalar]:
    return np.concatenate(parts)


def _median(values: Floats) -> float:
    return float(np.median(values)) if values.size else float("nan")
