from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from noise_level import noise_level_hu
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.dose import insert_noise, ray_variance, scan_noise_hu, scanner, soft_tissue
from data_prep.projector import ParallelBeam, forward_project
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.quality.noise import noise_sigma_hu

SIZE, SPACING_MM = 128, 2.0
AXIS = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
Volume = NDArray[np.float32]


def ellipse(a_mm: float, b_mm: float, *, x_mm: float = 0.0, y_mm: float = 0.0) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((AXIS - x_mm) / a_mm) ** 2 + ((AXIS[:, None] - y_mm) / b_mm) ** 2 <= 1
    return inside


def water(a_mm: float, b_mm: float, *, slices: int = 1, hu: float = 0.0) -> Volume:
    plane = np.where(ellipse(a_mm, b_mm), hu, -1000).astype(np.float32)
    return np.repeat(plane[None], slices, axis=0)


def inserted(image_hu: Volume, **options: Any) -> Volume:
    arguments = {"spacing_mm": SPACING_MM, "fraction": 0.25, "full_dose_noise_hu": 10.0, "seed": 1, **options}
    return insert_noise(image_hu, **arguments) - image_hu


@pytest.fixture(scope="module")
def noise() -> Volume:
    """Noise of 10 HU * sqrt(3) over 40 equal slices of an ellipse of water."""
    return inserted(water(105, 80, slices=40))


@pytest.fixture(scope="module")
def round_noise() -> Volume:
    return inserted(water(100, 100, slices=40))


def power(noise_hu: Volume, half: int = 16) -> NDArray[np.float64]:
    """Noise power spectrum of the middle, HU^2 mm^2, zero frequency first: (row, column) frequencies."""
    middle = slice(SIZE // 2 - half, SIZE // 2 + half)
    patch = noise_hu[:, middle, middle].astype(np.float64)
    spectrum: NDArray[np.float64] = (np.abs(np.fft.fft2(patch)) ** 2).mean(axis=0) * SPACING_MM**2 / patch[0].size
    return spectrum


def radial(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power in 8 rings from zero to the Nyquist frequency."""
    f = np.fft.fftfreq(len(spectrum))
    ring = (np.hypot(f, f[:, None]) * 16).astype(int)
    return np.array([spectrum[ring == index].mean() for index in range(8)])


@pytest.mark.parametrize(("fraction", "asked_hu"), [(0.5, 8.0), (0.1, 24.0), (0.25, 13.86)])
def test_sigma_is_as_asked(fraction: float, asked_hu: float) -> None:
    image_hu = water(105, 80, slices=32, hu=40.0)
    added_hu = inserted(image_hu, fraction=fraction, full_dose_noise_hu=8.0)
    tissue = soft_tissue(image_hu)[0].astype(np.float64)
    # The variance over equal slices still varies by chance from voxel to voxel, and is smooth in truth.
    variance = (added_hu.astype(np.float64) ** 2).mean(axis=0)
    smooth = ndimage.uniform_filter(variance * tissue, 7) / ndimage.uniform_filter(tissue, 7).clip(1e-6)
    assert np.sqrt(np.percentile(smooth[tissue > 0], 10)) == pytest.approx(asked_hu, rel=0.05)
    # What the other tests measure by, where there is one slice of a kind:
    assert noise_level_hu(added_hu, image_hu, SPACING_MM) == pytest.approx(asked_hu, rel=0.02)


def test_the_scans_own_noise_is_the_default() -> None:
    image_hu = water(105, 80, slices=12) + inserted(water(105, 80, slices=12), fraction=0.5)
    added_hu = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=0.5, seed=2) - image_hu
    noise_hu = scan_noise_hu(image_hu)
    assert noise_level_hu(added_hu, image_hu, SPACING_MM) == pytest.approx(noise_hu, rel=0.05)
    core = ellipse(80, 60)
    assert added_hu[:, core].std() == pytest.approx(image_hu[:, core].std(), rel=0.05)


@pytest.mark.parametrize("fraction", [0.25, 0.1])
def test_measured_noise_rises_as_dose_falls(fraction: float) -> None:
    image_hu = water(105, 80, slices=12) + inserted(water(105, 80, slices=12), fraction=0.5)
    low_hu = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=fraction, seed=2)
    expected_hu = scan_noise_hu(image_hu) / math.sqrt(fraction)
    assert scan_noise_hu(low_hu) == pytest.approx(expected_hu, rel=0.05)


def test_mean_does_not_shift(noise: Volume) -> None:
    for region in (ellipse(105, 80), ellipse(20, 20), ellipse(15, 15, x_mm=70)):
        assert abs(noise[:, region].mean()) < 0.5


def test_power_spectrum_adds_up_to_the_variance(noise: Volume) -> None:
    spectrum = power(noise)
    step = 1 / (len(spectrum) * SPACING_MM)
    middle = noise[:, SIZE // 2 - 16 : SIZE // 2 + 16, SIZE // 2 - 16 : SIZE // 2 + 16]
    assert spectrum.sum() * step**2 == pytest.approx((middle.astype(np.float64) ** 2).mean(), rel=1e-6)


def test_texture_is_that_of_a_reconstruction(round_noise: Volume) -> None:
    rings = radial(power(round_noise))
    assert 1 <= rings.argmax() <= 5  # white noise would be flat, smoothed noise highest at zero
    assert rings[0] < 0.5 * rings.max()
    assert rings[7] < 0.2 * rings.max()


def test_texture_has_no_direction_in_a_round_body(round_noise: Volume) -> None:
    spectrum = power(round_noise)
    f = np.fft.fftfreq(len(spectrum))
    flat, steep = np.abs(f) > 2 * np.abs(f[:, None]), np.abs(f[:, None]) > 2 * np.abs(f)
    assert spectrum[steep].mean() / spectrum[flat].mean() == pytest.approx(1, abs=0.15)


def test_views_are_dense_enough_to_leave_no_spokes(round_noise: Volume) -> None:
    spectrum = power(round_noise, half=SIZE // 2)
    radius = np.hypot(f := np.fft.fftfreq(SIZE), f[:, None])
    ring = spectrum[(radius > 0.18) & (radius < 0.22)]
    # The mean of 40 slices varies by 1 / sqrt(40) = 0.16 by chance.
    assert ring.std() / ring.mean() < 0.3


def test_streaks_run_between_dense_discs() -> None:
    image_hu = water(105, 80, slices=16)
    image_hu[:, ellipse(15, 15, x_mm=-65) | ellipse(15, 15, x_mm=65)] = 2500
    spectrum = power(inserted(image_hu), half=6)
    f = np.fft.fftfreq(len(spectrum))
    # A streak along a row changes from row to row: its power lies at the row frequencies.
    along, across = np.abs(f) > 2 * np.abs(f[:, None]), np.abs(f[:, None]) > 2 * np.abs(f)
    assert spectrum[across].mean() > 2 * spectrum[along].mean()


def test_thick_slices_get_more_noise_than_thin_ones_of_the_same_series() -> None:
    added_hu = inserted(np.concatenate([water(120, 90), water(60, 50)]))
    core = ellipse(40, 40)
    assert added_hu[0][core].std() > 2 * added_hu[1][core].std()


def test_a_slices_noise_follows_its_name_alone() -> None:
    image_hu, names = water(90, 70, slices=6), [f"1.2.{index}" for index in range(6)]
    added_hu = inserted(image_hu, slice_ids=names)
    order = [4, 0, 3]
    again_hu = inserted(image_hu[order], slice_ids=[names[index] for index in order])
    np.testing.assert_allclose(again_hu, added_hu[order], atol=0.01)
    other_hu = inserted(image_hu, slice_ids=[f"2.{index}" for index in range(6)])
    for one in (*added_hu[1:], *other_hu):
        assert abs(np.corrcoef(one.ravel(), added_hu[0].ravel())[0, 1]) < 0.1


def test_same_seed_same_noise_other_seed_other_noise() -> None:
    image_hu = water(90, 70, slices=2)
    first, again, other = (inserted(image_hu, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1


def test_padding_stays_bit_for_bit_and_air_does_not() -> None:
    image_hu = water(90, 70)
    image_hu[:, ~ellipse(125, 125)] = -2000.25
    added_hu = inserted(image_hu)
    assert (added_hu[image_hu < -1100] == 0).all()
    assert (added_hu[image_hu == -1000] != 0).mean() > 0.99
    mask = np.zeros(image_hu.shape, bool)
    mask[:, 60:70, 60:70] = True
    assert (inserted(image_hu, padding=mask)[mask] == 0).all()


def test_padding_counts_as_air_for_the_rays() -> None:
    air, padded = water(90, 70), water(90, 70)
    padded[padded == -1000] = -3000
    beam = scanner(SIZE, SIZE, SPACING_MM)
    np.testing.assert_array_equal(ray_variance(air, beam).numpy(), ray_variance(padded, beam).numpy())


def test_full_dose_is_the_scan_itself_and_the_input_is_left_alone() -> None:
    image_hu = water(90, 70)
    before = image_hu.copy()
    same = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=1, seed=0)
    np.testing.assert_array_equal(same, image_hu)
    low = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=0.5, full_dose_noise_hu=9, seed=0)
    np.testing.assert_array_equal(image_hu, before)
    assert not np.shares_memory(same, image_hu)
    assert low.dtype == same.dtype == np.float32


def test_coarse_rays_are_as_good_as_fine_ones() -> None:
    image_hu = np.where(ellipse(105, 80), 0, -1000).astype(np.float32)[None]
    image_hu[:, ellipse(10, 10, x_mm=50, y_mm=20)] = 800
    fine = ParallelBeam(rows=SIZE, columns=SIZE, spacing_mm=1.0, views=200)  # 2 mm are enough: twice coarser
    found = ray_variance(image_hu, fine).log()

    mu = torch.from_numpy(0.0192 * (1 + image_hu / 1000)).clamp(min=0)
    exact = forward_project(mu, fine)
    assert (found - exact).abs().mean().item() < 0.01
    assert (found - exact)[exact > 1].abs().max().item() < 0.25


def test_scan_noise_is_measured_in_flat_tissue_only() -> None:
    rng = np.random.default_rng(0)
    image_hu = (water(100, 80, slices=4, hu=50) + rng.normal(0, 12, (4, SIZE, SIZE))).astype(np.float32)
    plain = scan_noise_hu(image_hu)
    assert 0.8 * 12 < plain < 12
    image_hu[:, 60:64] += 400  # an edge must not count as noise
    assert scan_noise_hu(image_hu) == pytest.approx(plain, rel=0.05)


def test_scan_noise_pools_the_slices() -> None:
    rng = np.random.default_rng(0)
    image_hu = water(100, 80, slices=4, hu=50)
    image_hu += np.array([5, 20, 20, 20])[:, None, None] * rng.normal(size=image_hu.shape).astype(np.float32)
    found = []
    for plane in image_hu.astype(np.float64):
        variance = ndimage.uniform_filter(plane**2, 9) - ndimage.uniform_filter(plane, 9) ** 2
        found.append(np.sqrt(variance)[soft_tissue(plane)])
    assert scan_noise_hu(image_hu) == pytest.approx(np.percentile(np.concatenate(found), 10), rel=1e-4)
    assert scan_noise_hu(image_hu[:1]) == pytest.approx(noise_sigma_hu(image_hu[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "refusal", "word"),
    [
        ({"fraction": 0.0}, ConfigRefusal, "fraction"),
        ({"fraction": 1.5}, ConfigRefusal, "fraction"),
        ({"fraction": math.nan}, ConfigRefusal, "fraction"),
        ({"full_dose_noise_hu": 0.0}, ConfigRefusal, "noise"),
        ({"full_dose_noise_hu": None}, ConfigRefusal, "noise"),  # a flat image has none of its own
        ({"spacing_mm": 0.0}, ConfigRefusal, "spacing"),
        ({"slice_ids": ["a", "a"]}, ConfigRefusal, "slice_id"),
        ({"slice_ids": ["a"]}, ConfigRefusal, "slice_id"),
    ],
)
def test_arguments_without_sense_are_refused(change: dict[str, Any], refusal: type[Exception], word: str) -> None:
    flat = np.zeros((2, 64, 64), np.float32)
    with pytest.raises(refusal, match=word):
        inserted(flat, **change)


@pytest.mark.parametrize("value", [-1000.0, np.nan])
def test_images_without_tissue_are_refused(value: float) -> None:
    with pytest.raises(ImageRefusal):
        inserted(np.full((1, 64, 64), value, np.float32))
    with pytest.raises(ImageRefusal):
        insert_noise(np.zeros((64, 64), np.float32), spacing_mm=1, fraction=0.5, full_dose_noise_hu=9)
