"""Noise insertion beside another group's simulation: FDA's low-contrast phantom at 100, 55 and 10 % of the dose."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from real_data import real
from scipy import special, stats

from iscl_monai.scanner.dose import insert_noise
from iscl_monai.scanner.selfcheck import SelfCheck, checked_scanner
from iscl_monai.scanner.texture import spectrum
from iscl_monai.scanner.virtual import VirtualScanner

Volume = NDArray[np.float32]
REPEATS, SIZE, SPACING_MM = 10, 256, 200 / 232  # a disc of 200 mm is 232 pixels wide
FRACTIONS = {"055": 0.55, "010": 0.10}
AXIS = np.arange(SIZE) - (SIZE - 1) / 2
BODY = np.hypot(AXIS, AXIS[:, None]) < 108
PLACES = [
    (slice(row, row + 32), slice(column, column + 32)) for row in range(64, 192, 32) for column in range(64, 192, 32)
]


@cache
def theirs(dose: str) -> Volume:
    folder = real("qa/fda_lcd_fbp") / "fda_lcd_fbp" / f"dose_{dose}" / "signal_absent"
    stored = [np.fromfile(folder / f"signal_absent_{number:03d}.raw", "<i2") for number in range(1, REPEATS + 1)]
    return np.stack([plane.reshape(SIZE, SIZE) for plane in stored]).astype(np.float32) - 1000


@cache
def calibration() -> tuple[VirtualScanner, SelfCheck]:
    return checked_scanner(list(theirs("100")), fraction=0.1, spacing_mm=SPACING_MM)


@cache
def ours(dose: str) -> Volume:
    return insert_noise(
        theirs("100"), spacing_mm=SPACING_MM, fraction=FRACTIONS[dose], scanner=calibration()[0], seed=3
    )


def noise_of(volume: Volume) -> Volume:
    noise: Volume = (volume - volume.mean(axis=0)) * math.sqrt(REPEATS / (REPEATS - 1))
    return noise


def interval(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """95 % for the ratio of two means over the repeats, by Welch's t of their logarithms."""
    result = stats.ttest_ind(np.log(ours), np.log(theirs), equal_var=False).confidence_interval(0.95)
    return math.exp(result.low), math.exp(result.high)


def test_the_calibration_explains_the_phantom() -> None:
    scanner, check = calibration()
    assert not check.problems
    assert check.own_over_scan == pytest.approx(1, abs=0.05)
    assert scanner.neighbour_correlation == 0  # repeats are independent


@pytest.mark.parametrize(("dose", "limits"), [("055", (0.98, 1.03)), ("010", (0.98, 1.05))])
def test_the_noise_is_as_strong(dose: str, limits: tuple[float, float]) -> None:
    low, high = interval(*([float(plane[BODY].std()) for plane in noise_of(one(dose))] for one in (ours, theirs)))
    assert limits[0] < low < high < limits[1]


@pytest.mark.parametrize("dose", FRACTIONS)
def test_the_noise_has_the_same_spectrum(dose: str) -> None:
    spectra = [
        [spectrum([plane[place] for place in PLACES], SPACING_MM) for plane in noise_of(one(dose))]
        for one in (ours, theirs)
    ]
    low, high = interval(*([one.mean_per_mm() for one in group] for group in spectra))
    assert 0.98 < low < high < 1.02
    shapes = [np.mean([one.power_hu2_mm2 / one.power_hu2_mm2.sum() for one in group], axis=0) for group in spectra]
    assert np.abs(shapes[0] - shapes[1]).sum() < 0.07


@pytest.mark.parametrize("dose", FRACTIONS)
@pytest.mark.parametrize("diameter_mm", [3, 7, 10])
def test_a_lesion_is_as_detectable(dose: str, diameter_mm: float) -> None:
    """The d' of a non-prewhitening observer for a disc: as the spectrum weighted by the square of the disc's."""

    def d_prime(plane: Volume) -> float:
        found = spectrum([plane[place] for place in PLACES], SPACING_MM)
        f = found.frequency_per_mm
        signal = (diameter_mm / 2 * special.j1(math.pi * diameter_mm * f) / f) ** 2
        return float((signal * f).sum() / math.sqrt((signal * found.power_hu2_mm2 * f).sum()))

    low, high = interval(*([d_prime(plane) for plane in noise_of(one(dose))] for one in (ours, theirs)))
    assert 0.9 < low < 1.02
    assert 0.98 < high < 1.1


@pytest.mark.parametrize("dose", FRACTIONS)
def test_the_mean_is_the_same(dose: str) -> None:
    """At 10 % the logarithm of few counts differs by 0.3 HU."""
    shift_hu = (ours(dose).mean(axis=0) - theirs(dose).mean(axis=0))[BODY].mean()
    assert abs(shift_hu) < (0.1 if dose == "055" else 0.5)
