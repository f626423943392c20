"""The noise power spectrum of images: how strong the noise is at each spatial frequency.

J. H. Siewerdsen, I. A. Cunningham, D. A. Jaffray, "A framework for noise-power spectrum analysis of multidimensional
images", Med. Phys. 29(11), 2002; ICRU Report 87, 2012; AAPM TG-233, doi 10.1002/mp.13763.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.quality.noise import NEIGHBOURHOOD_PX, SOFT_TISSUE_HU

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Place = tuple[slice, slice]

PATCH_PX = 32


@dataclass(frozen=True, eq=False)
class RadialSpectrum:
    """A noise power spectrum averaged over directions.

    Attributes:
        frequency_per_mm: ascending, from above 0 to the Nyquist frequency of the wider pixel distance.
        power_hu2_mm2: HU^2 mm^2.
    """

    frequency_per_mm: Floats
    power_hu2_mm2: Floats

    def peak_per_mm(self) -> float:
        """Where the smoothed curve is highest: at the top of a parabola through its highest point's neighbours."""
        smooth = ndimage.convolve1d(self.power_hu2_mm2, (0.25, 0.5, 0.25), mode="nearest")
        top = int(smooth.argmax())
        if not 0 < top < len(smooth) - 1:
            return float(self.frequency_per_mm[top])
        left, middle, right = smooth[top - 1 : top + 2]
        bend = left - 2 * middle + right  # below 0: of equal values argmax takes the first, so left < middle
        shift = (left - right) / (2 * bend)
        return float(self.frequency_per_mm[top] + shift * (self.frequency_per_mm[1] - self.frequency_per_mm[0]))

    def mean_per_mm(self) -> float:
        """The mean frequency, each weighted with the power in its ring."""
        ring = self.frequency_per_mm * self.power_hu2_mm2
        return float((self.frequency_per_mm * ring).sum() / ring.sum())


def noise_power_spectrum(patches_hu: npt.ArrayLike, pixel_spacing_mm: tuple[float, float]) -> Floats:
    """``dx dy / (Nx Ny) * mean |DFT(patch)|^2``: its sum times ``du dv`` is the mean square of the patches.

    Args:
        patches_hu: HU (patch, row, column), of noise alone, see :func:`without_surface`.
        pixel_spacing_mm: between rows, between columns.

    Returns:
        Shape (row, column), HU^2 mm^2, frequencies in the order of :func:`numpy.fft.fftfreq`.
    """
    patches = np.asarray(patches_hu, np.float64)
    area = pixel_spacing_mm[0] * pixel_spacing_mm[1] / (patches.shape[1] * patches.shape[2])
    power: Floats = area * np.mean(np.abs(np.fft.fft2(patches)) ** 2, axis=0)
    return power


def radial(power_hu2_mm2: Floats, pixel_spacing_mm: tuple[float, float]) -> RadialSpectrum:
    """A two-dimensional spectrum averaged in rings as wide as its frequencies are apart; frequency 0 is left out.

    Args:
        power_hu2_mm2: of :func:`noise_power_spectrum`.
        pixel_spacing_mm: between rows, between columns.
    """
    axes = [np.fft.fftfreq(count, step) for count, step in zip(power_hu2_mm2.shape, pixel_spacing_mm, strict=True)]
    frequency = np.hypot(axes[0][:, None], axes[1][None, :])
    width = max(axis[1] for axis in axes)
    ring = np.rint(frequency / width).astype(int)
    last = int(0.5 / max(pixel_spacing_mm) / width)
    count = np.bincount(ring.ravel())[1 : last + 1]
    sums = [np.bincount(ring.ravel(), values.ravel())[1 : last + 1] for values in (frequency, power_hu2_mm2)]
    return RadialSpectrum(sums[0] / count, sums[1] / count)


def without_surface(patches_hu: npt.ArrayLike) -> Floats:
    """Patches less the second-order surface that fits each best: what is left of flat tissue is noise.

    Args:
        patches_hu: HU (patch, row, column).

    Returns:
        The same shape.
    """
    patches = np.asarray(patches_hu, np.float64)
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, count) for count in patches.shape[1:]), indexing="ij")
    surface = [np.ones_like(rows), rows, columns, rows * columns, rows**2, columns**2]
    basis, _ = np.linalg.qr(np.stack([term.ravel() for term in surface], axis=1))
    flat = patches.reshape(len(patches), -1)
    left: Floats = (flat - flat @ basis @ basis.T).reshape(patches.shape)
    return left


def without_anatomy(image_hu: Image, neighbour_hu: Image | None) -> tuple[Image, Image]:
    """Where noise is looked for, and where tissue.

    Args:
        image_hu: HU (row, column).
        neighbour_hu: the next slice; None: there is none.

    Returns:
        With a neighbour the difference over the root of two, in which anatomy that goes through both is gone and noise
        is as strong and as textured as in one, and the mean; without, the image twice.
    """
    if neighbour_hu is None:
        return image_hu, image_hu
    difference: Image = (neighbour_hu - image_hu) * np.float32(np.sqrt(0.5))
    mean: Image = (neighbour_hu + image_hu) * np.float32(0.5)
    return difference, mean


def soft_tissue_places(tissue_hu: Image) -> list[Place]:
    """Patches all in soft tissue, overlapping by half.

    Args:
        tissue_hu: HU (row, column).

    Returns:
        Rows and columns of patches of 32x32 pixels in which every 9x9 mean is -20 to 120 HU.
    """
    mean = ndimage.uniform_filter(tissue_hu, NEIGHBOURHOOD_PX)
    inside = (mean >= SOFT_TISSUE_HU[0]) & (mean <= SOFT_TISSUE_HU[1])
    starts = (range(0, length - PATCH_PX + 1, PATCH_PX // 2) for length in tissue_hu.shape)
    places = [
        (slice(row, row + PATCH_PX), slice(column, column + PATCH_PX)) for row, column in itertools.product(*starts)
    ]
    return [place for place in places if inside[place].all()]
