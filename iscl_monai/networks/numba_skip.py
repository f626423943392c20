"""Non-local means in one pass, compiled by numba: the fast path of :mod:`iscl_monai.networks.skip` on a CPU."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]

PATCH_PX = 5
"""Side of the patches; sums over five rows and columns are written out, which is what makes them fast."""


def non_local_means(image: Image, precision: Image, search_px: int) -> Image:
    """As :func:`iscl_monai.networks.skip.non_local_means`, of one image.

    Args:
        image: (row, column), contiguous.
        precision: ``1 / h^2``, the same shape.
        search_px: farthest displacement, in rows and in columns.
    """
    padded = np.pad(image, search_px, mode="reflect")
    counts = [_counts(length) for length in image.shape]
    precision = precision / (counts[0][:, None] * counts[1])  # of sums of squares instead of means
    total: Image = image.copy()
    weights = np.ones_like(image)
    _accumulate(image, padded, precision, search_px, total, weights)
    total /= weights
    return total


def _counts(length: int) -> Image:
    """How many pixels of a patch around each place along an axis lie inside the image."""
    place = np.arange(length)
    half = PATCH_PX // 2
    return (np.minimum(place + half, length - 1) - np.maximum(place - half, 0) + 1).astype(np.float32)


@njit(nogil=True, cache=True, fastmath=True)
def _accumulate(image, padded, precision, search, total, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    rows, columns = image.shape
    squares = np.zeros(columns + 4, np.float32)  # zero where no image is
    sums = np.empty((5, columns), np.float32)  # of the rows around, the oldest overwritten by the newest
    for down in range(2 * search + 1):
        for right in range(2 * search + 1):
            if down == search and right == search:
                continue
            sums[:] = 0
            for row in range(-2, rows):
                newest = sums[(row + 2) % 5]
                if row + 2 < rows:
                    _sum_squares(image[row + 2], padded[row + 2 + down, right:], squares, newest)
                else:
                    newest[:] = 0
                if row >= 0:
                    _weigh(sums, precision[row], padded[row + down, right:], total[row], weights[row])


@njit(nogil=True, cache=True, fastmath=True)
def _sum_squares(row, other, squares, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Squared differences of two rows, five neighbours added up."""
    for column in range(len(row)):
        step = other[column] - row[column]
        squares[column + 2] = step * step
    for column in range(len(row)):
        out[column] = (
            squares[column] + squares[column + 1] + squares[column + 2] + squares[column + 3] + squares[column + 4]
        )


@njit(nogil=True, cache=True, fastmath=True)
def _weigh(sums, precision, neighbours, total, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    one = np.float32(1)
    for column in range(len(total)):
        distance = sums[0, column] + sums[1, column] + sums[2, column] + sums[3, column] + sums[4, column]
        # exp(-t) = exp(-t / 16)^16, a polynomial worked out for many pixels at once; beyond 20 nothing.
        u = min(distance * precision[column], np.float32(20)) * np.float32(-1 / 16)
        w = one + u * np.float32(1 / 6)
        w = one + u * np.float32(1 / 5) * w
        w = one + u * np.float32(1 / 4) * w
        w = one + u * np.float32(1 / 3) * w
        w = one + u * np.float32(1 / 2) * w
        w = one + u * w
        w *= w
        w *= w
        w *= w
        w *= w
        total[column] += w * neighbours[column]
        weights[column] += w
