from __future__ import annotations

import math

import numpy as np
import pytest

from iscl_monai.errors import Refusal
from iscl_monai.quality.cohort import Estimate, bootstrap, cohort, paired_difference, patient_mean
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
    assert estimate.formatted(2) == f"{30 + (count - 1) / 2:.2f}"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95 % for normal values; the percentile interval of 20 is known to be a little too narrow."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap(list(random.normal(30, 2, 20))).interval or (math.nan, math.nan)
        hits += low <= 30 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_the_interval_is_that_of_the_mean() -> None:
    """Its width follows from the spread and the root of the number."""
    values = list(np.random.default_rng(1).normal(0, 1, 100))
    low, high = bootstrap(values).interval or (math.nan, math.nan)
    expected = 2 * 1.96 * np.std(values) / 10
    assert high - low == pytest.approx(expected, rel=0.05)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_paired_differences_are_less_uncertain_than_two_means() -> None:
    """Patients differ by 10 dB, the gain by 0.1 dB."""
    base = np.linspace(20, 30, 8)
    gain = np.array([1.0, 1.1, 0.9, 1.0, 1.1, 0.9, 1.0, 1.0])
    difference = paired_difference(patients(*(base + gain)), patients(*base)).estimates["psnr_db"]
    assert difference.mean == pytest.approx(1)
    low, high = difference.interval or (math.nan, math.nan)
    assert 0.9 < low < high < 1.1
    assert difference.formatted(1, signed=True).startswith("+1.0 (+")


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
    assert estimate.formatted(2) == "inf"


def test_what_was_not_measured_does_not_count() -> None:
    assert bootstrap([math.nan, 30, 32, 34]).patients == 3
    assert bootstrap([math.nan]).formatted(2) == "not measurable"
    assert math.isnan(bootstrap([math.inf, -math.inf]).mean)
    assert Estimate(mean=1.5, interval=(1, 2), patients=5).formatted(1) == "1.5 (1.0 to 2.0)"
