"""Noise whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.quality.spectrum import RadialSpectrum, noise_power_spectrum, radial, without_surface

SPACING = (0.5, 0.8)


def white(count: int = 400, sigma: float = 20.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, sigma, (count, 32, 32))


def test_white_noise_is_flat_at_the_level_of_its_variance() -> None:
    spectrum = radial(noise_power_spectrum(white(), SPACING), SPACING)
    np.testing.assert_allclose(spectrum.power_hu2_mm2, 20.0**2 * SPACING[0] * SPACING[1], rtol=0.06)
    assert (np.diff(spectrum.frequency_per_mm) > 0).all()
    assert spectrum.frequency_per_mm[-1] <= 0.5 / max(SPACING)


def test_the_spectrum_adds_up_to_the_variance() -> None:
    patches = ndimage.gaussian_filter(white(7), (0, 1, 2))
    power = noise_power_spectrum(patches, SPACING)
    cell = 1 / (32 * SPACING[0]) / (32 * SPACING[1])
    assert power.sum() * cell == pytest.approx(np.mean(patches**2), rel=1e-12)


def test_a_second_order_surface_is_removed_and_nothing_else() -> None:
    rows, columns = np.mgrid[:32, :32]
    surface = 40 + rows - 0.3 * columns + 0.05 * rows * columns + 0.02 * rows**2 - 0.03 * columns**2
    assert np.abs(without_surface(surface[None])).max() < 1e-9
    noise = white(50)
    left = without_surface(noise + surface)
    assert np.mean(left**2) == pytest.approx(np.mean(noise**2) * (1 - 6 / 1024), rel=2e-3)
    np.testing.assert_allclose(left, without_surface(noise), atol=1e-8)


def test_peak_and_mean_of_a_known_curve() -> None:
    frequency = np.linspace(0.05, 1, 20)
    curve = RadialSpectrum(frequency, np.exp(-((frequency - 0.4) ** 2) / (2 * 0.1**2)))
    assert curve.peak_per_mm() == pytest.approx(0.4, abs=0.01)
    # Rings grow with the frequency, so the mean lies above the peak of the curve: at 0.4 + 0.1^2 / 0.4.
    assert curve.mean_per_mm() == pytest.approx(0.425, abs=0.002)


def test_an_independent_toolbox_agrees() -> None:
    """Within 2 % where its flattening (third order, half of it) and its smoothing of steep flanks do not matter."""
    toolbox = pytest.importorskip("microct_iq_toolbox", reason="only a cross-check")
    size, spacing = 64, 0.7
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 20, (30, 256, 256)), (0, 0.6, 0.6), mode="wrap")
    corners = [(top, left) for top in range(0, 256, size) for left in range(0, 256, size)]
    regions = np.array([(top, top + size, left, left + size) for top, left in corners])
    theirs = toolbox.api.nps(noise, regions, spacing)
    patches = np.concatenate([noise[:, top : top + size, left : left + size] for top, left in corners])
    ours = radial(noise_power_spectrum(without_surface(patches), (spacing, spacing)), (spacing, spacing))
    # Their bins run from one whole number of cycles per region to the next.
    middles = (np.arange(len(theirs.y)) + 0.5) / (size * spacing)
    compared = np.interp(middles, ours.frequency_per_mm, ours.power_hu2_mm2)[3:-1]
    np.testing.assert_allclose(compared, theirs.y[3:-1], rtol=0.02)
