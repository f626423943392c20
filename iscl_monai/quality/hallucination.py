"""Is something painted that is not there: blobs in the mean over realisations that the truth does not show.

Noise differs from realisation to realisation and leaves the mean; what a denoiser makes up stays. The truth must be
what the scanner shows without noise (blurred alike), or every edge is an error; edges are left out all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.linearity import Floats, finite_array

FEWEST_REALISATIONS = 5
POOLING_PX = 15
FWHM = float(np.sqrt(8 * np.log(2)))


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One thing that is not there.

    Args:
        slice_index: of it.
        centre: (row, column) in pixels, weighted with its height.
        area_mm2: of the part above the threshold.
        height_hu: mean error over that part, signed: positive was added, negative taken away.
        persistence: share of the realisations that show it, 0 ... 1.
    """

    slice_index: int
    centre: tuple[float, float]
    area_mm2: float
    height_hu: float
    persistence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Hallucinations:
    """All blobs, and the counts per slice with their exact Poisson interval (95 %).

    Args:
        blobs: slice by slice.
        slices: looked at.
        per_slice: mean count.
        low: lower end of its interval.
        high: upper end of it.
    """

    blobs: tuple[Blob, ...]
    slices: int
    per_slice: float
    low: float
    high: float


def hallucinations(
    outputs_hu: npt.ArrayLike,
    truth_hu: npt.ArrayLike,
    *,
    pixel_spacing_mm: tuple[float, float],
    blob_mm: float = 3.0,
    deviations: float = 5.0,
    least_hu: float = 5.0,
    persistence: float = 0.8,
    flat: npt.NDArray[np.bool_] | None = None,
) -> Hallucinations:
    """Count what was painted over flat parts of the truth.

    Errors are smoothed to the size of the blobs looked for. A blob is a connected part where the mean error exceeds
    ``deviations`` standard errors (from the scatter over realisations, pooled over 15 x 15 pixels) and ``least_hu``,
    and that at least a share ``persistence`` of the single realisations show with half its height or more.
    At 5 standard errors chance paints less than one in a hundred slices of 512 x 512.

    Args:
        outputs_hu: HU (realisation, slice, row, column), 5 realisations or more of the same truth, denoised.
        truth_hu: HU (slice, row, column), without noise.
        pixel_spacing_mm: between rows, between columns.
        blob_mm: full width at half maximum of the smoothing: about the smallest lesion that matters.
        deviations: k, above 0.
        least_hu: smaller errors of the smoothed mean cannot be seen and are no blobs.
        persistence: share of the realisations asked for.
        flat: bool (slice, row, column), where to look; None: where the truth varies less than ``least_hu`` within
            twice ``blob_mm``.

    Raises:
        ImageRefusal: if shapes do not fit, values are not finite, or there is nowhere to look.
    """
    outputs, truth = _fitting(outputs_hu, truth_hu, fewest=FEWEST_REALISATIONS)
    reach_px = [2 * round(blob_mm / mm) + 1 for mm in pixel_spacing_mm]
    where = _spread(truth, reach_px) < least_hu if flat is None else np.asarray(flat, bool)
    if where.shape != truth.shape or not where.any():
        raise ImageRefusal(
            f"{int(where.sum())} flat pixels, shape {where.shape}, for a truth of shape {truth.shape}",
            allowed="somewhere flat to look for what is not there",
            cure="give the truth without noise, or flat= where to look",
        )
    sigma_px = [blob_mm / FWHM / mm for mm in pixel_spacing_mm]
    errors = ndimage.gaussian_filter(outputs - truth, (0, 0, *sigma_px))
    mean = errors.mean(axis=0)
    variance = ndimage.uniform_filter(errors.var(axis=0, ddof=1), (0, POOLING_PX, POOLING_PX))
    # Running sums may leave a hair less than nothing where nothing scatters.
    standard_error = np.sqrt(np.maximum(variance, 0) / len(errors))
    above = (np.abs(mean) > np.maximum(deviations * standard_error, least_hu)) & where
    found = [blob for index in range(len(truth)) for blob in _blobs(index, errors, mean, above, pixel_spacing_mm)]
    kept = tuple(blob for blob in found if blob.persistence >= persistence)
    low, high = poisson_interval(len(kept))
    count = len(truth)
    return Hallucinations(
        blobs=kept,
        slices=count,
        per_slice=len(kept) / count,
        low=low / count,
        high=high / count,
    )


def poisson_interval(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a count's mean (Garwood, Biometrika 28, 1936, doi 10.1093/biomet/28.3-4.437)."""
    low = float(stats.chi2.ppf(0.025, 2 * count) / 2) if count else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * count + 2) / 2)


def _blobs(
    index: int,
    errors: Floats,
    mean: Floats,
    above: npt.NDArray[np.bool_],
    pixel_spacing_mm: tuple[float, float],
) -> list[Blob]:
    """The blobs of one slice, those added and those taken away each by itself."""
    blobs = []
    for sign in (1, -1):
        labels, count = ndimage.label(above[index] & (sign * mean[index] > 0))
        for label in range(1, count + 1):
            rows, columns = np.nonzero(labels == label)
            weight = np.abs(mean[index, rows, columns])
            single = errors[:, index, rows, columns].mean(axis=1)
            height = float(mean[index, rows, columns].mean())
            blobs.append(
                Blob(
                    slice_index=index,
                    centre=(float(np.average(rows, weights=weight)), float(np.average(columns, weights=weight))),
                    area_mm2=len(rows) * pixel_spacing_mm[0] * pixel_spacing_mm[1],
                    height_hu=height,
                    persistence=float((sign * single >= abs(height) / 2).mean()),
                )
            )
    return blobs


def _spread(truth: Floats, size_px: list[int]) -> Floats:
    """Largest minus smallest value in each pixel's neighbourhood within its slice."""
    size = (1, *size_px)
    spread: Floats = ndimage.maximum_filter(truth, size) - ndimage.minimum_filter(truth, size)
    return spread


def _fitting(outputs_hu: npt.ArrayLike, truth_hu: npt.ArrayLike, *, fewest: int) -> tuple[Floats, Floats]:
    outputs, truth = finite_array(outputs_hu, 4), finite_array(truth_hu, 3)
    if outputs.shape[1:] != truth.shape or len(outputs) < fewest:
        raise ImageRefusal(
            f"outputs of shape {outputs.shape}, a truth of shape {truth.shape}",
            allowed=f"(realisation, slice, row, column) with {fewest} realisations or more, and (slice, row, column)",
            cure="denoise more realisations of the noise over the same truth",
        )
    return outputs, truth
