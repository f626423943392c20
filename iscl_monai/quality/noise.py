"""What can be told about a denoised image when there is no reference: noise, shift, and what was removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.fidelity import Image, as_volume, body_mask

SOFT_TISSUE_HU = (-20.0, 120.0)
NEIGHBOURHOOD_PX = 9
QUIETEST_PERCENT = 10
FEWEST_VOXELS = 100


@dataclass(frozen=True)
class ResidualCorrelation:
    """How much of the anatomy shows in what was removed: 0 nothing, 1 everything.

    Both are pooled over the mask; NaN if nothing was removed or nothing is there to correlate with.

    Args:
        image: ``|Pearson(noisy - denoised, denoised)|``: contrast, or part of the scale, removed.
        edges: ``|Pearson(|noisy - denoised|, |gradient of denoised|)|``: edges removed. The magnitude of
            the residual, because blurring leaves a positive and a negative side at each edge, which
            would cancel.
    """

    image: float
    edges: float


@dataclass(frozen=True)
class NoReferencePanel:
    """What to look at when there is no reference.

    Args:
        noise_before_hu: :func:`noise_sigma_hu` of the noisy image.
        noise_after_hu: the same of the denoised image.
        mean_shift_hu: :func:`mean_shift_hu` from noisy to denoised, over the body.
        residual: :func:`residual_correlation` over the body.
    """

    noise_before_hu: float
    noise_after_hu: float
    mean_shift_hu: float
    residual: ResidualCorrelation


def no_reference_panel(noisy_hu: Image, denoised_hu: Image) -> NoReferencePanel:
    """Measure a denoised image against nothing but its noisy input.

    Args:
        noisy_hu: HU (slice, row, column) or (row, column); its body mask is the region.
        denoised_hu: HU of the same shape.

    Raises:
        ImageRefusal: if the shapes differ, values are not finite, or there is no body.
    """
    mask = body_mask(noisy_hu)
    return NoReferencePanel(
        noise_before_hu=noise_sigma_hu(noisy_hu),
        noise_after_hu=noise_sigma_hu(denoised_hu),
        mean_shift_hu=mean_shift_hu(denoised_hu, noisy_hu, mask=mask),
        residual=residual_correlation(noisy_hu, denoised_hu, mask=mask),
    )


def noise_sigma_hu(image_hu: Image) -> float:
    """Noise in the quietest soft tissue: it needs no drawn region and no reference.

    Per slice: the 10th percentile, over voxels of -20..120 HU, of the standard deviation in the 9x9
    neighbourhood (population formula, whole neighbourhoods only). The 10th percentile, because most
    neighbourhoods hold anatomy. Of a volume: the median of its slices.

    Args:
        image_hu: HU (slice, row, column) or (row, column).

    Returns:
        HU; NaN if no slice holds 100 such voxels (lung only, a patch of bone, an empty slice).
    """
    slices = [_slice_noise_hu(image) for image in as_volume(image_hu)]
    measured = [noise for noise in slices if not np.isnan(noise)]
    return float(np.median(measured)) if measured else float("nan")


def _slice_noise_hu(image_hu: NDArray[np.float32]) -> float:
    lowest, highest = SOFT_TISSUE_HU
    edge = NEIGHBOURHOOD_PX // 2
    if min(image_hu.shape) < NEIGHBOURHOOD_PX:
        return float("nan")
    whole = (slice(edge, -edge), slice(edge, -edge))
    centre = image_hu[whole]
    tissue = (centre >= lowest) & (centre <= highest)
    if tissue.sum() < FEWEST_VOXELS:
        return float("nan")
    # Centred on soft tissue, so that float32 squares keep fractions of a HU^2.
    centred = image_hu - np.float32((lowest + highest) / 2)
    mean = ndimage.uniform_filter(centred, NEIGHBOURHOOD_PX)[whole][tissue]
    mean_square = ndimage.uniform_filter(centred**2, NEIGHBOURHOOD_PX)[whole][tissue]
    variance = np.maximum(mean_square - mean**2, 0)
    return float(np.sqrt(np.percentile(variance, QUIETEST_PERCENT)))


def mean_shift_hu(test_hu: Image, reference_hu: Image, *, mask: NDArray[np.bool_] | None = None) -> float:
    """Mean of test minus reference over ``mask``, in HU.

    Args:
        test_hu: HU (slice, row, column) or (row, column).
        reference_hu: HU of the same shape.
        mask: bool of the same shape; default: the body of the reference.

    Raises:
        ImageRefusal: if the shapes differ, values are not finite, or the mask is empty.
    """
    test, reference, inside = _inside(test_hu, reference_hu, mask)
    return float((test - reference)[inside].mean(dtype=np.float64))


def residual_correlation(
    noisy_hu: Image, denoised_hu: Image, *, mask: NDArray[np.bool_] | None = None
) -> ResidualCorrelation:
    """How much of the anatomy shows in what the denoiser removed. Noise knows no anatomy: want both near 0.

    Args:
        noisy_hu: HU (slice, row, column) or (row, column).
        denoised_hu: HU of the same shape.
        mask: bool of the same shape; default: the body of the noisy image.

    Raises:
        ImageRefusal: if the shapes differ, values are not finite, or the mask is empty.
    """
    denoised, noisy, inside = _inside(denoised_hu, noisy_hu, mask)
    residual = (noisy - denoised)[inside]
    across = [ndimage.correlate1d(denoised, (-0.5, 0, 0.5), axis=axis, mode="nearest") for axis in (1, 2)]
    gradient = np.hypot(*across)[inside]
    return ResidualCorrelation(
        image=abs(_pearson(residual, denoised[inside])),
        edges=abs(_pearson(np.abs(residual), gradient)),
    )


def _inside(
    test_hu: Image, reference_hu: Image, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Both as volumes, and where to look."""
    test, reference = as_volume(test_hu), as_volume(reference_hu)
    inside = body_mask(reference) if mask is None else np.asarray(mask, dtype=bool)
    inside = inside[None] if inside.ndim == 2 else inside
    if not test.shape == reference.shape == inside.shape or not inside.any():
        raise ImageRefusal(
            f"images of shape {test.shape} and {reference.shape}, a mask of shape {inside.shape} "
            f"with {int(inside.sum())} voxels",
            allowed="three of one shape (slice, row, column), and a mask that is not empty",
            cure="measure an image against its own input; give mask=numpy.ones(shape, bool) where no body is",
        )
    return test, reference, inside


def _pearson(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's correlation of two vectors; NaN if one of them is constant."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    first -= first.mean()
    second -= second.mean()
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else float("nan")
