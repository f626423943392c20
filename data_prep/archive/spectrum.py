"""Which parts of a scan tell its noise power spectrum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from iscl_monai.quality.spectrum import (
    PATCH_PX,
    RadialSpectrum,
    noise_power_spectrum,
    radial,
    soft_tissue_places,
    without_anatomy,
    without_surface,
)

Floats = npt.NDArray[np.float64]

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
    noise_hu, tissue_hu = without_anatomy(image_hu, neighbour_hu)
    found = [noise_hu[place] for place in soft_tissue_places(tissue_hu)]
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
