from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from noise_level import noise_level_hu
from numpy.typing import NDArray
from objects import Image, ellipse, water
from scipy import ndimage

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.scanner.dose import acquire, insert_noise, scan_noise_hu, scanner_for
from iscl_monai.scanner.exposure import FEWEST_COUNTS, Exposure
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import hann
from iscl_monai.scanner.texture import soft_tissue, spectrum
from iscl_monai.scanner.virtual import VirtualScanner

SIZE, SPACING_MM = 192, 1.8
MIDDLE = (slice(80, 112), slice(80, 112))
REALISATIONS = 24
PLENTY, FEW = 4e5, 6e4
FRACTIONS = (1.0, 0.5, 0.25, 0.1)
Volume = NDArray[np.float32]


def inside(a_mm: float, b_mm: float, **place: float) -> NDArray[np.bool_]:
    return ellipse(SIZE, SPACING_MM, a_mm, b_mm, **place)


def patient(kind: str) -> Image:
    image_hu = water(SIZE, SPACING_MM, 150, 110)
    if kind == "bone":
        image_hu[inside(15, 15, x_mm=-85) | inside(15, 15, x_mm=85)] = 1500
    return image_hu


def scanner(photons: float) -> VirtualScanner:
    geometry = FanBeam.around(SIZE, SPACING_MM)
    return VirtualScanner(geometry=geometry, exposure=Exposure(photons=photons), kernel=hann(0.5 / SPACING_MM))


@cache
def scans(kind: str, photons: float, fraction: float) -> tuple[Volume, Volume]:
    """Realisations of one slice at a dose: scanned directly, and by insertion into full-dose scans."""
    names = [str(index) for index in range(REALISATIONS)]
    truth = patient(kind)[None]
    options: dict[str, Any] = {"spacing_mm": SPACING_MM, "photons": photons, "slice_ids": names}
    direct = acquire(truth, fraction=fraction, seed=2, **options)
    full = acquire(truth, fraction=1, seed=1, **options)
    low = insert_noise(full, spacing_mm=SPACING_MM, fraction=fraction, scanner=scanner(photons), seed=3)
    return direct, low


def noise_of(volume: Volume) -> Volume:
    """What differs between realisations, with the variance it has around the truth."""
    noise: Volume = (volume - volume.mean(axis=0)) * math.sqrt(REALISATIONS / (REALISATIONS - 1))
    return noise


def sigma_hu(volume: Volume) -> float:
    return float(noise_of(volume)[(slice(None), *MIDDLE)].std())


def mean_frequency(volume: Volume) -> float:
    return spectrum([plane[MIDDLE] for plane in noise_of(volume)], SPACING_MM).mean_per_mm()


@pytest.mark.parametrize("which", [0, 1], ids=["direct", "inserted"])
def test_sigma_goes_with_the_root_of_the_dose(which: int) -> None:
    full_hu = sigma_hu(scans("water", PLENTY, 1.0)[which])
    for fraction in (0.5, 0.25):
        low_hu = sigma_hu(scans("water", PLENTY, fraction)[which])
        assert low_hu * math.sqrt(fraction) == pytest.approx(full_hu, rel=0.05)


@pytest.mark.parametrize(("kind", "photons"), [("water", PLENTY), ("bone", FEW)])
@pytest.mark.parametrize("fraction", FRACTIONS[1:])
def test_inserted_noise_is_that_of_a_direct_scan(kind: str, photons: float, fraction: float) -> None:
    direct, low = scans(kind, photons, fraction)
    # All of the body, as the middle alone, with 24 realisations, has a statistical error of 2 %.
    body = inside(145, 105)
    assert noise_of(low)[:, body].std() == pytest.approx(noise_of(direct)[:, body].std(), rel=0.03)
    assert mean_frequency(low) == pytest.approx(mean_frequency(direct), rel=0.05)
    assert low[:, body].mean() == pytest.approx(direct[:, body].mean(), abs=1)


def test_the_bone_case_is_starved_and_the_water_case_is_not() -> None:
    """Else the test above shows nothing about photon starvation."""
    for kind, photons, starved in (("water", PLENTY, False), ("bone", FEW, True)):
        made = scanner(photons)
        counts = made.exposure.counts(made.line_integrals(patient(kind)), made.geometry)
        assert ((counts * 0.25).min() < FEWEST_COUNTS) == starved


def test_gaussian_noise_alone_would_be_too_little_under_starvation() -> None:
    """The reason for counting: without it the inserted noise of starved rays is what this shows."""
    direct, _ = scans("bone", FEW, 0.1)
    made = scanner(FEW)
    counts = made.exposure.counts(made.smooth_integrals(patient("bone")), made.geometry)
    body = inside(145, 105)
    gaussian = np.sqrt(made.exposure.added_variance(counts, 0.1))
    white = np.random.default_rng(0).standard_normal((8, *counts.shape)).astype(np.float32)
    noise = np.stack([made._as_noise(gaussian * one, patient("bone")) for one in white])
    full = noise_of(scans("bone", FEW, 1.0)[0])[:, body].std()
    assert math.hypot(noise[:, body].std(), full) != pytest.approx(noise_of(direct)[:, body].std(), rel=0.03)


@pytest.mark.parametrize("fraction", FRACTIONS[1:3])
def test_the_mean_does_not_shift(fraction: float) -> None:
    shown = acquire(patient("water")[None], spacing_mm=SPACING_MM, photons=math.inf)
    for volume in scans("water", PLENTY, fraction):
        for region in (inside(145, 105), inside(20, 20), inside(20, 20, x_mm=100)):
            assert abs((volume - shown)[:, region].mean()) < 1
        assert abs((volume - shown)[:, inside(20, 20, y_mm=-140)].mean()) < 1


def test_streaks_run_between_dense_discs() -> None:
    for volume in scans("bone", FEW, 0.25):
        power = np.mean([np.abs(np.fft.fft2(plane[MIDDLE])) ** 2 for plane in noise_of(volume)], axis=0)
        f = np.fft.fftfreq(len(power))
        # A streak along a row changes from row to row: its power lies at the row frequencies.
        along, across = np.abs(f) > 2 * np.abs(f[:, None]), np.abs(f[:, None]) > 2 * np.abs(f)
        assert power[across].mean() > 1.5 * power[along].mean()


def test_a_round_body_has_noise_without_direction_or_spokes() -> None:
    image_hu = np.repeat(water(SIZE, SPACING_MM, 130, 130)[None], REALISATIONS, axis=0)
    noise = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=0.25, scanner=scanner(PLENTY)) - image_hu
    power = np.mean([np.abs(np.fft.fft2(plane[MIDDLE])) ** 2 for plane in noise], axis=0)
    f = np.fft.fftfreq(len(power))
    flat, steep = np.abs(f) > 2 * np.abs(f[:, None]), np.abs(f[:, None]) > 2 * np.abs(f)
    assert power[steep].mean() / power[flat].mean() == pytest.approx(1, abs=0.15)
    whole = np.mean([np.abs(np.fft.fft2(plane)) ** 2 for plane in noise], axis=0)
    radius = np.hypot(g := np.fft.fftfreq(SIZE), g[:, None])
    ring = whole[(radius > 0.18) & (radius < 0.22)]
    # The mean of 24 realisations varies by 1 / sqrt(24) = 0.2 by chance.
    assert ring.std() / ring.mean() < 0.35


def test_the_expected_sigma_is_that_of_realisations() -> None:
    made = scanner(PLENTY)
    rng = np.random.default_rng(0)
    noise = np.stack([made.own_noise(patient("bone"), rng) for _ in range(REALISATIONS)])
    expected = made.expected_sigma_hu(patient("bone"))
    for region in (inside(20, 20), inside(15, 15, x_mm=110, y_mm=30), inside(140, 100)):
        assert noise[:, region].std() == pytest.approx(np.sqrt((expected[region] ** 2).mean()), rel=0.06)
    direct = noise_of(scans("bone", FEW, 1.0)[0])[:, inside(140, 100)].std()
    assert np.sqrt((scanner(FEW).expected_sigma_hu(patient("bone"))[inside(140, 100)] ** 2).mean()) == pytest.approx(
        direct, rel=0.05
    )


def test_thick_patients_get_more_noise_and_more_current_less() -> None:
    made, rng = scanner(PLENTY), np.random.default_rng(0)
    thick, thin = (water(SIZE, SPACING_MM, a, b) for a, b in ((165, 130), (80, 60)))
    core = inside(50, 40)
    strong = made.added_noise(thick, 0.25, rng)[0][core].std()
    assert strong > 2 * made.added_noise(thin, 0.25, rng)[0][core].std()
    assert made.added_noise(thick, 0.25, rng, tube_current=4)[0][core].std() == pytest.approx(strong / 2, rel=0.1)


def test_modulation_and_bowtie_do_what_they_are_for() -> None:
    geometry = FanBeam.around(SIZE, SPACING_MM)
    integrals = scanner(1e5).line_integrals(patient("water"))
    plain, modulated, filtered = (
        Exposure(photons=1e5, bowtie=bowtie, modulation=modulation).counts(integrals, geometry)
        for bowtie, modulation in ((0, 0), (0, 0.5), (0.4, 0))
    )
    middle = slice(geometry.detectors // 2 - 4, geometry.detectors // 2 + 4)
    # The same photons in all, spread so that the views through the long axis are less starved.
    air_per_view = modulated[:, 0] / plain[:, 0]
    assert air_per_view.mean() == pytest.approx(1, rel=1e-4)
    assert modulated[:, middle].min() > 1.3 * plain[:, middle].min()
    np.testing.assert_allclose(filtered[:, middle], plain[:, middle], rtol=0.01)
    assert filtered[0, 0] / plain[0, 0] == pytest.approx(math.exp(-0.4 * 0.0192 * 250), rel=0.01)


@pytest.mark.parametrize("asked_hu", [8.0, 24.0])
def test_noise_free_images_get_the_noise_that_is_asked_for(asked_hu: float) -> None:
    image_hu = np.repeat(water(SIZE, SPACING_MM, 105, 80, hu=40)[None], 16, axis=0)
    low_hu = insert_noise(image_hu, spacing_mm=SPACING_MM, fraction=0.5, full_dose_noise_hu=asked_hu, seed=1)
    added_hu = low_hu - image_hu  # at half the dose as much as the full dose has, but for electronic noise
    assert noise_level_hu(added_hu, image_hu, SPACING_MM) == pytest.approx(asked_hu, rel=0.06)
    tissue = soft_tissue(image_hu)[0].astype(np.float64)
    variance = (added_hu.astype(np.float64) ** 2).mean(axis=0)
    smooth = ndimage.uniform_filter(variance * tissue, 9) / ndimage.uniform_filter(tissue, 9).clip(1e-6)
    assert np.sqrt(np.percentile(smooth[tissue > 0], 10)) == pytest.approx(asked_hu, rel=0.06)


def test_a_scans_own_noise_and_texture_are_found() -> None:
    """Scans of known photons and kernel: the calibration must find both, from the images alone."""
    truth = np.stack([water(SIZE, SPACING_MM, a, b, hu=30) for a, b in ((150, 110), (140, 115), (150, 120))])
    for kernel, photons in ((hann(0.5 / SPACING_MM), 3e5), (hann(0.3 / SPACING_MM), 1e5)):
        scan_hu = acquire(truth, spacing_mm=SPACING_MM, photons=photons, kernel=kernel, seed=5)
        found = scanner_for(scan_hu, spacing_mm=SPACING_MM)
        assert found.kernel.name == "fitted"
        # Below three cycles in a patch the window is taken to be 1: only its shape above can be right.
        above = np.linspace(3 / (32 * SPACING_MM), 0.9 * kernel.frequencies_per_mm[-1], 8)
        shapes = [one.at(above) / one.at(above)[0] for one in (kernel, found.kernel)]
        np.testing.assert_allclose(shapes[1], shapes[0], atol=0.12)
        rng = np.random.default_rng(0)
        own_hu = np.stack([found.own_noise(plane, rng) for plane in scan_hu])
        shown = acquire(truth, spacing_mm=SPACING_MM, photons=math.inf, kernel=kernel)
        body = inside(135, 100)
        assert own_hu[:, body].std() == pytest.approx((scan_hu - shown)[:, body].std(), rel=0.05)
        real, made = ([plane[MIDDLE] for plane in volume] for volume in (scan_hu - shown, own_hu))
        wanted, got = (spectrum(patches, SPACING_MM).mean_per_mm() for patches in (real, made))
        assert got == pytest.approx(wanted, rel=0.05)


def test_anatomy_is_not_taken_for_noise() -> None:
    plain = np.stack([water(SIZE, SPACING_MM, 150, 110, hu=30)] * 3)
    busy = plain.copy()
    for column_mm in range(-100, 101, 40):
        busy[:, inside(4, 60, x_mm=column_mm)] += 60  # vessels: many windows hold an edge
    texture = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=plain[0].shape), 1.2)
    textured = (plain + 12 * texture / texture.std() * (plain > 0)).astype(np.float32)
    for objects in (plain, busy, textured):
        scan_hu, shown_hu = (acquire(objects, spacing_mm=SPACING_MM, photons=n, seed=5) for n in (2e5, math.inf))
        found = scanner_for(scan_hu, spacing_mm=SPACING_MM)
        own_hu = np.stack([found.own_noise(plane, np.random.default_rng(0)) for plane in plain])
        body = inside(135, 100)
        assert own_hu[:, body].std() == pytest.approx((scan_hu - shown_hu)[:, body].std(), rel=0.1)


def inserted(image_hu: Volume, **options: Any) -> Volume:
    arguments = {"spacing_mm": 2.0, "fraction": 0.25, "full_dose_noise_hu": 10.0, "seed": 1, **options}
    return insert_noise(image_hu, **arguments) - image_hu


def small(slices: int = 2) -> Volume:
    return np.repeat(water(96, 2.0, 85, 70)[None], slices, axis=0)


def test_a_slices_noise_follows_its_name_alone() -> None:
    image_hu, names = small(6), [f"1.2.{index}" for index in range(6)]
    added_hu = inserted(image_hu, slice_ids=names)
    order = [4, 0, 3]
    again_hu = inserted(image_hu[order], slice_ids=[names[index] for index in order])
    np.testing.assert_allclose(again_hu, added_hu[order], atol=0.01)
    other_hu = inserted(image_hu, slice_ids=[f"2.{index}" for index in range(6)])
    for one in (*added_hu[1:], *other_hu):
        assert abs(np.corrcoef(one.ravel(), added_hu[0].ravel())[0, 1]) < 0.1


def test_same_seed_same_noise_other_seed_or_dose_other_noise() -> None:
    first, again, other = (inserted(small(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1
    lower = inserted(small(), seed=3, fraction=0.2)
    assert abs(np.corrcoef(first.ravel(), lower.ravel())[0, 1]) < 0.1


def test_both_backends_add_the_same() -> None:
    one, other = (inserted(small(1), backend=backend) for backend in ("numba", "torch"))
    assert np.abs(one - other).max() < 0.1 * one.std()
    assert (one - other).std() < 0.005 * one.std()


def test_padding_stays_bit_for_bit_and_air_does_not() -> None:
    image_hu = small(1)
    image_hu[:, ~ellipse(96, 2.0, 94, 94)] = -2000.25
    added_hu = inserted(image_hu)
    assert (added_hu[image_hu < -1100] == 0).all()
    assert (added_hu[image_hu == -1000] != 0).mean() > 0.99
    mask = np.zeros(image_hu.shape, bool)
    mask[:, 40:50, 40:50] = True
    assert (inserted(image_hu, padding=mask)[mask] == 0).all()


def test_padding_counts_as_air_for_the_rays() -> None:
    air, padded = patient("water"), patient("water")
    padded[padded == -1000] = -3000
    np.testing.assert_array_equal(scanner(1e5).smooth_integrals(air), scanner(1e5).smooth_integrals(padded))


def test_smooth_integrals_are_as_good_as_exact_ones() -> None:
    geometry = FanBeam.around(384, 0.9)
    fine = VirtualScanner(geometry=geometry, exposure=Exposure(photons=1e5), kernel=hann(0.5))
    image_hu = water(384, 0.9, 140, 100)
    image_hu[ellipse(384, 0.9, 10, 10, x_mm=50, y_mm=20)] = 800
    exact, found = fine.line_integrals(image_hu), fine.smooth_integrals(image_hu)
    assert np.abs(found - exact).mean() < 0.01
    assert np.abs(found - exact)[exact > 1].max() < 0.25


def test_any_shape_is_scanned() -> None:
    wide = np.full((1, 60, 97), -1000, np.float32)
    wide[:, 15:45, 20:77] = 20
    noise = inserted(wide)
    assert noise.shape == wide.shape
    assert noise[:, 25:35, 30:67].std() > 1.2 * noise[:, 2:8, 2:8].std()


def test_full_dose_is_the_scan_itself_and_the_input_is_left_alone() -> None:
    image_hu = small()
    before = image_hu.copy()
    same = insert_noise(image_hu, spacing_mm=2, fraction=1, seed=0)
    np.testing.assert_array_equal(same, image_hu)
    low = insert_noise(image_hu, spacing_mm=2, fraction=0.5, full_dose_noise_hu=9, seed=0)
    np.testing.assert_array_equal(image_hu, before)
    assert not np.shares_memory(same, image_hu)
    assert low.dtype == same.dtype == np.float32


def test_scan_noise_is_measured_in_flat_tissue_only() -> None:
    rng = np.random.default_rng(0)
    image_hu = (np.stack([water(128, 2, 100, 80, hu=50)] * 4) + rng.normal(0, 12, (4, 128, 128))).astype(np.float32)
    plain = scan_noise_hu(image_hu)
    assert 0.8 * 12 < plain < 12
    image_hu[:, 60:64] += 400  # an edge must not count as noise
    assert scan_noise_hu(image_hu) == pytest.approx(plain, rel=0.05)
    assert scan_noise_hu(image_hu[:1]) == pytest.approx(noise_sigma_hu(image_hu[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "refusal", "word"),
    [
        ({"fraction": 0.0}, ConfigRefusal, "fraction"),
        ({"fraction": 1.5}, ConfigRefusal, "fraction"),
        ({"fraction": math.nan}, ConfigRefusal, "fraction"),
        ({"full_dose_noise_hu": 0.0}, ConfigRefusal, "noise"),
        ({"full_dose_noise_hu": None}, ImageRefusal, "noise"),  # a flat image has none of its own
        ({"spacing_mm": 0.0}, ConfigRefusal, "spacing"),
        ({"slice_ids": ["a", "a"]}, ConfigRefusal, "slice_id"),
        ({"slice_ids": ["a"]}, ConfigRefusal, "slice_id"),
    ],
)
def test_arguments_without_sense_are_refused(change: dict[str, Any], refusal: type[Exception], word: str) -> None:
    with pytest.raises(refusal, match=word):
        inserted(np.zeros((2, 64, 64), np.float32), **change)


@pytest.mark.parametrize("value", [-1000.0, np.nan])
def test_images_without_tissue_are_refused(value: float) -> None:
    with pytest.raises(ImageRefusal):
        inserted(np.full((1, 64, 64), value, np.float32))
    with pytest.raises(ImageRefusal):
        insert_noise(np.zeros((64, 64), np.float32), spacing_mm=1, fraction=0.5, full_dose_noise_hu=9)
    with pytest.raises(ImageRefusal, match="square"):
        acquire(np.zeros((1, 64, 60), np.float32), spacing_mm=1, photons=1e5)


@pytest.mark.parametrize("change", [{"photons": 0}, {"electronic_noise": -1}, {"bowtie": 2}, {"modulation": math.nan}])
def test_exposures_without_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefusal, match="photons"):
        Exposure(**{"photons": 1e5, **change})
