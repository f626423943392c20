"""Noise whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.archive.spectrum import noise_spectrum, soft_tissue_patches

SPACING = (0.5, 0.8)


def white(count: int = 400, sigma: float = 20.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, sigma, (count, 32, 32))


@pytest.mark.parametrize("frequency", [0.12, 0.25, 0.4])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_peak_is_where_the_noise_is(frequency: float, axis: int) -> None:
    axes = [np.fft.fftfreq(256, step) for step in SPACING]
    band = np.exp(-((np.hypot(axes[0][:, None], axes[1][None]) - frequency) ** 2) / (2 * 0.03**2))
    noise = np.random.default_rng(2).normal(0, 1, (256, 256))
    image = np.fft.ifft2(np.fft.fft2(noise) * band).real
    spacing = SPACING
    if axis == 0:
        image, spacing = image.T, SPACING[::-1]
    found = noise_spectrum(soft_tissue_patches((30 + 20 * image / image.std()).astype(np.float32)), spacing)
    assert found is not None
    assert found.peak_per_mm() == pytest.approx(frequency, abs=0.03)


def test_patches_lie_in_soft_tissue_alone() -> None:
    image = np.full((96, 128), -1000.0, np.float32)
    image[16:80, 16:80] = 40
    found = soft_tissue_patches(image)
    assert found.shape == (1, 32, 32)  # 32..64: the smoothed edges of the square are no soft tissue
    assert (found == 40).all()
    assert soft_tissue_patches(image[:20]).shape == (0, 32, 32)


def test_a_neighbour_takes_the_anatomy_away_and_keeps_the_variance() -> None:
    random = np.random.default_rng(3)
    anatomy = 40 + 30 * np.sin(np.arange(128) / 4)[None, :] * np.ones((128, 1))
    one, other = (np.float32(anatomy + random.normal(0, 10, (128, 128))) for _ in range(2))
    assert np.var(soft_tissue_patches(one)) > 300
    assert np.var(soft_tissue_patches(one, other)) == pytest.approx(100, rel=0.05)


def test_too_little_or_no_noise_gives_no_spectrum() -> None:
    assert noise_spectrum(white(3), SPACING) is None
    assert noise_spectrum(np.full((9, 32, 32), 40.0), SPACING) is None
