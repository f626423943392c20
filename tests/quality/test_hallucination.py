from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.hallucination import Hallucinations, hallucinations, poisson_interval

SPACING = (0.8, 0.8)
ROWS, COLUMNS = np.mgrid[:64, :64]


def truth(slices: int = 2) -> np.ndarray:
    """Fat with an organ, edges blurred as a scanner's."""
    image = np.full((64, 64), -90.0)
    image[(ROWS - 20) ** 2 + (COLUMNS - 20) ** 2 < 12**2] = 60
    return np.repeat(ndimage.gaussian_filter(image, 1.2)[None], slices, axis=0)


def realisations(clean: np.ndarray, count: int = 8, sigma_hu: float = 20, seed: int = 1) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, sigma_hu, (count, *clean.shape))


def bump(row: float, column: float, height_hu: float, sigma_px: float = 2.0) -> np.ndarray:
    return height_hu * np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / 2 / sigma_px**2)


def found(outputs: np.ndarray, clean: np.ndarray, **change: object) -> Hallucinations:
    return hallucinations(outputs, clean, pixel_spacing_mm=SPACING, **change)  # type: ignore[arg-type]


def test_a_denoiser_that_copies_paints_nothing() -> None:
    clean = truth(20)
    result = found(realisations(clean), clean, least_hu=0.5, flat=np.ones(clean.shape, bool))
    assert result.blobs == ()
    assert (result.slices, result.per_slice, result.low) == (20, 0, 0)
    assert result.high == pytest.approx(3.689 / 20, abs=1e-3)


def test_chance_exceeds_as_often_as_it_should() -> None:
    """At 2.5 standard errors (single ones, 2 x 0.6 %) some smooth areas must be found: the scale is right."""
    clean = np.zeros((20, 64, 64))
    outputs = realisations(clean)
    result = found(outputs, clean, deviations=2.5, least_hu=1e-6, persistence=0.0, flat=np.ones(clean.shape, bool))
    area = sum(blob.area_mm2 for blob in result.blobs) / 0.64
    assert area / clean.size == pytest.approx(2 * stats.norm.sf(2.5), rel=0.35)


def test_a_denoiser_that_paints_a_fixed_texture_is_caught() -> None:
    clean = truth()
    painted = realisations(clean, sigma_hu=10) + bump(45, 44, 25) + bump(50, 15, -25)
    result = found(painted, clean)
    assert result.per_slice == 2
    assert result.low < 2 < result.high
    first = sorted((blob for blob in result.blobs if blob.slice_index == 1), key=lambda blob: -blob.height_hu)
    assert first[0].centre == pytest.approx((45, 44), abs=0.7)
    assert first[1].centre == pytest.approx((50, 15), abs=0.7)
    assert first[0].height_hu > 5 > -5 > first[1].height_hu
    assert first[0].persistence >= 0.8
    assert 3 < first[0].area_mm2 < 60


def test_it_is_caught_when_no_noise_is_left_too() -> None:
    clean = truth()
    painted = np.repeat((clean + bump(45, 44, 20))[None], 5, axis=0)
    assert found(painted, clean).per_slice == 1
    # What nobody can see is none.
    assert found(np.repeat((clean + bump(45, 44, 3))[None], 5, axis=0), clean).per_slice == 0


def test_single_pixels_are_no_blobs() -> None:
    clean = truth()
    outputs = np.repeat(clean[None], 5, axis=0)
    outputs[:, :, 45, 44] += 30  # smoothed to 3 mm: 2 HU
    assert found(outputs, clean).blobs == ()


def test_a_blob_in_few_realisations_is_noise_that_was_left() -> None:
    clean = truth()
    outputs = realisations(clean, count=10, sigma_hu=1)
    outputs[:3] += bump(45, 44, 60)
    assert found(outputs, clean, deviations=1.0).blobs == ()
    loose = found(outputs, clean, deviations=1.0, persistence=0.2)
    assert {blob.persistence for blob in loose.blobs} == {0.3}


def test_a_blurred_edge_is_no_blob_unless_asked_for() -> None:
    clean = truth()
    blurred = ndimage.gaussian_filter(realisations(clean, sigma_hu=10), (0, 0, 1.5, 1.5))
    assert found(blurred, clean).blobs == ()
    assert found(blurred, clean, flat=np.ones(clean.shape, bool)).per_slice > 0


def test_a_lesion_that_was_erased_is_found_where_asked() -> None:
    clean = truth() + bump(45, 44, 40)
    outputs = realisations(truth(), sigma_hu=10)
    assert found(outputs, clean).blobs == ()  # not flat there
    blobs = found(outputs, clean, flat=np.ones(clean.shape, bool)).blobs
    assert [blob.centre for blob in blobs] == [pytest.approx((45, 44), abs=0.5)] * 2
    assert all(blob.height_hu < -10 for blob in blobs)


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_the_interval_is_poissons(count: int) -> None:
    low, high = poisson_interval(count)
    assert stats.poisson.cdf(count, high) == pytest.approx(0.025)
    if count:
        assert stats.poisson.sf(count - 1, low) == pytest.approx(0.025)
    else:
        assert low == 0


@pytest.mark.parametrize(
    ("outputs", "clean", "change", "message"),
    [
        (realisations(truth(), count=4), truth(), {}, "5 realisations"),
        (realisations(truth()), truth(3), {}, "a truth of shape"),
        (realisations(truth()), truth(), {"flat": np.zeros((2, 64, 64), bool)}, "0 flat pixels"),
        (realisations(truth()), truth(), {"flat": np.ones((64, 64), bool)}, "4096 flat pixels"),
        (realisations(truth(), sigma_hu=np.inf), truth(), {}, "not finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    outputs: np.ndarray, clean: np.ndarray, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ImageRefusal, match=message):
        found(outputs, clean, **change)
