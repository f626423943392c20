"""Noise as it shows in an image: its local strength, and its power spectrum in flat patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.quality.noise import NEIGHBOURHOOD_PX, SOFT_TISSUE_HU

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

PATCH_PX = 32


def local_mean_and_sigma(image_hu: Image) -> tuple[Image, Image]:
    """Mean and standard deviation in the 9x9 neighbourhood of each pixel, HU (row, column)."""
    # Centred on soft tissue, so that float32 squares keep fractions of a HU^2.
    centre = np.float32(sum(SOFT_TISSUE_HU) / 2)
    mean = ndimage.uniform_filter(image_hu - centre, NEIGHBOURHOOD_PX)
    square = ndimage.uniform_filter((image_hu - centre) ** 2, NEIGHBOURHOOD_PX)
    sigma: Image = np.sqrt(np.maximum(square - mean**2, 0))
    return mean + centre, sigma


def mode(values: NDArray[np.floating]) -> float:
    """Where positive values crowd most, on a logarithmic scale.

    Of local standard deviations over what noise alone would give, that is the flat tissue's: anatomy only ever adds,
    and each piece of it another amount.

    Args:
        values: positive, any shape; some hundred or more.
    """
    logs = np.log(values[values > 0])
    low, high = np.percentile(logs, [0.5, 99.5])
    density, edges = np.histogram(logs, bins=200, range=(low, max(high, low + 1e-6)))
    # As wide as the scatter of a 9x9 standard deviation: narrower, and chance decides the place of the peak.
    width = 0.08 / (edges[1] - edges[0])
    best = int(ndimage.gaussian_filter1d(density.astype(float), width).argmax())
    return float(np.exp((edges[best] + edges[best + 1]) / 2))


def flat_patches(image_hu: Image, relative_sigma: Image, most: int) -> list[tuple[slice, slice]]:
    """The places with the least anatomy, in steps of half a patch.

    Args:
        image_hu: HU (row, column).
        relative_sigma: what noise alone would give, in any unit (row, column).
        most: how many at most: the quietest, and none that is three times noisier than the quietest.

    Returns:
        Rows and columns of patches of 32x32 pixels whose 9x9 means are all soft tissue, quietest first.
    """
    mean, _ = local_mean_and_sigma(image_hu)
    tissue = (mean >= SOFT_TISSUE_HU[0]) & (mean <= SOFT_TISSUE_HU[1])
    found = []
    for row in range(0, image_hu.shape[0] - PATCH_PX + 1, PATCH_PX // 2):
        for column in range(0, image_hu.shape[1] - PATCH_PX + 1, PATCH_PX // 2):
            place = (slice(row, row + PATCH_PX), slice(column, column + PATCH_PX))
            if tissue[place].all():
                noise = detrended(image_hu[place]) / relative_sigma[place].mean()
                found.append((float(np.square(noise).mean()), place))
    found.sort(key=lambda one: one[0])
    return [place for power, place in found[:most] if power <= 9 * found[0][0]]


def detrended(patch: Image) -> Floats:
    """A patch (row, column) less its best second-order surface."""
    rows, columns = (np.linspace(-1, 1, size) for size in patch.shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    values = patch.astype(np.float64).ravel()
    flat: Floats = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return flat.reshape(patch.shape)


def noise_power(patches: Sequence[Image], spacing_mm: float) -> tuple[Floats, Floats]:
    """Radial noise power spectrum, averaged over patches.

    Args:
        patches: HU (row, column), all of one square shape.
        spacing_mm: distance of pixels.

    Returns:
        Frequencies in cycles per mm, up to the Nyquist frequency, and HU^2 mm^2 in rings as wide as the patch
        resolves. Source: AAPM TG-233, doi 10.1002/mp.13763: ``dx dy / (Nx Ny) |DFT|^2`` of patches without trend.
    """
    size = patches[0].shape[0]
    power = np.mean([np.abs(np.fft.fft2(detrended(patch))) ** 2 for patch in patches], axis=0)
    frequency = np.fft.fftfreq(size, spacing_mm)
    ring = np.rint(np.hypot(frequency, frequency[:, None]) * size * spacing_mm).astype(int)
    rings = range(size // 2 + 1)
    radial = np.array([power[ring == index].mean() for index in rings]) * (spacing_mm**2 / size**2)
    return np.array(rings) / (size * spacing_mm), radial
