"""The dark of an MR magnitude: where a scan shows nothing, its values are those of its noise alone.

That is Rayleigh's: the mean over the standard deviation is 1.913, and half the mean of the square is the square of the
standard deviation sigma of each channel (Gudbjartsson and Patz, MRM 1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

BLOCK_PX = 16
RAYLEIGH = (1.6, 2.25)
"""Mean over standard deviation in blocks that are taken for dark: 1.913, and the spread of 256 correlated values."""
DARK = 250.0
"""Thousandths of the window; blocks that are brighter on average show something."""
FEWEST_BLOCKS = 8
MOST_NOTHING = 1.5
"""Times as many blocks of one value as dark ones. A scan whose dark was masked has 2.6 times as many and more, whatever
its noise (eight 3 T scans, masked). Around a head that fills its image, cut corners or a border of zeros may be more,
too: they end in noise (:data:`ENDS_IN_NOISE`)."""
ENDS_IN_NOISE = (0.8, 1.25)
"""Quartiles of the power of what lies beside nothing, over that of the dark: 0.88 to 1.15 of the same scans with
corners cut off or a border of zeros; of masked heads one is beyond, whatever their noise."""
SHARE_BESIDE = (0.125, 0.875)
"""Of a block that nothing ends in, how much is nothing."""
MOST_STRUCTURE = 0.27
"""Share of the variance of dark blocks that is in means over 4 x 4 pixels. Of white noise it is 0.06, of 0.055 T, whose
pixels are interpolated, 0.15 to 0.23; of dim tissue, all that masked heads have for dark, 0.28 to 0.87 where noise is a
twentieth of the window or less (eight 3 T scans)."""
LEAST_CORRELATION = 0.02
CHANCE = 4.0
"""Correlation of squares of the noise of two pixels that is less than so many standard deviations is chance."""
REACH_PX = 4
DARK_NOISE = ("dark_noise", "dark_fineness")

Blocks = NDArray[np.float32]


def dark_character(images: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """How loud and how fine the noise of a scan is.

    Args:
        images: its slices, (row, column) each, thousandths of the window.

    Returns:
        ``dark_noise``, sigma in thousandths of the window, and ``dark_fineness``, the mean frequency of the noise of
        the dark in cycles per pixel, weighed by power; NaN where too little of it shows noise.
    """
    blocks = dark_blocks(images)
    if blocks is None or not shows_noise(blocks):
        return dict.fromkeys(DARK_NOISE, math.nan)
    return dict(zip(DARK_NOISE, (sigma_of(blocks), _mean_frequency(blocks)), strict=True))


def dark_blocks(images: Sequence[NDArray[np.float32]]) -> Blocks | None:
    """Square blocks whose values are distributed as those of noise alone: (block, 16, 16).

    None if they are too few, or if the dark was masked: dim tissue in loud noise looks like noise alone.

    Args:
        images: (row, column) each, thousandths of the window.
    """
    blocks = np.concatenate([_blocks(image) for image in images])
    mean, spread, least = blocks.mean((1, 2)), blocks.std((1, 2)), blocks.min((1, 2))
    ratio = mean / np.maximum(spread, np.float32(1e-3))
    one_value, dim = least == blocks.max((1, 2)), mean < DARK
    found = blocks[dim & ~one_value & (ratio > RAYLEIGH[0]) & (ratio < RAYLEIGH[1])]
    if len(found) < FEWEST_BLOCKS:
        return None
    power = np.square(found).mean((1, 2))  # a ghost or a rim is brighter than most of the dark
    nothing = least[dim & one_value]
    if len(nothing) > MOST_NOTHING * len(found) and not _ends_in_noise(blocks, nothing, np.median(power)):
        return None
    return np.asarray(found[power <= 2 * np.median(power)])


def shows_noise(blocks: Blocks) -> bool:
    """Whether dark blocks vary from pixel to pixel, as noise does, and not from one side to the other, as tissue."""
    parts = blocks.reshape(-1, 4, BLOCK_PX // 4, 4, BLOCK_PX // 4).mean((2, 4))
    return bool(parts.var((1, 2)).mean() <= MOST_STRUCTURE * blocks.var((1, 2)).mean())


def sigma_of(blocks: Blocks) -> float:
    """Sigma of the noise of each channel, of dark blocks."""
    return float(np.sqrt(np.median(np.square(blocks).mean((1, 2))) / 2))


def correlation_of(blocks: Blocks) -> NDArray[np.float64]:
    """Correlation of the noise of pixels up to 4 apart, of dark blocks: (9, 9), 1 in the middle.

    The correlation of squares of magnitudes is the square of that of the noise in each channel (Gaussian moments): it
    tells no sign. Each block counts by its own power: where some are louder than others, by a ghost, that would be
    something that all pixels of a block have in common. What may be chance is taken for none.
    """
    square = np.square(blocks.astype(np.float64))
    square = square / square.mean((1, 2), keepdims=True) - 1
    size = 2 * BLOCK_PX
    power = np.square(np.abs(fft.fft2(square, (size, size)))).mean(0)
    sums = np.real(fft.ifft2(power))
    ones = np.real(fft.ifft2(np.square(np.abs(fft.fft2(np.ones((BLOCK_PX, BLOCK_PX)), (size, size))))))
    reach = np.arange(-REACH_PX, REACH_PX + 1)
    near = sums[np.ix_(reach, reach)] / ones[np.ix_(reach, reach)]
    squared = near / near[REACH_PX, REACH_PX]
    chance = max(LEAST_CORRELATION, CHANCE / np.sqrt(blocks.size))
    return np.asarray(np.sqrt(np.where(squared < chance, 0, squared)))


def _ends_in_noise(blocks: Blocks, nothing: NDArray[np.float32], power: np.floating[Any]) -> bool:
    """Whether what lies beside nothing is as loud as the dark; of a mask it is the rim of the head.

    Args:
        blocks: all of a scan.
        nothing: values of those that have one alone; a mask need not be 0, and slices may have scales of their own.
        power: mean of the squares of the dark.
    """
    empty = np.isin(blocks, nothing)
    share = empty.mean((1, 2))
    beside = (share > SHARE_BESIDE[0]) & (share < SHARE_BESIDE[1])
    if not beside.any():
        return True  # a border that ends where blocks do; no head has straight sides
    found = np.square(blocks[beside]).sum((1, 2), where=~empty[beside]) / np.count_nonzero(~empty[beside], axis=(1, 2))
    lower, upper = np.quantile(found, (0.25, 0.75)) / power
    return bool(ENDS_IN_NOISE[0] < lower and upper < ENDS_IN_NOISE[1])


def _blocks(image: NDArray[np.float32]) -> Blocks:
    rows, columns = (length // BLOCK_PX for length in image.shape)
    cut = image[: rows * BLOCK_PX, : columns * BLOCK_PX]
    blocks: Blocks = cut.reshape(rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(1, 2).reshape(-1, BLOCK_PX, BLOCK_PX)
    return blocks


def _mean_frequency(blocks: Blocks) -> float:
    window = np.hanning(BLOCK_PX + 2)[1:-1]
    differing = blocks - blocks.mean((1, 2), keepdims=True)
    power = np.square(np.abs(fft.fft2(differing * np.outer(window, window)))).mean(0)
    along = fft.fftfreq(BLOCK_PX)
    return float((power * np.hypot(along[:, None], along)).sum() / power.sum())
