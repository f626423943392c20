from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.before_after import before_after, texture

SPACING_MM = (0.8, 0.8)


def tissue(sigma_hu: float, *, smooth_px: float = 0, slices: int = 6, seed: int = 0) -> np.ndarray:
    """Soft tissue throughout, with noise that may be smoothed and scaled back to its sigma."""
    noise = np.random.default_rng(seed).normal(0, 1, (slices, 128, 128))
    if smooth_px:
        noise = ndimage.gaussian_filter(noise, (0, smooth_px, smooth_px))
    return (40 + sigma_hu * noise / noise.std()).astype(np.float32)


def test_scaled_noise_keeps_its_texture_and_smoothed_noise_is_coarser() -> None:
    scaled = texture(tissue(30), tissue(15), SPACING_MM)
    smoothed = texture(tissue(30), tissue(15, smooth_px=1), SPACING_MM)
    assert scaled is not None
    assert smoothed is not None
    assert scaled.mean_shift == pytest.approx(0, abs=1e-5)
    assert scaled.peak_shift == pytest.approx(0, abs=1e-5)
    assert smoothed.mean_shift < -0.3
    assert scaled.patches == 3 * 49


def test_spectra_are_as_strong_as_the_noise() -> None:
    """White noise: sigma^2 dx dy at every frequency; what was removed is the difference."""
    found = texture(tissue(30), tissue(15), SPACING_MM)
    assert found is not None
    for spectrum, sigma in ((found.before, 30), (found.after, 15), (found.removed, 15)):
        high = spectrum.power_hu2_mm2[spectrum.frequency_per_mm > 0.2]
        assert high.mean() == pytest.approx(sigma**2 * 0.64, rel=0.05)


def test_texture_needs_two_slices_soft_tissue_and_noise() -> None:
    assert texture(tissue(30, slices=1), tissue(15, slices=1), SPACING_MM) is None
    assert texture(tissue(30) - 1000, tissue(15) - 1000, SPACING_MM) is None
    assert texture(tissue(30), np.full_like(tissue(30), 40), SPACING_MM) is None


def test_panel_of_a_denoiser_that_halves_all_noise() -> None:
    panel = before_after(tissue(30), tissue(15), pixel_spacing_mm=SPACING_MM)
    assert panel.panel.noise_after_hu / panel.panel.noise_before_hu == pytest.approx(0.5, abs=1e-3)
    assert panel.slices is not None
    assert panel.slices.flicker == pytest.approx(0.5, abs=1e-3)
    region = next(region for region in panel.regions if region.name == "soft tissue")
    assert region.sigma_after_hu == pytest.approx(region.sigma_before_hu / 2, rel=1e-3)


@pytest.mark.slow
def test_long_scans_are_measured_in_part_and_one_slice_not_across() -> None:
    long = before_after(tissue(30, slices=100), tissue(15, slices=100), pixel_spacing_mm=SPACING_MM)
    assert long.texture is not None
    assert long.texture.patches == 40 * 49
    single = before_after(tissue(30, slices=1), tissue(15, slices=1), pixel_spacing_mm=SPACING_MM)
    assert single.slices is None
    assert single.texture is None


def test_padding_is_in_no_region() -> None:
    padded = np.zeros((6, 128, 128), bool)
    padded[:, :64] = True
    whole, part = (
        before_after(tissue(30), tissue(15), pixel_spacing_mm=SPACING_MM, padded=mask).regions
        for mask in (None, padded)
    )
    assert sum(region.voxels for region in part) < 0.6 * sum(region.voxels for region in whole)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ImageRefusal, match="denoised image of shape"):
        before_after(tissue(30), tissue(30)[:3], pixel_spacing_mm=SPACING_MM)
