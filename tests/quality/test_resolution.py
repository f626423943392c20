from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from iscl_monai.errors import ImageRefusal
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.phantom.objects import Disc, draw_discs, inserts
from iscl_monai.quality.resolution import TaskTransferFunction, task_transfer
from iscl_monai.scanner.dose import acquire

SPACING = 0.6
RADIUS = 12.0
FINE = 6


def insert(
    centre: tuple[float, float] = (40.3, 39.6),
    *,
    sigma_mm: float = 0.7,
    contrast_hu: float = 100.0,
    size: int = 81,
    spacing: tuple[float, float] = (SPACING, SPACING),
) -> np.ndarray:
    """An anti-aliased disc on a fine grid, blurred by a Gaussian, then averaged over the pixels."""
    step = [mm / FINE for mm in spacing]
    shape = [round(size * SPACING / mm) * FINE for mm in spacing]
    middle = [(at + 0.5) * FINE - 0.5 for at in centre]
    if spacing[0] == spacing[1]:
        disc = disc_coverage(tuple(shape), (middle[0], middle[1]), RADIUS / step[0])
    else:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        away = np.hypot((rows - middle[0]) * step[0], (columns - middle[1]) * step[1])
        disc = (away <= RADIUS).astype(np.float32)
    blurred = ndimage.gaussian_filter(disc.astype(float), [sigma_mm / mm for mm in step], truncate=6)
    pixels = blurred.reshape(shape[0] // FINE, FINE, shape[1] // FINE, FINE).mean(axis=(1, 3))
    return contrast_hu * pixels


def noise(seed: int, count: int, sigma_hu: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma_hu, (count, 81, 81))


def expected(frequency: np.ndarray, sigma_mm: float, spacing: float = SPACING) -> np.ndarray:
    """The Gaussian's transform times that of a square pixel, averaged over directions."""
    angle = np.linspace(0, np.pi / 4, 40)[:, None]
    pixel = np.sinc(frequency * spacing * np.cos(angle)) * np.sinc(frequency * spacing * np.sin(angle))
    return np.exp(-2 * (np.pi * sigma_mm * frequency) ** 2) * pixel.mean(axis=0)


def measured(image: np.ndarray, **change: object) -> TaskTransferFunction:
    given = {"centre": (40.0, 40.0), "radius_mm": RADIUS, "pixel_spacing_mm": (SPACING, SPACING), **change}
    return task_transfer(image, **given)  # type: ignore[arg-type]


def check(transfer: TaskTransferFunction, sigma_mm: float, tolerance: float = 0.02, pixel: float = SPACING) -> None:
    truth = expected(transfer.frequency_per_mm, sigma_mm, pixel)
    up_to_f10 = truth >= 0.1
    np.testing.assert_allclose(transfer.value[up_to_f10], truth[up_to_f10], rtol=tolerance)
    for level, frequency_per_mm in ((0.5, transfer.f50_per_mm), (0.1, transfer.f10_per_mm)):
        assert frequency_per_mm == pytest.approx(np.interp(-level, -truth, transfer.frequency_per_mm), rel=0.01)


@settings(max_examples=12, deadline=None)
@given(row=st.floats(39.5, 40.5), column=st.floats(39.5, 40.5))
@example(row=40.0, column=40.0)
@example(row=39.5, column=40.5)
def test_a_gaussian_is_found_wherever_the_centre_is(row: float, column: float) -> None:
    transfer = measured(insert((row, column)))
    check(transfer, 0.7)
    assert transfer.centre == pytest.approx((row, column), abs=0.01)


@pytest.mark.parametrize("sigma_mm", [0.6, 0.9, 1.2])
@pytest.mark.parametrize("contrast_hu", [-900.0, 40.0])
def test_the_width_is_told_and_the_contrast_signed(sigma_mm: float, contrast_hu: float) -> None:
    transfer = measured(20 + insert(sigma_mm=sigma_mm, contrast_hu=contrast_hu))
    check(transfer, sigma_mm)
    assert transfer.contrast_hu == pytest.approx(contrast_hu, rel=0.002)


def test_pixels_need_not_be_square() -> None:
    image = insert((40.3, 53.2), sigma_mm=0.9, spacing=(0.6, 0.45))
    transfer = measured(image, centre=(40, 53), pixel_spacing_mm=(0.6, 0.45))
    truth = np.exp(-2 * (np.pi * 0.9 * transfer.frequency_per_mm) ** 2)
    f50 = np.interp(-0.5, -truth, transfer.frequency_per_mm)
    assert 0.94 * f50 < transfer.f50_per_mm < f50  # the pixel takes a little away


def test_a_known_centre_may_be_kept() -> None:
    check(measured(insert(), centre=(40.3, 39.6), fit_centre=False), 0.7)
    off = measured(insert(), centre=(41.3, 39.6), fit_centre=False)
    assert off.centre == (41.3, 39.6)
    assert off.f50_per_mm < 0.95 * measured(insert()).f50_per_mm


def test_repeats_are_averaged_until_the_edge_stands_out() -> None:
    noisy = insert() + noise(1, 20, 20)
    with pytest.raises(ImageRefusal, match=r"CNR 5\.0.*15 or more"):
        measured(noisy[0])
    transfer = measured(noisy)
    assert transfer.edge_cnr == pytest.approx(100 / 20 * np.sqrt(20), rel=0.06)
    truth = measured(insert())
    assert transfer.f50_per_mm == pytest.approx(truth.f50_per_mm, rel=0.03)


def test_forcing_the_edge_to_rise_quiets_f10() -> None:
    image = insert()
    truth = measured(image).f10_per_mm
    errors = {
        monotone: [measured(image + noise(seed, 1, 6), monotone=monotone).f10_per_mm - truth for seed in range(30)]
        for monotone in (False, True)
    }
    assert np.mean(np.square(errors[True])) < 0.7 * np.mean(np.square(errors[False]))


@pytest.mark.parametrize("contrast_hu", [100.0, -100.0])
def test_an_overshoot_is_seen_unless_forced_away(contrast_hu: float) -> None:
    image = insert(contrast_hu=contrast_hu)
    sharpened = 2 * image - ndimage.gaussian_filter(image, 2)
    assert measured(sharpened).value.max() > 1.1
    assert measured(sharpened, monotone=True).value.max() < 1.01
    check(measured(image, monotone=True), 0.7)


def test_a_denoiser_that_blurs_is_caught_and_one_that_copies_is_not() -> None:
    noisy = insert() + noise(1, 4, 5)
    before = measured(noisy)
    blurred = measured(ndimage.gaussian_filter(noisy, (0, 1.2, 1.2)))
    assert blurred.f50_per_mm < 0.75 * before.f50_per_mm
    assert measured(noisy.copy()).f50_per_mm == before.f50_per_mm
    sigma_mm = np.hypot(0.7, 1.2 * SPACING)
    assert blurred.f50_per_mm == pytest.approx(np.sqrt(np.log(2) / 2) / np.pi / sigma_mm, rel=0.05)


def test_a_denoiser_that_blurs_low_contrast_only_is_caught_at_that_contrast() -> None:
    def denoise(image: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(image, 1.5)
        return np.where(np.abs(image - smooth) < 30, smooth, image)

    change = [
        measured(denoise(insert(contrast_hu=hu))).f50_per_mm / measured(insert(contrast_hu=hu)).f50_per_mm
        for hu in (50.0, 1000.0)
    ]
    assert change[0] < 0.7
    assert change[1] > 0.9


def test_the_simulated_scanner_resolves_all_contrasts_alike() -> None:
    size, spacing = 256, 1.25
    water, *discs = inserts(np.random.default_rng(0))
    drawn = draw_discs([water, *discs], size=size, spacing_mm=spacing)[None]
    shown = acquire(drawn, spacing_mm=spacing, photons=np.inf)

    def rod(disc: Disc) -> TaskTransferFunction:
        place = disc.place(size, spacing)
        return task_transfer(shown, centre=place, radius_mm=disc.radius_mm, pixel_spacing_mm=(spacing, spacing))

    rods = [rod(disc) for disc in discs]
    f50, contrast = np.array([(rod.f50_per_mm, rod.contrast_hu) for rod in rods]).T
    np.testing.assert_allclose(contrast, [disc.hu for disc in discs], rtol=0.01)
    np.testing.assert_allclose(f50, f50.mean(), rtol=0.03)
    # Below the 0.2 per mm of its Hann kernel, by the blur of pixels and detectors.
    assert 0.15 < f50.mean() < 0.2


def test_frequencies_that_were_not_measured_transfer_nothing() -> None:
    transfer = measured(insert())
    assert transfer.value[0] == 1
    assert transfer.frequency_per_mm[-1] == pytest.approx(0.5 / SPACING)
    at_f50 = np.interp(transfer.f50_per_mm, transfer.frequency_per_mm, transfer.value)
    assert at_f50 == pytest.approx(0.5, abs=1e-3)


def test_levels_that_are_not_reached_are_not_told() -> None:
    sharp = disc_coverage((81, 81), (40.3, 39.6), RADIUS / SPACING).astype(float)
    assert np.isnan(measured(sharp).f10_per_mm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": (20.0, 40.0)}, "inside the image"),
        ({"radius_mm": 20.0}, "inside the image"),
        ({"reach_mm": 12.0}, "less than the radius"),
        ({"reach_mm": 0.0}, "less than the radius"),
        ({"radius_mm": 0.3, "reach_mm": 0.2}, "pixels inside"),
    ],
)
def test_inserts_that_cannot_be_measured_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ImageRefusal, match=message):
        measured(insert(), **change)


def test_a_place_without_an_insert_is_refused() -> None:
    with pytest.raises(ImageRefusal, match="CNR 0"):
        measured(np.zeros((81, 81)))
    away = np.pad(insert(), ((0, 0), (0, 60)))
    with pytest.raises(ImageRefusal, match=r"CNR|centre of mass"):
        measured(away, centre=(40.0, 58.0))
    # A step beside the place pulls the centre out of what was to be measured.
    step = np.zeros((81, 81))
    step[:, 52:] = 100
    with pytest.raises(ImageRefusal, match="centre of mass"):
        measured(step, lowest_cnr=0)


def test_an_independent_toolbox_agrees() -> None:
    toolbox = pytest.importorskip("microct_iq_toolbox", reason="only a cross-check")
    image = insert((40.0, 40.0), sigma_mm=0.9)
    theirs = toolbox.api.ttf(image[None], [[40, 40], [40, 40]], 32, SPACING, process_lsf=False)
    theirs_per_mm = theirs.summary["ttf50_mean"]
    assert measured(image).f50_per_mm == pytest.approx(theirs_per_mm, rel=0.02)
