"""Noise whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.quality.spectrum import (
    RadialSpectrum,
    noise_power_spectrum,
    radial,
    soft_tissue_places,
    without_anatomy,
    without_surface,
)

SPACING = (0.5, 0.8)


def white(count: int = 400, sigma: float = 20.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, sigma, (count, 32, 32))


def test_white_noise_is_flat_at_the_level_of_its_variance() -> None:
    spectrum = radial(noise_power_spectrum(white(), SPACING), SPACING)
    np.testing.assert_allclose(spectrum.power_hu2_mm2, 20.0**2 * SPACING[0] * SPACING[1], rtol=0.06)
    assert (np.diff(spectrum.frequency_per_mm) > 0).all()
    assert spectrum.frequency_per_mm[-1] <= 0.5 / max(SPACING)


def test_the_spectrum_adds_up_to_the_variance() -> None:
    patches = ndimage.gaussian_filter(white(7), (0, 1, 2))[:, :20]
    power = noise_power_spectrum(patches, SPACING)
    cell = 1 / (20 * SPACING[0]) / (32 * SPACING[1])
    assert power.sum() * cell == pytest.approx(np.mean(patches**2), rel=1e-12)


def test_rings_by_hand() -> None:
    # Frequencies are 0, 1, 2, 1 quarters per pixel each way. Ring 1 (rounded distance 1): four cells at 1 and four at
    # root 2; ring 2: two at 2 and four at root 5. The corner at 2.83 lies above the Nyquist frequency.
    power = np.arange(16.0).reshape(4, 4)
    spectrum = radial(power, (1.0, 1.0))
    frequency = [(4 + 4 * 2**0.5) / 8 / 4, (2 * 2 + 4 * 5**0.5) / 6 / 4]
    np.testing.assert_allclose(spectrum.frequency_per_mm, frequency, rtol=1e-12)
    # Ring 1: 1 + 3 + 4 + 12 + 5 + 7 + 13 + 15; ring 2: 2 + 8 + 6 + 14 + 9 + 11.
    np.testing.assert_allclose(spectrum.power_hu2_mm2, [60 / 8, 50 / 6], rtol=1e-12)


def test_rings_are_as_wide_as_the_coarser_axis_and_end_at_the_wider_distance() -> None:
    # Rows: 0, 0.25, 0.5, 0.25 per mm; columns: 0, 0.5, 1, 1.5, 2, ... per mm. Rings 0.5 wide, Nyquist 0.5: one ring.
    # In units of 0.5: (0, 1) twice, (0.5, 1) four times, (1, 0) once, (1, 1) twice; (0.5, 0) rounds to ring 0.
    spectrum = radial(np.ones((4, 8)), (1.0, 0.25))
    expected = 0.5 * (2 * 1 + 4 * 1.25**0.5 + 1 + 2 * 2**0.5) / 9
    np.testing.assert_allclose(spectrum.frequency_per_mm, [expected], rtol=1e-12)
    np.testing.assert_allclose(spectrum.power_hu2_mm2, [1.0], rtol=1e-12)


def test_a_second_order_surface_is_removed_and_nothing_else() -> None:
    rows, columns = np.mgrid[:32, :32]
    surface = 40 + rows - 0.3 * columns + 0.05 * rows * columns + 0.02 * rows**2 - 0.03 * columns**2
    assert np.abs(without_surface(surface[None])).max() < 1e-9
    noise = white(50)
    left = without_surface(noise + surface)
    assert np.mean(left**2) == pytest.approx(np.mean(noise**2) * (1 - 6 / 1024), rel=2e-3)
    np.testing.assert_allclose(left, without_surface(noise), atol=1e-8)


def test_patches_need_not_be_square() -> None:
    rows, columns = np.mgrid[:20, :32]
    assert np.abs(without_surface((rows - 0.3 * columns + 0.05 * rows * columns)[None])).max() < 1e-9


def test_peak_and_mean_of_a_known_curve() -> None:
    frequency = np.linspace(0.05, 1, 20)
    bell = RadialSpectrum(frequency, np.exp(-((frequency - 0.4) ** 2) / (2 * 0.1**2)))
    assert bell.peak_per_mm() == pytest.approx(0.4, abs=0.01)
    # Rings grow with the frequency, so the mean lies above the peak of the curve: at 0.4 + 0.1^2 / 0.4.
    assert bell.mean_per_mm() == pytest.approx(0.425, abs=0.002)


def test_every_axis_has_its_spacing() -> None:
    with pytest.raises(ValueError, match="zip"):
        radial(np.ones((4, 4)), (1.0,))  # type: ignore[arg-type]


def test_power_is_summed_in_double_precision() -> None:
    patches = white(3).astype(np.float32) + np.float32(1000)
    power = noise_power_spectrum(patches, SPACING)
    assert power.dtype == np.float64
    np.testing.assert_allclose(power, noise_power_spectrum(patches.astype(np.float64), SPACING), rtol=1e-12)


def curve(*power: float) -> RadialSpectrum:
    """A curve at 0.1, 0.2, 0.3 ... per mm."""
    return RadialSpectrum(np.arange(1, len(power) + 1) / 10, np.array(power, float))


def test_a_single_high_ring_is_smoothed_away() -> None:
    # Smoothed with a quarter, a half and a quarter the ring of 4 becomes 2; the three of 3 are 2.25, 3, 2.25.
    assert curve(0, 0, 4, 0, 0, 3, 3, 3, 0).peak_per_mm() == pytest.approx(0.7, abs=1e-12)


def test_the_peak_lies_at_the_top_of_a_parabola() -> None:
    # Smoothed: 0, 0, 2, 5, 4, 1, 0. Through 2, 5, 4 at -1, 0, 1: 5 + x - 2 x^2, highest at x = 1/4.
    assert curve(0, 0, 0, 8, 4, 0, 0).peak_per_mm() == pytest.approx(0.4 + 0.025, abs=1e-12)
    assert curve(0, 0, 4, 8, 0, 0, 0).peak_per_mm() == pytest.approx(0.4 - 0.025, abs=1e-12)
    # As well beside either end: 2, 5, 4, 1, 0 and 0, 1, 4, 5, 2.
    assert curve(0, 8, 4, 0, 0).peak_per_mm() == pytest.approx(0.2 + 0.025, abs=1e-12)
    assert curve(0, 0, 4, 8, 0).peak_per_mm() == pytest.approx(0.4 - 0.025, abs=1e-12)


def test_a_peak_at_either_end_stays_there() -> None:
    assert curve(8, 4, 2, 1).peak_per_mm() == pytest.approx(0.1)
    assert curve(1, 2, 4, 8).peak_per_mm() == pytest.approx(0.4)
    assert curve(8, 0, 0).peak_per_mm() == pytest.approx(0.1)  # 6, 2, 0
    assert curve(0, 5, 4).peak_per_mm() == pytest.approx(0.3)  # 1.25, 3.5, 4.25: the border goes on beyond the end


def test_the_mean_frequency_by_hand() -> None:
    # Power in a ring grows with its length: weights 0.1 * 4, 0.2 * 1, 0.3 * 2.
    assert curve(4, 1, 2).mean_per_mm() == pytest.approx((0.04 + 0.04 + 0.18) / 1.2, rel=1e-12)


def test_the_difference_of_two_slices_is_noise_as_strong_as_in_one() -> None:
    noise = np.random.default_rng(2).normal(0, 20, (2, 256, 256)).astype(np.float32)
    anatomy = np.linspace(-1000, 1000, 256, dtype=np.float32)[None, :]
    difference, mean = without_anatomy(anatomy + noise[0], anatomy + noise[1])
    assert difference.std() == pytest.approx(20.0, rel=0.01)
    assert abs(difference.mean()) < 0.5
    np.testing.assert_allclose(mean - anatomy, (noise[0] + noise[1]) / 2, atol=1e-3)
    assert difference.dtype == mean.dtype == np.float32


def test_without_a_neighbour_noise_is_looked_for_in_the_image_itself() -> None:
    image = np.zeros((4, 4), np.float32)
    assert without_anatomy(image, None) == (image, image)


def corners(tissue_hu: np.ndarray) -> list[tuple[int, int]]:
    places = soft_tissue_places(tissue_hu)
    assert all(place.stop - place.start == 32 for both in places for place in both)
    return [(rows.start, columns.start) for rows, columns in places]


def test_patches_overlap_by_half_and_stay_inside() -> None:
    assert corners(np.full((64, 48), 50.0, np.float32)) == [(r, c) for r in (0, 16, 32) for c in (0, 16)]
    assert corners(np.full((32, 32), 50.0, np.float32)) == [(0, 0)]
    assert corners(np.full((31, 64), 50.0, np.float32)) == []


@pytest.mark.parametrize(("hu", "inside"), [(-21, False), (-20, True), (120, True), (121, False)])
def test_soft_tissue_has_its_borders(hu: float, inside: bool) -> None:
    assert bool(corners(np.full((32, 32), hu, np.float32))) == inside


def test_a_patch_that_touches_bone_is_left_out() -> None:
    tissue = np.full((64, 64), 50.0, np.float32)
    tissue[2, 60] = 50 + 71 * 81  # the mean of 9 x 9 around it is 121
    # It reaches columns 56 to 63 and rows 0 to 6: patches from column 32 on and row 0.
    assert corners(tissue) == [(r, c) for r in (0, 16, 32) for c in (0, 16, 32) if (r, c) != (0, 32)]


@pytest.mark.parametrize(("column", "inside"), [(35, False), (36, True)])
def test_bone_counts_up_to_four_pixels_beside_a_patch(column: int, inside: bool) -> None:
    tissue = np.full((32, 47), 50.0, np.float32)
    tissue[:, column] = 50 + 71 * 9  # means of 9 x 9 that it is in are 121
    assert bool(corners(tissue)) == inside


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
