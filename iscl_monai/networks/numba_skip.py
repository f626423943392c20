"""Non-local means in one pass, compiled by numba: the fast path of :mod:`iscl_monai.networks.skip` on a CPU."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]


def non_local_means(image: Image, precision: Image, search_px: int, patch_px: int) -> Image:
    """As :func:`iscl_monai.networks.skip.non_local_means`, of one image.

    Args:
        image: (row, column), contiguous.
        precision: ``1 / h^2``, the same shape.
        search_px: farthest displacement, in rows and in columns.
        patch_px: side of the patches; odd.
    """
    padded = np.pad(image, search_px, mode="reflect")
    counts = [_counts(length, patch_px // 2) for length in image.shape]
    precision = precision / (counts[0][:, None] * counts[1])  # of sums of squares instead of means
    total: Image = image.copy()
    weights = np.ones_like(image)
    _accumulate(image, padded, precision, search_px, patch_px // 2, total, weights)
    total /= weights
    return total


def _counts(length: int, half: int) -> Image:
    """How many of the neighbours along an axis lie inside the image."""
    place = np.arange(length)
    return (np.minimum(place + half, length - 1) - np.maximum(place - half, 0) + 1).astype(np.float32)


@njit(nogil=True, cache=True, fastmath=True)
def _accumulate(image, padded, precision, search, half, total, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    rows, columns = image.shape
    squares = np.empty((2 * half + 1, columns + 2 * half), np.float32)  # of the rows around, one over the other
    sums = np.empty(columns + 2 * half, np.float32)
    distances = np.empty(columns, np.float32)
    for down in range(2 * search + 1):
        for right in range(2 * search + 1):
            if down == search and right == search:
                continue
            squares[:] = 0  # where no image is
            for row in range(-half, rows):
                ahead = row + half
                newest = squares[ahead % (2 * half + 1)]
                if ahead < rows:
                    _square_differences(image[ahead], padded[ahead + down, right:], newest[half:])
                else:
                    newest[:] = 0
                if row >= 0:
                    _sum_rows(squares, sums)
                    _sum_columns(sums, half, distances)
                    neighbours = padded[row + down, right:]
                    _weigh(distances, precision[row], neighbours, total[row], weights[row])


@njit(nogil=True, cache=True, fastmath=True)
def _square_differences(row, other, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for column in range(len(row)):
        step = other[column] - row[column]
        out[column] = step * step


@njit(nogil=True, cache=True, fastmath=True)
def _sum_rows(squares, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    sums[:] = squares[0]
    for k in range(1, len(squares), 2):  # two at once: half the loads and stores
        one, other = squares[k], squares[k + 1]
        for column in range(len(sums)):
            sums[column] += one[column] + other[column]


@njit(nogil=True, cache=True, fastmath=True)
def _sum_columns(sums, half, distances):  # type: ignore[no-untyped-def]  # pragma: no cover
    distances[:] = sums[: len(distances)]
    for k in range(1, 2 * half + 1, 2):
        one, other = sums[k:], sums[k + 1 :]
        for column in range(len(distances)):
            distances[column] += one[column] + other[column]


@njit(nogil=True, cache=True, fastmath=True)
def _weigh(distances, precision, neighbours, total, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    one = np.float32(1)
    for column in range(len(distances)):
        # exp(-t) = exp(-t / 8)^8, a polynomial that the processor works out for many pixels at once; beyond 20 nothing.
        u = min(distances[column] * precision[column], np.float32(20)) * np.float32(-1 / 8)
        w = one + u * np.float32(1 / 8)
        w = one + u * np.float32(1 / 7) * w
        w = one + u * np.float32(1 / 6) * w
        w = one + u * np.float32(1 / 5) * w
        w = one + u * np.float32(1 / 4) * w
        w = one + u * np.float32(1 / 3) * w
        w = one + u * np.float32(1 / 2) * w
        w = one + u * w
        w *= w
        w *= w
        w *= w
        total[column] += w * neighbours[column]
        weights[column] += w
