"""What a denoiser did to a scan that has no reference: strength and texture of noise, HU, and the way across slices.

Nothing here can tell whether a lesion was kept: that needs a reference, or lesions put in
(:mod:`iscl_monai.quality.lesions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.fidelity import as_volume, body_mask
from iscl_monai.quality.linearity import SliceBehaviour, slice_behaviour
from iscl_monai.quality.noise import NoReferencePanel, no_reference_panel
from iscl_monai.quality.regions import RegionResult, region_results
from iscl_monai.quality.spectrum import (
    RadialSpectrum,
    noise_power_spectrum,
    radial,
    soft_tissue_places,
    without_anatomy,
    without_surface,
)

FEWEST_PATCHES = 20
MOST_PAIRS = 40
MOST_SLICES = 32


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Noise power spectra of soft tissue, from differences of neighbouring slices.

    Args:
        before: of the input.
        after: of the denoised image.
        removed: of input minus denoised. Anatomy in it shows as power at low frequency.
        patches: how many patches of 32x32 pixels.
    """

    before: RadialSpectrum
    after: RadialSpectrum
    removed: RadialSpectrum
    patches: int

    @property
    def mean_shift(self) -> float:
        """Change of the mean frequency as a share of it: -0.2 is noise a fifth coarser."""
        return self.after.mean_per_mm() / self.before.mean_per_mm() - 1

    @property
    def peak_shift(self) -> float:
        """Change of the peak frequency as a share of it."""
        return self.after.peak_per_mm() / self.before.peak_per_mm() - 1


@dataclass(frozen=True, kw_only=True)
class BeforeAfter:
    """All that can be told without a reference.

    Args:
        regions: noise and mean HU of air, lung, fat, soft tissue and bone, before and after.
        panel: noise, shift and residual correlation over the body.
        texture: None if the scan shows too little soft tissue, or has one slice.
        slices: how neighbouring slices hang together inside the body; None of one slice.
    """

    regions: tuple[RegionResult, ...]
    panel: NoReferencePanel
    texture: Texture | None
    slices: SliceBehaviour | None


def before_after(
    noisy_hu: NDArray[Any],
    denoised_hu: NDArray[Any],
    *,
    pixel_spacing_mm: tuple[float, float],
    padded: NDArray[np.bool_] | None = None,
) -> BeforeAfter:
    """Measure a denoised scan against nothing but its input.

    Args:
        noisy_hu: HU (slice, row, column), in the order of their places.
        denoised_hu: HU of the same shape.
        pixel_spacing_mm: between rows, between columns.
        padded: bool of the same shape, True where a pixel is padding outside the scan; None: nowhere.

    Raises:
        ImageRefusal: if the shapes differ, values are not finite, or no slice shows a body.
    """
    noisy, denoised = as_volume(noisy_hu), as_volume(denoised_hu)
    if noisy.shape != denoised.shape:
        raise ImageRefusal(
            f"input of shape {noisy.shape}, denoised image of shape {denoised.shape}",
            allowed="two volumes of one shape (slice, row, column)",
            cure="give the denoised image of this very series",
        )
    return BeforeAfter(
        regions=region_results(noisy, denoised, padded),
        panel=no_reference_panel(noisy, denoised),
        texture=texture(noisy, denoised, pixel_spacing_mm),
        slices=_across(noisy, denoised),
    )


def texture(
    noisy_hu: NDArray[np.float32], denoised_hu: NDArray[np.float32], pixel_spacing_mm: tuple[float, float]
) -> Texture | None:
    """Spectra before and after, in the same patches: those all in soft tissue in the mean of two input slices.

    At most 40 pairs of neighbouring slices, evenly spread. Overlapping slices share noise, which their difference
    lacks: compare before with after, not scan with scan.

    Args:
        noisy_hu: HU (slice, row, column).
        denoised_hu: HU of the same shape.
        pixel_spacing_mm: between rows, between columns.

    Returns:
        None with fewer than 20 patches, or if one of the two shows no noise at all.
    """
    starts = np.arange(0, len(noisy_hu) - 1, 2)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, MOST_PAIRS).astype(int))] if len(starts) else starts
    found: list[NDArray[np.float32]] = []
    for start in starts:
        before, tissue = without_anatomy(noisy_hu[start], noisy_hu[start + 1])
        after, _ = without_anatomy(denoised_hu[start], denoised_hu[start + 1])
        images = np.stack([before, after, before - after])
        found += [images[:, place[0], place[1]] for place in soft_tissue_places(tissue)]
    if len(found) < FEWEST_PATCHES:
        return None
    spectra = [
        radial(noise_power_spectrum(without_surface(patches), pixel_spacing_mm), pixel_spacing_mm)
        for patches in np.stack(found, axis=1)
    ]
    if not all(spectrum.power_hu2_mm2.any() for spectrum in spectra[:2]):  # painted with one value: no texture
        return None
    return Texture(before=spectra[0], after=spectra[1], removed=spectra[2], patches=len(found))


def _across(noisy: NDArray[np.float32], denoised: NDArray[np.float32]) -> SliceBehaviour | None:
    """Of at most 32 slices in the middle, where all of them show the body: enough, and it fits the memory."""
    first = max(0, (len(noisy) - MOST_SLICES) // 2)
    part = slice(first, first + MOST_SLICES)
    inside: NDArray[np.bool_] = np.all(body_mask(noisy[part]), axis=0)
    if len(noisy[part]) < 2 or not inside.any():
        return None
    return slice_behaviour(denoised[part], noisy[part], mask=inside)
