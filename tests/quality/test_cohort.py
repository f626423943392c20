from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from iscl_monai.errors import Refusal
from iscl_monai.quality.cohort import Estimate, cohort, mean_over_patients, paired_difference, patient_mean
from iscl_monai.quality.fidelity import Fidelity, FidelityMean, fidelity
from iscl_monai.quality.protocol import HU_BODY, HU_FRAME, Protocol


def measured(*psnr_db: float, protocol: Protocol = HU_FRAME) -> Fidelity:
    """A scan of so many slices."""
    column = np.array(psnr_db)
    return Fidelity(protocol, column, column / 100, column * 2, column * 0, column * np.nan)


def patients(*psnr_db: float, protocol: Protocol = HU_FRAME) -> dict[str, FidelityMean]:
    return {f"p{index}": measured(value, protocol=protocol).mean() for index, value in enumerate(psnr_db)}


def test_a_patient_counts_once_however_long_the_scan() -> None:
    long, short = patient_mean([measured(20, 22), measured(24)]), patient_mean([measured(40)])
    assert long.psnr_db == pytest.approx(22)
    assert long.slices == 3
    both = cohort({"long": long, "short": short})
    assert both.estimates["psnr_db"].mean == pytest.approx(31)
    assert both.slices == 4
    assert both.patients == ("long", "short")
    assert set(both.estimates) == {"psnr_db", "ssim", "rmse_hu", "mean_shift_hu"}


def test_slices_that_were_not_measured_do_not_count() -> None:
    assert patient_mean([measured(20, np.nan), measured(30)]).psnr_db == pytest.approx(25)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_patients_have_no_interval(count: int) -> None:
    estimate = cohort(patients(*range(30, 30 + count))).estimates["psnr_db"]
    assert estimate.interval is None
    assert estimate.text(2) == f"{30 + (count - 1) / 2:.2f}"


NORMAL = np.random.Generator.standard_normal
"""Skewness 0."""


def gamma_of_shape_4(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Mean 0, skewness 1: that of the most skewed row of docs/benchmark.md."""
    return random.gamma(4, 1, count) - 4


@pytest.mark.parametrize("drawn", [NORMAL, gamma_of_shape_4], ids=["normal", "skewed"])
def test_the_interval_covers_the_truth_as_often_as_it_says(drawn: Callable[..., npt.NDArray[np.float64]]) -> None:
    """Of 10 patients; 3000 cohorts say it to 0.4 %. The percentile and BCa bootstraps cover 89 % here."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(3000):
        low, high = mean_over_patients(drawn(random, 10).tolist()).interval or (math.nan, math.nan)
        hits += low <= 0 <= high
    assert 0.93 <= hits / 3000 <= 0.97


def test_the_interval_is_that_of_other_peoples_code() -> None:
    """Hours of sleep that ten patients gained by two drugs (Student, Biometrika 6, 1908), paired.

    R's ``t.test(paired = TRUE)`` prints -2.4598858 and -0.7001142, mean of the differences -1.58.
    """
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    estimate = paired_difference(patients(*first), patients(*second)).estimates["psnr_db"]
    assert estimate.mean == pytest.approx(-1.58)
    assert estimate.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    differences = np.subtract(first, second)
    other = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert estimate.interval == pytest.approx((other.low, other.high))


def test_patients_who_are_all_alike_leave_nothing_open() -> None:
    assert mean_over_patients([2.5] * 4).interval == (2.5, 2.5)


def test_paired_differences_are_less_uncertain_than_two_means() -> None:
    """Patients differ by 10 dB, the gain by 0.1 dB."""
    base = np.linspace(20, 30, 8)
    gain = np.array([1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 1.0])
    difference = paired_difference(patients(*(base + gain)), patients(*base)).estimates["psnr_db"]
    assert difference.mean == pytest.approx(1)
    low, high = difference.interval or (math.nan, math.nan)
    assert 0.9 < low < high < 1.1
    assert difference.text(1, signed=True).startswith("+1.0 (+")


def test_other_patients_are_not_compared() -> None:
    with pytest.raises(Refusal, match="only one of two methods has: p2"):
        paired_difference(patients(30, 31, 32), patients(30, 31))


def test_other_slices_are_not_compared() -> None:
    one, two = {"p0": measured(30, 30).mean()}, {"p0": measured(30).mean()}
    with pytest.raises(Refusal, match="2 and 1 slices"):
        paired_difference(one, two)


def test_protocols_are_not_mixed() -> None:
    mixed = {"a": measured(30).mean(), "b": measured(30, protocol=HU_BODY).mean()}
    with pytest.raises(Refusal, match="2 protocols"):
        cohort(mixed)
    with pytest.raises(Refusal, match="2 protocols"):
        patient_mean([measured(30), measured(30, protocol=HU_BODY)])
    with pytest.raises(Refusal, match="2 protocols"):
        paired_difference(patients(30), patients(30, protocol=HU_BODY))
    with pytest.raises(Refusal, match="none"):
        cohort({})


def test_exact_images_have_a_mean_and_no_interval() -> None:
    image = np.full((32, 32), 40.0)
    exact = fidelity(image, image).mean()
    estimate = cohort(dict.fromkeys("abc", exact)).estimates["psnr_db"]
    assert estimate.mean == math.inf
    assert estimate.interval is None
    assert estimate.text(2) == "inf"


def test_what_was_not_measured_does_not_count() -> None:
    assert mean_over_patients([math.nan, 30, 32, 34]).patients == 3
    assert mean_over_patients([math.nan]).text(2) == "not measurable"
    assert math.isnan(mean_over_patients([math.inf, -math.inf]).mean)
    assert Estimate(mean=1.5, interval=(1, 2), patients=5).text(1) == "1.5 (1.0 to 2.0)"
