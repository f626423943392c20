"""Noise and mean HU of each tissue, before and after denoising, gathered slice by slice."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.body import TABLE_HALF_THICKNESS_PX
from iscl_monai.quality.fidelity import AIR_HU, as_volume, body_mask
from iscl_monai.quality.noise import FEWEST_VOXELS, NEIGHBOURHOOD_PX, QUIETEST_PERCENT, SOFT_TISSUE_HU

PAINTED_VARIANCE_HU2 = 1e-4  # one voxel that differs by 1 HU makes 0.012 HU^2


@dataclass(frozen=True)
class TissueRegion:
    """What counts as one tissue.

    Args:
        name: as printed.
        lowest_hu: smallest local mean, included.
        highest_hu: largest local mean, not included.
        anywhere: also outside the body. Else tables, foam and blankets would count as lung or fat.
    """

    name: str
    lowest_hu: float
    highest_hu: float
    anywhere: bool = False


REGIONS = (
    TissueRegion("air", -1100, -950, anywhere=True),
    TissueRegion("lung", -950, -500),
    TissueRegion("fat", -190, -30),
    TissueRegion("soft tissue", *SOFT_TISSUE_HU),
    TissueRegion("bone", 300, 2000),
)
"""Air is that of the room too. Gaps (blood with contrast medium, metal) are in no region."""


@dataclass(frozen=True)
class RegionResult:
    """One region over all slices; what could not be measured is NaN.

    Args:
        name: of the :class:`TissueRegion`.
        voxels: how many, in all slices.
        mean_before_hu: over all these voxels.
        mean_after_hu: the same voxels after denoising.
        sigma_before_hu: noise, see :class:`RegionMeasurement`.
        sigma_after_hu: the same after denoising.
    """

    name: str
    voxels: int
    mean_before_hu: float
    mean_after_hu: float
    sigma_before_hu: float
    sigma_after_hu: float


@dataclass
class _Total:
    """Sums over the voxels of one region, and the noise of each slice: 16 bytes a slice."""

    voxels: int = 0
    before_hu: float = 0.0
    after_hu: float = 0.0
    sigmas_before_hu: array[float] = field(default_factory=lambda: array("d"))
    sigmas_after_hu: array[float] = field(default_factory=lambda: array("d"))


class RegionMeasurement:
    """Noise and mean HU of :data:`REGIONS`, before and after; it keeps numbers, no slices.

    A voxel is in a region if the local means (9x9, before denoising) of all its 9x9 neighbours are, and no
    neighbour is padding or painted air (one value throughout, outside the scanned circle).

    Noise is as in :func:`iscl_monai.quality.noise.noise_sigma_hu`: of each slice with 100 voxels or more the
    10th percentile of the standard deviations in their neighbourhoods, which lies about 10 % below the sigma
    of white noise in uniform tissue; of the series the median of its slices. The mean is of all voxels of all
    slices, if there are 100.
    """

    def __init__(self) -> None:
        self._totals = tuple(_Total() for _ in REGIONS)

    def add(self, before_hu: NDArray[Any], after_hu: NDArray[Any], padded: NDArray[np.bool_] | None = None) -> None:
        """Measure one slice; the order of slices does not matter.

        Args:
            before_hu: HU (row, column).
            after_hu: HU of the same shape.
            padded: bool of the same shape, True where a pixel is padding outside the scan; None: nowhere.

        Raises:
            ImageRefusal: if the shapes differ, or values are not finite.
        """
        before, after = _one_shape(before_hu, after_hu, padded)
        if min(before.shape) < NEIGHBOURHOOD_PX:
            return
        if padded is not None:
            # Padding may hold any value; beyond its border it must not show in running sums or the body.
            before, after = (np.where(padded, AIR_HU, image) for image in (before, after))
        mean, variance_before = _local_moments(before)
        _, variance_after = _local_moments(after)
        labels = _labels(mean, variance_before, padded).ravel()
        flat = [image.ravel() for image in (before, after, variance_before, variance_after)]
        for label, total in enumerate(self._totals, start=1):
            places = np.flatnonzero(labels == label)
            _add_slice(total, *(values[places] for values in flat))

    def results(self) -> tuple[RegionResult, ...]:
        """What was measured so far, one result for each of :data:`REGIONS`."""
        return tuple(_result(region, total) for region, total in zip(REGIONS, self._totals, strict=True))


def region_results(
    before_hu: NDArray[Any], after_hu: NDArray[Any], padded: NDArray[np.bool_] | None = None
) -> tuple[RegionResult, ...]:
    """:class:`RegionMeasurement` of a whole volume.

    Args:
        before_hu: HU (slice, row, column).
        after_hu: HU of the same shape.
        padded: bool of the same shape, True where a pixel is padding outside the scan; None: nowhere.

    Raises:
        ImageRefusal: if shapes of slices differ, or values are not finite.
    """
    regions = RegionMeasurement()
    for index, (before, after) in enumerate(zip(before_hu, after_hu, strict=True)):
        regions.add(before, after, None if padded is None else padded[index])
    return regions.results()


def _one_shape(
    before_hu: NDArray[Any], after_hu: NDArray[Any], padded: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shapes = [np.shape(image) for image in (before_hu, after_hu, padded) if image is not None]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ImageRefusal(
            f"slices and padding of shapes {shapes}",
            allowed="one slice (row, column) before and after, and its padding, of one shape",
            cure="give the slice that went into the network, and what came out of it",
        )
    # In float32 the squares of air and bone lose the variance of a quiet image.
    before, after = (as_volume(image)[0].astype(np.float64) for image in (before_hu, after_hu))
    return before, after


def _local_moments(image_hu: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (HU) and population variance (HU^2) of the 9x9 neighbourhoods."""
    mean = ndimage.uniform_filter(image_hu, NEIGHBOURHOOD_PX)
    variance = ndimage.uniform_filter(image_hu**2, NEIGHBOURHOOD_PX)
    variance -= mean**2
    return mean, np.maximum(variance, 0, out=variance)


def _labels(
    mean_hu: NDArray[np.float64],
    variance_hu2: NDArray[np.float64],
    padded: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """1 + index into REGIONS, 0 where no region is; shape (row, column).

    By the local mean: a voxel chosen by its own value brings the noise that put it there, so that the mean of
    what was chosen leans to the middle of the class, and a denoiser that is right seems to shift it. After
    denoising the noise is another, so only the image before chooses.
    """
    labels = np.zeros(mean_hu.shape, dtype=np.uint8)
    body = _rough_body(mean_hu)
    for label, region in enumerate(REGIONS, start=1):
        inside = (mean_hu >= region.lowest_hu) & (mean_hu < region.highest_hu)
        labels[inside if region.anywhere else inside & body] = label
    # Reconstructions are painted with one value outside their circle: no noise, and no measurement of air.
    painted = (variance_hu2 < PAINTED_VARIANCE_HU2) & (labels == 1)
    if painted.any():
        labels[ndimage.maximum_filter(painted, NEIGHBOURHOOD_PX)] = 0
    if padded is not None:
        labels[padded] = 0
    # The blur of an edge runs through all classes between, in bands thinner than a neighbourhood.
    lowest = ndimage.minimum_filter(labels, NEIGHBOURHOOD_PX, mode="constant", cval=0)
    highest = ndimage.maximum_filter(labels, NEIGHBOURHOOD_PX, mode="constant", cval=0)
    return np.where(lowest == highest, labels, np.uint8(0))


def _rough_body(mean_hu: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The body of every other pixel, a few pixels too wide: it only keeps tables out, at a third of the time."""
    rows, columns = mean_hu.shape
    # Half as thick, a chest wall would be lost to the opening of body_mask: so first give it that half back.
    coarse = body_mask(ndimage.maximum_filter(mean_hu[::2, ::2], TABLE_HALF_THICKNESS_PX + 1))[0]
    return np.asarray(coarse.repeat(2, axis=0)[:rows].repeat(2, axis=1)[:, :columns], dtype=bool)


def _add_slice(
    total: _Total,
    before_hu: NDArray[np.float64],
    after_hu: NDArray[np.float64],
    variance_before_hu2: NDArray[np.float64],
    variance_after_hu2: NDArray[np.float64],
) -> None:
    """Add the voxels (voxel,) of one slice and region."""
    total.voxels += before_hu.size
    total.before_hu += float(before_hu.sum())
    total.after_hu += float(after_hu.sum())
    if before_hu.size >= FEWEST_VOXELS:
        total.sigmas_before_hu.append(float(np.sqrt(np.percentile(variance_before_hu2, QUIETEST_PERCENT))))
        total.sigmas_after_hu.append(float(np.sqrt(np.percentile(variance_after_hu2, QUIETEST_PERCENT))))


def _result(region: TissueRegion, total: _Total) -> RegionResult:
    enough = total.voxels >= FEWEST_VOXELS
    sigmas = (total.sigmas_before_hu, total.sigmas_after_hu)
    sigma_before_hu, sigma_after_hu = (float(np.median(each)) if each else float("nan") for each in sigmas)
    return RegionResult(
        name=region.name,
        voxels=total.voxels,
        mean_before_hu=total.before_hu / total.voxels if enough else float("nan"),
        mean_after_hu=total.after_hu / total.voxels if enough else float("nan"),
        sigma_before_hu=sigma_before_hu,
        sigma_after_hu=sigma_after_hu,
    )
