from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.detectability import (
    Detectability,
    hotelling,
    laguerre_gauss,
    mean_d_prime,
)
from iscl_monai.quality.linearity import distance_mm_from
from tests.real_data import real

SIZE = 25
SPACING = (0.5, 0.5)
WIDE = 64


def channels(count: int = 4, width_mm: float = 5.0) -> np.ndarray:
    return laguerre_gauss((SIZE, SIZE), count=count, width_mm=width_mm, pixel_spacing_mm=SPACING)


def disc(contrast_hu: float, radius_mm: float = 1.5) -> np.ndarray:
    away = distance_mm_from((12, 12), (SIZE, SIZE), SPACING)
    return contrast_hu * ndimage.gaussian_filter((away <= radius_mm).astype(float), 0.8)


def filtered(images: np.ndarray) -> np.ndarray:
    """Mid-frequency noise as of filtered back projection, on a torus (image, 64, 64)."""
    frequency = np.hypot(np.fft.fftfreq(WIDE)[:, None], np.fft.fftfreq(WIDE)[None, :])
    response = np.sqrt(frequency) * (frequency < 0.4) + 0.05
    return np.fft.ifft2(np.fft.fft2(images) * response).real


def noise(seed: int, count: int, *, sigma_hu: float = 20, coloured: bool = False) -> np.ndarray:
    images = np.random.default_rng(seed).normal(0, sigma_hu, (count, WIDE, WIDE))
    return (filtered(images) if coloured else images)[:, :SIZE, :SIZE]


def true_d_prime(signal: np.ndarray, used: np.ndarray, *, sigma_hu: float = 20, coloured: bool = False) -> float:
    """sqrt(s'U (U'KU)^-1 U's) with the covariance K that is known."""
    padded = np.pad(used, ((0, 0), (0, WIDE - SIZE), (0, WIDE - SIZE)))
    through = (filtered(padded) if coloured else padded).reshape(len(used), -1)
    mean = used.reshape(len(used), -1) @ signal.ravel()
    return float(np.sqrt(mean @ np.linalg.solve(sigma_hu**2 * through @ through.T, mean)))


@pytest.mark.slow
@pytest.mark.parametrize(("contrast_hu", "coloured"), [(5.0, False), (15.0, False), (1.5, True), (4.0, True)])
def test_known_signals_in_known_noise(contrast_hu: float, coloured: bool) -> None:
    truth = true_d_prime(disc(contrast_hu), channels(), coloured=coloured)
    found = []
    for seed in range(4):
        present, absent = (noise(2 * seed + kind, 700, coloured=coloured) for kind in (0, 1))
        found.append(hotelling(present + disc(contrast_hu), absent, channels(), seed=seed))
    mean = np.mean([each.d_prime for each in found])
    assert mean == pytest.approx(truth, rel=0.04)
    assert np.mean([each.low < truth < each.high for each in found]) >= 0.75
    assert max(each.high - each.low for each in found) < 0.5
    # Normal scores: the area under the curve is Phi(d' / sqrt(2)).
    assert np.mean([each.auc for each in found]) == pytest.approx(stats.norm.cdf(mean / np.sqrt(2)), abs=0.01)
    assert found[0].images == 700


def test_where_nothing_is_nothing_is_found() -> None:
    """An observer tested on what it learnt from finds d' of 1 and more here."""
    found = [hotelling(noise(seed, 24), noise(seed + 100, 24), channels(8)) for seed in range(12)]
    assert np.mean([each.d_prime for each in found]) == pytest.approx(0, abs=0.2)
    assert np.mean([each.auc for each in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([each.low <= 0 <= each.high for each in found]) >= 0.9


def test_too_few_images_find_too_little_and_never_too_much() -> None:
    truth = true_d_prime(disc(12), channels())
    means = []
    for count in (12, 40, 200):
        found = [hotelling(noise(s, count) + disc(12), noise(s + 100, count), channels()) for s in range(6)]
        means.append(np.mean([each.d_prime for each in found]))
    assert means[0] < means[1] < means[2] < 1.05 * truth
    assert means[2] > 0.9 * truth


def test_the_interval_holds_the_truth_and_narrows() -> None:
    truth = true_d_prime(disc(12), channels(2))
    found = [hotelling(noise(s, 100) + disc(12), noise(s + 100, 100), channels(2)) for s in range(20)]
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.9
    width = np.mean([each.high - each.low for each in found])
    scatter = np.std([each.d_prime for each in found])
    assert 2 * 1.96 * scatter * 0.75 < width < 2 * 1.96 * scatter * 2
    many = hotelling(noise(1, 900) + disc(12), noise(2, 900), channels(2))
    assert many.high - many.low < 0.5 * width


def test_the_same_noise_in_both_stays_on_one_side() -> None:
    """Pairs that were torn apart would teach the test half's noise with the wrong sign."""
    shared = noise(3, 20)
    found = [hotelling(shared + disc(2), shared, channels(), seed=seed).d_prime for seed in range(3)]
    apart = hotelling(shared + disc(2), noise(4, 20), channels()).d_prime
    assert np.std(found) < 0.1
    assert min(found) > 0.1
    assert apart != pytest.approx(found[0], abs=0.01)


def test_the_seed_decides() -> None:
    images = noise(1, 30) + disc(5), noise(2, 30)
    assert hotelling(*images, channels()) == hotelling(*images, channels())
    assert hotelling(*images, channels()) != hotelling(*images, channels(), seed=1)


def test_the_mean_alone_is_the_same() -> None:
    used, absent = channels(), noise(1, 40)
    present = absent + disc(30)
    outputs = [images.reshape(len(images), -1) @ used.reshape(len(used), -1).T for images in (present, absent)]
    assert mean_d_prime(outputs[0], outputs[1], seed=3) == pytest.approx(
        hotelling(present, absent, used, seed=3).d_prime
    )


def test_denoisers_that_blur_or_erase_are_caught_and_one_that_copies_is_not() -> None:
    present, absent = noise(1, 300) + disc(25, 0.8), noise(2, 300)

    def detected(denoised: tuple[np.ndarray, np.ndarray]) -> Detectability:
        return hotelling(*denoised, channels(3, width_mm=2.5))

    before = detected((present, absent))
    assert detected((present.copy(), absent.copy())) == before
    blurred = detected((ndimage.gaussian_filter(present, (0, 4, 4)), ndimage.gaussian_filter(absent, (0, 4, 4))))
    assert blurred.high < before.low
    erased = detected((present - disc(25, 0.8), absent))
    assert erased.low < 0 < erased.high


def test_denoisers_that_leave_no_noise_do_not_stop_it() -> None:
    flat = np.zeros((20, SIZE, SIZE))
    nothing = hotelling(flat, flat, channels())
    assert dataclasses.astuple(nothing) == (0, 0, 0, 0.5, 20)


def test_channels_are_laguerre_gauss() -> None:
    used = laguerre_gauss((101, 101), count=3, width_mm=20.0, pixel_spacing_mm=(1, 1)).reshape(3, -1)
    np.testing.assert_allclose(used @ used.T, np.eye(3), atol=1e-6)
    line = used[1].reshape(101, 101)[50]
    radius = np.abs(np.arange(101) - 50)
    by_hand = np.exp(-np.pi * radius**2 / 400) * (1 - 2 * np.pi * radius**2 / 400)
    np.testing.assert_allclose(line / line[50], by_hand, atol=1e-12)
    moved = laguerre_gauss((31, 41), count=1, width_mm=5, pixel_spacing_mm=(1, 1), centre=(10, 12.5))[0]
    assert ndimage.center_of_mass(moved) == pytest.approx((10, 12.5), abs=1e-3)


@pytest.mark.parametrize(
    ("present", "absent", "message"),
    [
        (noise(1, 9), noise(2, 9), "at least 10"),
        (noise(1, 20), noise(2, 19), "20 images with and 19"),
        (noise(1, 20)[:, 1:], noise(2, 20)[:, 1:], "one shape"),
        (np.full((20, SIZE, SIZE), np.nan), noise(2, 20), "not finite"),
    ],
)
def test_images_that_do_not_do_are_refused(present: np.ndarray, absent: np.ndarray, message: str) -> None:
    with pytest.raises(ImageRefusal, match=message):
        hotelling(present, absent, channels())


@pytest.mark.parametrize("change", [{"count": 0}, {"width_mm": 0.0}, {"width_mm": np.nan}])
def test_channels_that_see_nothing_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ImageRefusal, match="channels of width"):
        channels(**change)  # type: ignore[arg-type]


LOW_CONTRAST = [((94.6, 94.6), 8.0), ((94.6, 160.4), 5.0), ((160.5, 160.5), 16.0), ((160.4, 94.6), 12.0)]
"""Centres (row, column) and diameters of the FDA phantom's four inserts, in pixels."""


def fda_d_prime(folder: Path) -> list[Detectability]:
    kinds = [
        np.stack(
            [np.fromfile(file, "<i2").reshape(256, 256) - 1000.0 for file in sorted((folder / kind).glob("*.raw"))]
        )
        for kind in ("signal_present", "signal_absent")
    ]
    message = []
    for (row, column), diameter in LOW_CONTRAST:
        top, left, size = round(row) - 14, round(column) - 14, 29
        used = laguerre_gauss(
            (size, size),
            count=1,
            width_mm=1.5 * diameter,
            pixel_spacing_mm=(1, 1),
            centre=(row - top, column - left),
        )
        message.append(hotelling(*(kind[:, top : top + size, left : left + size] for kind in kinds), used))
    return message


def test_more_dose_shows_more_on_the_fda_phantom() -> None:
    """Ten repeats bear one channel; single intervals are 3 to 6 wide, so only their means tell the doses apart."""
    root = real("qa/fda_lcd_fbp") / "fda_lcd_fbp"
    message = [fda_d_prime(root / f"dose_{dose}") for dose in ("010", "055", "100")]
    means = [np.mean([each.d_prime for each in dose]) for dose in message]
    assert means[0] + 0.8 < means[1] < means[2]
    assert all(each.low <= each.d_prime <= each.high for dose in message for each in dose)
