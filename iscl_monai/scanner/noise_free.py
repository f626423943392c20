"""A truth without noise, made from a quiet real scan: what both doses of a virtual patient of real anatomy stem from.

Undecimated wavelets of the cubic B-spline, rows and columns apart (J.-L. Starck, J. Fadili, F. Murtagh, IEEE Trans.
Image Process. 16(2), 2007), whose bands add up to the image. Each coefficient is shrunk with its block, as James and
Stein's rule does (T. T. Cai, Ann. Stat. 27(3), 1999), but squared, so that clear edges stay: it keeps
``1 - (2.5 v / e)^2``, or nothing, where e is the mean square of the coefficients around it, in the slice and its
neighbours, and v what the noise of the scan's own virtual scanner has there. None of the filters that the benchmark
compares shrinks these coefficients: not the blockwise DCT of BM3D, no similar patches, no total variation, no window of
alike values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.scanner.dose import outside
from iscl_monai.scanner.streams import noise_source
from iscl_monai.scanner.texture import local_mean_and_sigma, soft_tissue
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

METHOD = "B3-spline wavelets, blocks shrunk, version 1"
SCALES = 4
SHRINKAGE = 2.5
"""Times the noise's mean square: chance alone reaches that in few blocks. Less leaves islands of noise."""
_SPLINE = np.array([1, 4, 6, 4, 1], np.float32) / 16
_STRENGTH_PX = 33
"""The noise's strength changes slowly across a slice: a mean over so many pixels of one realisation tells it."""


def noise_free(
    planes_hu: Sequence[Image],
    scanner: VirtualScanner,
    *,
    tube_current: Sequence[float] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    """The anatomy of a scan without its noise.

    Args:
        planes_hu: HU (row, column) of neighbouring slices, in their order.
        scanner: that explains their noise.
        tube_current: of each over the mean of the series; None: constant.
        seed: of the realisation that tells how strong the noise is in each band; it moves no more than that.
        workers: slices worked on at the same time; None: the CPU cores.
        progress: called with 1 after each slice.

    Returns:
        float32 HU (slice, row, column). Pixels outside of the scan stay as they are.
    """
    currents = [1.0] * len(planes_hu) if tube_current is None else tube_current
    workers = workers or useful_workers("cpu", len(planes_hu), planes_hu[0].shape)

    def noise(index: int) -> Image:
        source = noise_source(seed, 1, f"strength/{index}")
        return scanner.own_noise(planes_hu[index], source, tube_current=currents[index])

    made = list(in_order(range(len(planes_hu)), noise, workers=workers))
    work = partial(_shrunk, planes_hu, made)
    truth = []
    for plane in in_order(range(len(planes_hu)), work, workers=workers):
        truth.append(plane)
        if progress is not None:
            progress(1)
    return np.stack(truth)


def residual_noise_hu(
    truth_hu: NDArray[np.float32],
    scanner: VirtualScanner,
    *,
    tube_current: Sequence[float] | None = None,
    seed: int = 1,
) -> float:
    """How much of the noise the method leaves: put on a truth, taken away again, what differs where tissue is flat.

    Args:
        truth_hu: HU (slice, row, column), without noise.
        scanner: that explains the noise of the scan it was made from.
        tube_current: of each slice over the mean of the series.
        seed: of the noise that is put on.

    Returns:
        Root mean square in HU, over pixels of soft tissue in the flatter half of it.
    """
    currents = [1.0] * len(truth_hu) if tube_current is None else tube_current
    noisy = [
        plane + scanner.own_noise(plane, noise_source(seed, 1, f"residual/{index}"), tube_current=current)
        for index, (plane, current) in enumerate(zip(truth_hu, currents, strict=True))
    ]
    again = noise_free(noisy, scanner, tube_current=currents, seed=seed)
    left = []
    for plane, difference in zip(truth_hu, again - truth_hu, strict=True):
        mean, sigma = local_mean_and_sigma(plane)
        tissue = soft_tissue(mean)
        if tissue.any():
            left.append(difference[tissue & (sigma <= np.median(sigma[tissue]))])
    return float(np.sqrt(np.mean(np.concatenate(left) ** 2))) if left else float("nan")


def _shrunk(planes_hu: Sequence[Image], noise_hu: Sequence[Image], index: int) -> Image:
    """One slice, with what its neighbours know of it."""
    around = [at for at in (index - 1, index, index + 1) if 0 <= at < len(planes_hu)]
    here = around.index(index)
    total = np.zeros_like(planes_hu[index], np.float32)
    bands = zip(*(_bands(planes_hu[at]) for at in around), strict=True)
    noises = zip(*(_bands(noise_hu[at]) for at in around), strict=True)
    for number, (coefficients, noise) in enumerate(zip(bands, noises, strict=True)):
        scale = number // 3
        if scale == SCALES:  # the smooth rest
            total += coefficients[here]
            continue
        variance = ndimage.uniform_filter(np.mean([one**2 for one in noise], axis=0), _STRENGTH_PX * 2**scale)
        energy = ndimage.uniform_filter(np.mean([one**2 for one in coefficients], axis=0), 2 ** (scale + 1) + 1)
        explained = np.float32(SHRINKAGE) * variance / np.maximum(energy, np.float32(1e-6))
        kept = np.maximum(0, 1 - explained**2)
        total += kept * coefficients[here]
    return np.where(outside(planes_hu[index]), planes_hu[index], total)


def _bands(image: Image) -> Iterator[Image]:
    """Three bands of each scale and the smooth rest, which add up to the image."""
    smooth = image.astype(np.float32)
    for scale in range(SCALES):
        rows_low = _smoothed(smooth, 0, scale)
        both_low = _smoothed(rows_low, 1, scale)
        rows_high = smooth - rows_low
        rows_high_columns_low = _smoothed(rows_high, 1, scale)
        yield rows_low - both_low
        yield rows_high_columns_low
        yield rows_high - rows_high_columns_low
        smooth = both_low
    yield smooth


def _smoothed(image: Image, axis: int, scale: int) -> Image:
    """By the spline with holes (a trous) of this scale."""
    weights = np.zeros(4 * 2**scale + 1, np.float32)
    weights[:: 2**scale] = _SPLINE
    smooth: Image = ndimage.correlate1d(image, weights, axis=axis, mode="reflect")
    return smooth
