from __future__ import annotations

import itertools
from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.quality.regions import REGIONS, RegionMeasurement, RegionResult

WHITE = float(np.sqrt(stats.chi2.ppf(0.1, 80) / 81))
"""The 10th percentile of the standard deviation (population formula) of 81 draws of sigma 1: 0.891."""

HU = {"lung": -850.0, "fat": -100.0, "soft tissue": 50.0, "bone": 900.0}


def noise(sigma_hu: float, seed: int = 0, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma_hu, shape).astype(np.float32)


def phantom() -> np.ndarray:
    """Air round a square body of soft tissue, with lung behind a wall of 8 px, fat, and bone."""
    image = np.full((256, 256), -1000, dtype=np.float32)
    image[28:228, 28:228] = HU["soft tissue"]
    image[36:106, 36:106] = HU["lung"]
    image[40:110, 146:216] = HU["fat"]
    image[146:216, 40:110] = HU["bone"]
    return image


def numbers(result: RegionResult) -> list[float]:
    return list(astuple(result)[1:])


def measured(*slices: tuple[np.ndarray, ...]) -> dict[str, RegionResult]:
    measurement = RegionMeasurement()
    for one in slices:
        measurement.add(*one)
    return {result.name: result for result in measurement.results()}


@pytest.mark.parametrize(("sigma_before_hu", "sigma_after_hu"), [(5, 1), (20, 5), (40, 20)])
def test_noise_and_means_of_every_region(sigma_before_hu: float, sigma_after_hu: float) -> None:
    seeds = range(1, 6)
    slices = [(phantom() + noise(sigma_before_hu, s), phantom() + 3 + noise(sigma_after_hu, -s % 99)) for s in seeds]
    results = measured(*slices)
    assert list(results) == [region.name for region in REGIONS]
    for name, hu in {"air": -1000.0, **HU}.items():
        result = results[name]
        assert result.voxels > 10_000
        assert result.mean_before_hu == pytest.approx(hu, abs=0.05 * sigma_before_hu)
        assert result.mean_after_hu == pytest.approx(hu + 3, abs=0.05 * sigma_after_hu)
        assert result.sigma_before_hu == pytest.approx(WHITE * sigma_before_hu, rel=0.03)
        assert result.sigma_after_hu == pytest.approx(WHITE * sigma_after_hu, rel=0.03)


def test_means_are_exact_over_all_voxels_of_all_slices() -> None:
    image = np.full((40, 40), 50, dtype=np.float32)
    after = image + np.arange(40, dtype=np.float32)  # a ramp along the columns
    result = measured((image, after), (image + 30, after + 1))["soft tissue"]
    assert result.voxels == 2 * 32 * 32
    assert result.mean_before_hu == 65
    assert result.mean_after_hu == 50 + np.arange(4, 36).mean() + 0.5


def test_noise_of_uniform_tissue_is_that_of_the_panel() -> None:
    image = 50 + noise(20)
    assert measured((image, image))["soft tissue"].sigma_before_hu == pytest.approx(noise_sigma_hu(image), rel=0.01)


def test_noise_is_the_median_of_the_slices() -> None:
    one_by_one = [measured((phantom() + noise(sigma),) * 2)["fat"].sigma_before_hu for sigma in (8, 12, 30)]
    together = measured(*((phantom() + noise(sigma), phantom()) for sigma in (30, 8, 12)))["fat"]
    assert together.sigma_before_hu == one_by_one[1]
    assert together.sigma_after_hu == pytest.approx(0, abs=1e-3)


def test_the_order_of_slices_does_not_matter() -> None:
    slices = [(phantom() + noise(sigma, seed), phantom() + noise(sigma / 4)) for seed, sigma in enumerate((9, 17, 25))]
    orders = [measured(*order).values() for order in itertools.permutations(slices)]
    for results in orders[1:]:
        for result, first in zip(results, orders[0], strict=True):
            assert numbers(result) == pytest.approx(numbers(first), rel=1e-12)


def test_voxels_are_not_chosen_by_their_own_noise() -> None:
    # Fat ends at -30 HU and soft tissue begins at -20: by their own values the means would lean 6 HU and more.
    clean = np.full((256, 256), -45, dtype=np.float32)
    clean[:, 128:] = -5
    before = clean + noise(20)
    by_value = before[(before >= -190) & (before < -30)].mean()
    results = measured((before, clean))
    assert abs(by_value - -45) > 6
    for name, hu in (("fat", -45), ("soft tissue", -5)):
        assert results[name].mean_before_hu == pytest.approx(hu, abs=0.5)
        assert results[name].mean_before_hu == pytest.approx(results[name].mean_after_hu, abs=0.5)


def test_only_the_image_before_chooses() -> None:
    before, after = phantom() + noise(10), phantom() + 500
    results, unchanged = measured((before, after)), measured((before, before))
    for name, result in results.items():
        assert result.voxels == unchanged[name].voxels
        assert result.mean_after_hu == pytest.approx({"air": -1000, **HU}[name] + 500, abs=1e-3)


def test_the_blur_of_an_edge_is_no_tissue() -> None:
    # From air to soft tissue within the 9 pixels of a local mean: no band of lung or fat lies between.
    image = np.full((128, 128), -1000, dtype=np.float32)
    image[20:108, 20:108] = 50
    results = measured((image + noise(5, shape=image.shape), image))
    assert results["lung"].voxels == results["fat"].voxels == 0
    assert results["soft tissue"].mean_after_hu == 50
    assert results["air"].mean_after_hu == -1000


def test_tables_and_foam_are_not_tissue() -> None:
    image = phantom()
    image[236:240] = 50
    image[240:] = -850
    with_table, without = measured((image + noise(5), image)), measured((phantom() + noise(5), phantom()))
    assert with_table["lung"].voxels == without["lung"].voxels
    assert with_table["soft tissue"].voxels == without["soft tissue"].voxels
    assert with_table["air"].voxels < without["air"].voxels


@pytest.mark.parametrize("value_hu", [-3024, -1000, 40, 64512])
def test_padding_is_as_if_it_were_cut_off(value_hu: float) -> None:
    padded = np.ones((256, 256), dtype=bool)
    padded[4:-4, 4:-4] = False
    images = [phantom() + noise(10), phantom() + noise(2, 1)]
    for image in images:
        image[232:236], image[236:] = 50, -850  # a table: a frame of bright padding must not take it for a hole
    filled = [np.where(padded, np.float32(value_hu), image) for image in images]
    results, cut = measured((*filled, padded)), measured(tuple(image[4:-4, 4:-4] for image in images))
    for name, result in results.items():
        assert result.voxels > 1000
        assert numbers(result) == pytest.approx(numbers(cut[name]), rel=1e-6)


def test_air_painted_with_one_value_is_not_measured() -> None:
    image = phantom() + noise(10)
    image[:, :14] = -1024
    result = measured((image, image))["air"]
    assert result.mean_before_hu == pytest.approx(-1000, abs=0.5)
    assert result.sigma_before_hu == pytest.approx(WHITE * 10, rel=0.05)


def test_quiet_air_and_bone_keep_their_variance() -> None:
    results = measured((phantom() + noise(5), phantom() + noise(0.1, 1)))
    for name in ("air", "bone"):
        assert results[name].sigma_after_hu == pytest.approx(0.1 * WHITE, rel=0.05)


def test_regions_that_are_not_there_are_nan() -> None:
    results = measured((50 + noise(10), 50 + noise(3)))
    for name in ("air", "lung", "fat", "bone"):
        voxels, *measures = numbers(results[name])
        assert voxels == 0
        assert np.isnan(measures).all()


def test_few_voxels_of_many_slices_make_a_mean_but_no_noise() -> None:
    image = np.full((17, 17), 50, dtype=np.float32)  # 81 whole neighbourhoods
    assert np.isnan(measured((image, image))["soft tissue"].mean_before_hu)
    result = measured((image, image), (image, image))["soft tissue"]
    assert (result.voxels, result.mean_before_hu) == (162, 50)
    assert np.isnan(result.sigma_before_hu)


@pytest.mark.parametrize("image", [np.zeros((8, 300)), np.full((64, 64), -1024.0), np.full((64, 64), 3000.0)])
def test_slices_without_anything_are_no_error(image: np.ndarray) -> None:
    assert all(result.voxels == 0 for result in measured((image, image)).values())
    everywhere = np.ones(image.shape, dtype=bool)
    assert all(result.voxels == 0 for result in measured((image, image, everywhere)).values())


@pytest.mark.parametrize(
    "images",
    [
        (phantom(), phantom()[1:]),
        (phantom()[None], phantom()[None]),
        (phantom(), phantom(), np.zeros((3, 3), dtype=bool)),
        (phantom(), np.full_like(phantom(), np.nan)),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(images: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ImageRefusal):
        measured(images)
