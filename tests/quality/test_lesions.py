from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.quality.lesions import (
    Lesion,
    Recovery,
    contrast_recovery,
    gaussian_blur,
    insert_lesions,
    lesion_image,
    wilson,
)
from iscl_monai.quality.resolution import task_transfer

SPACING = (0.7, 0.7)
BLUR = gaussian_blur(0.7)
SHAPE = (64, 72)


def lesion(**change: object) -> Lesion:
    given = {"slice_index": 0, "centre": (31.3, 36.8), "diameter_mm": 6.0, "contrast_hu": 20.0, **change}
    return Lesion(**given)  # type: ignore[arg-type]


def image_of(one: Lesion, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return lesion_image(shape, one, pixel_spacing_mm=SPACING, blur=BLUR)


def many(contrast_hu: float = 20.0, diameter_mm: float = 5.0) -> list[Lesion]:
    """Eight over two slices."""
    places = [(16.2, 18.0), (16.0, 50.7), (46.5, 18.4), (47.0, 51.0)]
    return [
        lesion(slice_index=index, centre=place, contrast_hu=contrast_hu, diameter_mm=diameter_mm)
        for index in (0, 1)
        for place in places
    ]


def noisy(seed: int = 1) -> np.ndarray:
    return (40 + np.random.default_rng(seed).normal(0, 25, (2, *SHAPE))).astype(np.float32)


def recovery(denoise: Callable[[np.ndarray], np.ndarray], lesions: list[Lesion] | None = None) -> Recovery:
    return contrast_recovery(denoise, noisy(), lesions or many(), pixel_spacing_mm=SPACING, blur=BLUR)


@settings(max_examples=12, deadline=None)
@given(row=st.floats(30, 32), column=st.floats(35, 37), diameter_mm=st.floats(2, 9), contrast_hu=st.floats(-50, 50))
def test_a_disc_is_drawn_as_by_hand(row: float, column: float, diameter_mm: float, contrast_hu: float) -> None:
    """By hand: on a fine grid, where points are nearly the pixels of the drawing."""
    fine = 5
    shape = [count * fine for count in SHAPE]
    sharp = disc_coverage((shape[0], shape[1]), (row * fine, column * fine), diameter_mm / 2 / SPACING[0] * fine)
    by_hand = ndimage.gaussian_filter(sharp.astype(float), 0.7 / SPACING[0] * fine, truncate=7)[::fine, ::fine]
    drawn = image_of(lesion(centre=(row, column), diameter_mm=diameter_mm, contrast_hu=contrast_hu))
    np.testing.assert_allclose(drawn, contrast_hu * by_hand, atol=0.01 * abs(contrast_hu) + 1e-9)


def test_a_gaussian_stays_one() -> None:
    drawn = image_of(lesion(shape="gaussian"))
    sigma = 6 / np.sqrt(8 * np.log(2))
    wide = np.hypot(sigma, 0.7)
    rows, columns = np.indices(SHAPE)
    away = 0.7 * np.hypot(rows - 31.3, columns - 36.8)
    by_hand = 20 * (sigma / wide) ** 2 * np.exp(-(away**2) / 2 / wide**2)
    # Cut off 9 mm from its middle.
    np.testing.assert_allclose(drawn, by_hand, atol=0.1)


def test_blur_keeps_the_sum_and_pixels_need_not_be_square() -> None:
    drawn = lesion_image((60, 120), lesion(centre=(30, 60)), pixel_spacing_mm=(0.8, 0.4), blur=gaussian_blur(1.0))
    assert drawn.sum() * 0.8 * 0.4 == pytest.approx(20 * np.pi * 9, rel=1e-6)
    rows, columns = (drawn.sum(axis=axis) > 0.01 * drawn.sum(axis=axis).max() for axis in (1, 0))
    assert rows.sum() * 0.8 == pytest.approx(columns.sum() * 0.4, abs=1)


def test_the_measured_transfer_of_a_scanner_will_do_as_blur() -> None:
    insert = np.zeros((81, 81))
    insert[:] = ndimage.gaussian_filter(disc_coverage((81, 81), (40.3, 39.6), 17).astype(float), 1.0, truncate=6)
    transfer = task_transfer(100 * insert, centre=(40, 40), radius_mm=17 * 0.7, pixel_spacing_mm=SPACING)
    drawn = lesion_image(SHAPE, lesion(), pixel_spacing_mm=SPACING, blur=transfer.at)
    np.testing.assert_allclose(drawn, image_of(lesion()), atol=0.06 * 20)


def test_insertion_adds_each_to_its_slice_and_to_a_copy() -> None:
    before = noisy()
    kept = before.copy()
    after = insert_lesions(before, many(), pixel_spacing_mm=SPACING, blur=BLUR)
    np.testing.assert_array_equal(before, kept)
    assert after.dtype == np.float32
    for index in (0, 1):
        expected = sum(image_of(one) for one in many() if one.slice_index == index)
        np.testing.assert_allclose(after[index] - before[index], expected, atol=1e-4)


def test_a_denoiser_that_copies_recovers_everything_and_so_does_one_that_shifts() -> None:
    for denoise in (lambda volume: volume, lambda volume: volume + 30):
        result = recovery(denoise)
        np.testing.assert_allclose(result.recovered, 1, atol=1e-3)
        assert result.mean == pytest.approx(1, abs=1e-4)
        assert result.removed.count == 0


@pytest.mark.parametrize("factor", [0.3, 0.8, 1.2])
def test_contrast_that_is_scaled_is_told(factor: float) -> None:
    result = recovery(lambda volume: factor * volume)
    np.testing.assert_allclose(result.recovered, factor, atol=1e-3)
    assert result.removed.count == (8 if factor < 0.5 else 0)


def test_a_denoiser_that_erases_small_lesions_is_caught() -> None:
    def erase(volume: np.ndarray) -> np.ndarray:
        return ndimage.grey_closing(ndimage.grey_opening(volume, (1, 7, 7)), (1, 7, 7))

    small, large = (recovery(erase, many(contrast_hu=150, diameter_mm=mm)) for mm in (2.5, 8.0))
    assert small.removed.count == small.removed.total == 8
    assert small.removed.low > 0.6
    assert large.removed.count == 0
    assert large.mean > small.mean + 0.4


def test_a_denoiser_that_blurs_loses_the_smaller_ones_first() -> None:
    recovered = [
        recovery(lambda volume: ndimage.gaussian_filter(volume, (0, 2, 2)), many(diameter_mm=mm)).mean
        for mm in (2.0, 5.0, 8.0)
    ]
    assert recovered[0] < 0.5 < recovered[1] < recovered[2] < 1


def test_each_lesion_is_told_by_itself() -> None:
    def half_blind(volume: np.ndarray) -> np.ndarray:
        volume[1, :, 36:] = 0
        return volume

    assert recovery(half_blind).recovered.round(3).tolist() == [1, 1, 1, 1, 1, 0, 1, 0]
    assert recovery(half_blind).removed == wilson(2, 8)


@settings(max_examples=30)
@given(total=st.integers(1, 500), data=st.data())
def test_the_interval_is_wilsons(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    share = wilson(count, total)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("change", [{"centre": (3.0, 30.0)}, {"diameter_mm": 0.0}, {"contrast_hu": np.nan}])
def test_lesions_that_cannot_be_drawn_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ImageRefusal, match="in a slice of"):
        image_of(lesion(**change))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ImageRefusal, match=r"lesions at .* 7\.0 mm apart"):
        recovery(lambda volume: volume, [lesion(), lesion(centre=(31.3, 46.8))])
    with pytest.raises(ImageRefusal, match="slices 0 to 1"):
        recovery(lambda volume: volume, [lesion(slice_index=2)])
    with pytest.raises(ImageRefusal, match="no lesions"):
        contrast_recovery(lambda volume: volume, noisy(), [], pixel_spacing_mm=SPACING, blur=BLUR)
    with pytest.raises(ImageRefusal, match="a denoiser that makes"):
        recovery(lambda volume: volume[:, 1:])
    with pytest.raises(ImageRefusal, match="9 of 8"):
        wilson(9, 8)
