from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from iscl_monai.quality.noise import (
    mean_shift_hu,
    no_reference_panel,
    noise_sigma_hu,
    residual_correlation,
)


def anatomy() -> np.ndarray:
    """One slice: air, a body with organs of several sizes and contrasts, bone."""
    rows, columns = np.mgrid[:160, :160]
    image = np.full(rows.shape, -1000.0, dtype=np.float32)
    image[(rows - 80) ** 2 + (columns - 80) ** 2 < 70**2] = 40
    for row, column, radius, hu in [
        (60, 50, 18, 100),
        (60, 110, 14, -80),
        (110, 80, 10, 700),
        (100, 40, 6, 0),
    ]:
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = hu
    return image


def noise(sigma_hu: float, shape: tuple[int, ...] = (160, 160)) -> np.ndarray:
    return np.random.default_rng(2).normal(0, sigma_hu, shape).astype(np.float32)


def test_noise_is_the_tenth_percentile_of_local_deviations() -> None:
    image = anatomy() + noise(15)
    deviations = ndimage.generic_filter(image.astype(float), np.std, size=9)[4:-4, 4:-4]
    centre = image[4:-4, 4:-4]
    expected = np.percentile(deviations[(centre >= -20) & (centre <= 120)], 10)
    assert noise_sigma_hu(image) == pytest.approx(expected, rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(sigma_hu=st.floats(2, 60))
def test_noise_follows_sigma_and_not_anatomy(sigma_hu: float) -> None:
    # The quietest tenth of 9x9 neighbourhoods lies about 10 % below the true sigma.
    assert noise_sigma_hu(anatomy() + noise(sigma_hu)) == pytest.approx(0.9 * sigma_hu, rel=0.06)


def test_noise_of_a_volume_is_the_median_of_its_slices() -> None:
    slices = [anatomy() + noise(sigma) for sigma in (10, 20, 90)]
    empty = np.full_like(anatomy(), -1000)
    assert noise_sigma_hu(np.stack([*slices, empty])) == pytest.approx(noise_sigma_hu(slices[1]))


@pytest.mark.parametrize("image", [np.full((64, 64), -1000.0), np.full((64, 64), 900.0), np.zeros((8, 8))])
def test_without_soft_tissue_there_is_no_noise_to_tell(image: np.ndarray) -> None:
    assert np.isnan(noise_sigma_hu(image))


def test_removing_noise_only_leaves_no_anatomy_in_the_residual() -> None:
    correlation = residual_correlation(anatomy() + noise(20), anatomy())
    assert correlation.image < 0.02
    assert correlation.edges < 0.02


def test_blurring_shows_as_edges_in_the_residual() -> None:
    noisy = anatomy() + noise(20)
    assert residual_correlation(noisy, ndimage.gaussian_filter(noisy, 1.5)).edges > 0.4


def test_lost_contrast_shows_as_image_in_the_residual() -> None:
    noisy = anatomy() + noise(20)
    assert residual_correlation(noisy, 0.9 * anatomy()).image > 0.3


def test_correlation_is_pearsons() -> None:
    noisy, denoised = noise(10), noise(3) + anatomy()
    mask = anatomy() > 50
    expected = abs(np.corrcoef((noisy - denoised)[mask], denoised[mask])[0, 1])
    assert residual_correlation(noisy, denoised, mask=mask).image == pytest.approx(expected, rel=1e-4)


def test_an_unchanged_image_has_nothing_to_correlate() -> None:
    correlation = residual_correlation(anatomy(), anatomy())
    assert np.isnan([correlation.image, correlation.edges]).all()


def test_shift_is_signed_and_only_of_the_mask() -> None:
    test = anatomy() - 3
    test[anatomy() < -500] = 0
    assert mean_shift_hu(test, anatomy()) == pytest.approx(-3, abs=1e-3)
    everywhere = np.ones(test.shape, dtype=bool)
    assert mean_shift_hu(test, anatomy(), mask=everywhere) > 100


def test_panel_gathers_the_four() -> None:
    noisy, denoised = anatomy() + noise(20), anatomy() + noise(5) + 2
    panel = no_reference_panel(torch.from_numpy(noisy), torch.from_numpy(denoised))
    assert panel.noise_before_hu == noise_sigma_hu(noisy)
    assert panel.noise_after_hu == noise_sigma_hu(denoised)
    assert panel.noise_after_hu / panel.noise_before_hu == pytest.approx(0.25, abs=0.01)
    assert panel.mean_shift_hu == pytest.approx(2, abs=0.5)
    assert panel.residual == residual_correlation(noisy, denoised)
