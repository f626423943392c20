from __future__ import annotations

import numpy as np
import pytest

from iscl_monai.errors import ImageRefusal
from iscl_monai.phantom.objects import draw_discs, inserts
from iscl_monai.quality.linearity import (
    disc_means,
    distance_mm_from,
    require_inside,
    slice_behaviour,
    uniformity,
)
from iscl_monai.scanner.dose import acquire

SPACING = (1.0, 0.8)


def noise(seed: int, shape: tuple[int, ...] = (6, 48, 48), sigma_hu: float = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma_hu, shape)


def test_the_simulated_scanner_is_linear() -> None:
    size, spacing = 256, 1.25
    water, *discs = inserts(np.random.default_rng(0))
    drawn = draw_discs([water, *discs], size=size, spacing_mm=spacing)[None]
    shown = acquire(drawn, spacing_mm=spacing, photons=np.inf)
    places = [disc.place(size, spacing) for disc in discs]
    measured = disc_means(shown, centres=places, radius_mm=10, pixel_spacing_mm=(spacing, spacing))
    true = np.array([disc.hu for disc in discs])
    slope, _ = np.polyfit(true, measured, 1)
    assert slope == pytest.approx(1, abs=0.002)
    assert np.abs(measured - true).max() < 1


def test_the_discs_outside_are_compared_with_the_middle() -> None:
    distance = distance_mm_from((40, 50), (80, 100), SPACING)
    cupped = np.stack([0.01 * distance**2, 0.01 * distance**2 + 2])
    cupped[:, 50:] += 3  # below the middle only
    result = uniformity(cupped, centre=(40, 50), distance_mm=25, radius_mm=5, pixel_spacing_mm=SPACING)
    # Over a disc the mean of r^2 is that of its middle plus half its radius squared.
    assert result.centre_hu == pytest.approx(1 + 0.125, abs=0.02)
    np.testing.assert_allclose(result.periphery_hu - result.centre_hu, [6.25, 6.25, 9.25, 6.25], atol=0.06)
    assert result.worst_hu == pytest.approx(9.25, abs=0.06)


def test_discs_are_round_in_mm_and_hold_all_slices() -> None:
    image = np.zeros((2, 41, 41))
    image[0] = distance_mm_from((20, 20), (41, 41), (1.0, 0.5))
    mean = disc_means(image, centres=[(20, 20)], radius_mm=9, pixel_spacing_mm=(1.0, 0.5))
    assert mean[0] == pytest.approx(2 / 3 * 9 / 2, rel=0.01)


def test_a_denoiser_that_copies_flickers_as_its_input() -> None:
    before = noise(1)
    copied = slice_behaviour(before, before)
    assert copied.flicker == 1
    assert np.isnan(copied.residual_correlation)
    assert slice_behaviour(before, before, truth_hu=np.zeros_like(before)).residual_correlation == pytest.approx(
        0, abs=0.03
    )


def test_what_is_alike_in_every_slice_shows_in_the_residual() -> None:
    before, texture = noise(1), noise(2, (48, 48))
    result = slice_behaviour(before + texture, before, truth_hu=np.zeros_like(before))
    assert result.residual_correlation == pytest.approx(0.5, abs=0.04)
    assert result.flicker == pytest.approx(1)
    assert slice_behaviour(before + texture, before).residual_correlation == pytest.approx(1)


def test_less_noise_flickers_less_and_an_offset_per_slice_more() -> None:
    before = noise(1)
    assert slice_behaviour(0.25 * before, before).flicker == pytest.approx(0.25)
    flickering = 0.25 * before + 30 * (-1.0) ** np.arange(6)[:, None, None]
    assert slice_behaviour(flickering, before).flicker > 1


def test_only_the_mask_counts() -> None:
    before = noise(1)
    after = before.copy()
    after[:, :24] = 0
    mask = np.zeros((48, 48), bool)
    mask[24:] = True
    assert slice_behaviour(after, before, mask=mask).flicker == 1
    assert slice_behaviour(after, before, mask=~mask).flicker == 0
    assert np.isnan(slice_behaviour(before, np.zeros_like(before)).flicker)


@pytest.mark.parametrize("change", [{"centre": (4, 50)}, {"centre": (40, np.nan)}, {"radius_mm": 0}, {"radius_mm": 1}])
def test_discs_that_cannot_be_measured_are_refused(change: dict[str, object]) -> None:
    given = {"centre": (40, 50), "distance_mm": 20, "radius_mm": 5, "pixel_spacing_mm": SPACING}
    with pytest.raises(ImageRefusal, match="a disc of radius"):
        uniformity(np.zeros((80, 100)), **{**given, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "before", "mask"),
    [
        (noise(1), noise(1)[1:], None),
        (noise(1)[0], noise(1)[0], None),
        (noise(1), noise(1), np.zeros((48, 48), bool)),
        (noise(1), noise(1), np.ones((6, 48, 48), bool)),
    ],
)
def test_slices_that_do_not_fit_are_refused(output: np.ndarray, before: np.ndarray, mask: np.ndarray | None) -> None:
    with pytest.raises(ImageRefusal, match="volumes of shape"):
        slice_behaviour(output, before, mask=mask)


@pytest.mark.parametrize("values", [np.zeros((1, 1, 8, 8)), np.zeros((0, 8, 8)), np.full((1, 8, 8), np.nan)])
def test_arrays_that_are_no_images_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ImageRefusal, match="an array of shape"):
        disc_means(values, centres=[(4, 4)], radius_mm=3, pixel_spacing_mm=(1, 1))


@pytest.mark.parametrize("centre", [(3.9, 10.0), (10.0, 3.9), (15.1, 10.0), (10.0, 25.1), (np.nan, 10.0)])
def test_discs_across_any_border_are_refused(centre: tuple[float, float]) -> None:
    require_inside((20, 30), (4.0, 25.0), 4.5, (1.0, 1.0))
    with pytest.raises(ImageRefusal, match="disc"):
        require_inside((20, 30), centre, 4.5, (1.0, 1.0))
