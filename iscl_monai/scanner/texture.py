"""Noise as it shows in an image: its local strength, and its power spectrum in flat patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.quality.noise import NEIGHBOURHOOD_PX, SOFT_TISSUE_HU
from iscl_monai.quality.spectrum import (
    Place,
    RadialSpectrum,
    noise_power_spectrum,
    radial,
    soft_tissue_places,
    without_surface,
)

Image = NDArray[np.float32]


def local_mean_and_sigma(image_hu: Image) -> tuple[Image, Image]:
    """Mean and standard deviation in the 9x9 neighbourhood of each pixel, HU (row, column)."""
    # Centred on soft tissue, so that float32 squares keep fractions of a HU^2.
    centre = np.float32(sum(SOFT_TISSUE_HU) / 2)
    mean = ndimage.uniform_filter(image_hu - centre, NEIGHBOURHOOD_PX)
    square = ndimage.uniform_filter((image_hu - centre) ** 2, NEIGHBOURHOOD_PX)
    sigma: Image = np.sqrt(np.maximum(square - mean**2, 0))
    return mean + centre, sigma


def soft_tissue(image_hu: Image) -> NDArray[np.bool_]:
    """True where a voxel lies in ``SOFT_TISSUE_HU``."""
    inside: NDArray[np.bool_] = (image_hu >= SOFT_TISSUE_HU[0]) & (image_hu <= SOFT_TISSUE_HU[1])
    return inside


def fine_detail(image_hu: Image) -> Image:
    """What a Gaussian of one pixel takes away: much of the noise, and little of the texture of organs."""
    detail: Image = image_hu - ndimage.gaussian_filter(image_hu, 1)
    return detail


def mode(values: NDArray[np.floating]) -> float:
    """Where positive values crowd most, on a logarithmic scale, among those within three times the 10th percentile.

    Of local standard deviations over what noise alone would give, that is the flat tissue's: anatomy only ever adds,
    and each piece of it another amount. What is three times the quietest is an edge, and a scan with much bone and
    little flat tissue has more edges than flat tissue.

    Args:
        values: positive, any shape; some hundred or more.
    """
    positive = values[values > 0]
    logs = np.log(positive[positive <= 3 * np.percentile(positive, 10)])
    low, high = np.percentile(logs, [0.5, 99.5])
    density, edges = np.histogram(logs, bins=200, range=(low, max(high, low + 1e-6)))
    # As wide as the scatter of a 9x9 standard deviation: narrower, and chance decides the place of the peak.
    width = 0.08 / (edges[1] - edges[0])
    best = int(ndimage.gaussian_filter1d(density.astype(float), width).argmax())
    return float(np.exp((edges[best] + edges[best + 1]) / 2))


def flat_patches(noise_hu: Image, tissue_hu: Image, relative_sigma: Image, most: int) -> list[Place]:
    """The places with the least anatomy.

    Args:
        noise_hu: HU (row, column), see :func:`iscl_monai.quality.spectrum.without_anatomy`.
        tissue_hu: likewise.
        relative_sigma: what noise alone would give, in any unit (row, column).
        most: how many at most: the quietest, and none that is three times noisier than the quietest.

    Returns:
        Rows and columns of patches of 32x32 pixels whose 9x9 means are all soft tissue, quietest first.
    """
    found = []
    for place in soft_tissue_places(tissue_hu):
        noise = without_surface(noise_hu[place][None]) / relative_sigma[place].mean()
        found.append((float(np.square(noise).mean()), place))
    found.sort(key=lambda one: one[0])
    return [place for power, place in found[:most] if power <= 9 * found[0][0]]


def spectrum(patches: Sequence[Image], spacing_mm: float) -> RadialSpectrum:
    """Radial noise power spectrum, averaged over patches without their trend.

    Args:
        patches: HU (row, column), all of one square shape.
        spacing_mm: distance of pixels.
    """
    spacing = (spacing_mm, spacing_mm)
    return radial(noise_power_spectrum(without_surface(np.stack(patches)), spacing), spacing)
