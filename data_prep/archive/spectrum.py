"""Which parts of a scan tell its noise power spectrum."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.quality.noise import SOFT_TISSUE_HU
from iscl_monai.quality.spectrum import RadialSpectrum, noise_power_spectrum, radial, without_surface

Floats = npt.NDArray[np.float64]

PATCH_PX = 32
SMOOTHED_PX = 9
FEWEST_PATCHES = 4
MOST_PATCHES = 32
QUIETEST_PART = 0.25


def soft_tissue_patches(
    image_hu: npt.NDArray[np.float32], neighbour_hu: npt.NDArray[np.float32] | None = None
) -> Floats:
    """Patches all in soft tissue: where every 9x9 mean is -20 to 120 HU. They overlap by half.

    Args:
        image_hu: HU (row, column).
        neighbour_hu: the next slice, same shape. Then patches are of the difference over the root of two: anatomy,
            which is the same in both, leaves the low frequencies, where it else is stronger than the noise.

    Returns:
        HU (patch, row, column), maybe none.
    """
    image = np.asarray(image_hu, np.float64)
    values, tissue = image, image
    if neighbour_hu is not None:
        values, tissue = (neighbour_hu - image) / np.sqrt(2), (neighbour_hu + image) / 2
    mean = ndimage.uniform_filter(tissue, SMOOTHED_PX)
    inside = (mean >= SOFT_TISSUE_HU[0]) & (mean <= SOFT_TISSUE_HU[1])
    starts = (range(0, length - PATCH_PX + 1, PATCH_PX // 2) for length in image.shape)
    squares = [
        (slice(row, row + PATCH_PX), slice(column, column + PATCH_PX)) for row, column in itertools.product(*starts)
    ]
    found = [values[square] for square in squares if inside[square].all()]
    return np.array(found, np.float64).reshape(-1, PATCH_PX, PATCH_PX)


def noise_spectrum(patches_hu: Floats, pixel_spacing_mm: tuple[float, float]) -> RadialSpectrum | None:
    """The noise power spectrum of the quietest quarter of the patches: others hold anatomy.

    Args:
        patches_hu: of :func:`soft_tissue_patches`, of any number of slices.
        pixel_spacing_mm: between rows, between columns.

    Returns:
        None for fewer than four patches, or patches without any noise.
    """
    if len(patches_hu) < FEWEST_PATCHES:
        return None
    noise = without_surface(patches_hu)
    variance = np.mean(noise**2, axis=(1, 2))
    kept = max(FEWEST_PATCHES, min(MOST_PATCHES, int(len(noise) * QUIETEST_PART)))
    quietest = np.argsort(variance, kind="stable")[:kept]
    if variance[quietest].max() < 1e-6:  # rounding of a constant
        return None
    return radial(noise_power_spectrum(noise[quietest], pixel_spacing_mm), pixel_spacing_mm)
