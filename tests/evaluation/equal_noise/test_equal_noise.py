"""Methods at equal noise: denoisers whose answers are known, and figures by other people's code."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluation.equal_noise.conftest import NOISE_HU, Known, blur, disc_finder, eraser, even_noise, identity, oracle
from scipy import ndimage, signal, spatial, stats

from iscl_monai.evaluation.equal_noise.curves import (
    ERROR,
    F50,
    FREQUENCY,
    NOISE,
    REMOVED,
    MethodCurves,
    cnr_name,
    contrast_name,
    method_curves,
    observer_name,
)
from iscl_monai.evaluation.equal_noise.measure import measured, measured_slice
from iscl_monai.evaluation.equal_noise.observer import d_primes
from iscl_monai.evaluation.equal_noise.pictures import curve_of, plots_of
from iscl_monai.evaluation.equal_noise.slices import RADII_PX, NoisyScan, TestSlice, slices_of
from iscl_monai.evaluation.equal_noise.strengths import STRENGTHS, mean_square, strength_at
from iscl_monai.evaluation.equal_noise.tables import NOT_REACHED, ranked, tables_at
from iscl_monai.quality.inserted import Inserted, band_response, profile, response
from iscl_monai.report.numbers import NOT_GIVEN

GROUP = "truth-random-anatomy"


@pytest.fixture(scope="module")
def slices(scan: NoisyScan) -> list[TestSlice]:
    return slices_of([scan])


@pytest.fixture(scope="module")
def curves(scan: NoisyScan, slices: list[TestSlice]) -> dict[str, MethodCurves]:
    methods = [identity(), blur(0.8), eraser(), oracle(scan, 0.9)]
    return {one.name: method_curves(one.name, measured(one, slices), GROUP) for one in methods}


def test_the_identity_removes_nothing_and_shows_lesions_as_they_were(curves: dict[str, MethodCurves]) -> None:
    for name, expected in {NOISE: 0.0, F50: 1.0, FREQUENCY: 0.0, REMOVED: 0.0}.items():
        assert np.allclose(curves["identity"].values[name], expected), name
    for radius in RADII_PX:
        assert np.allclose(curves["identity"].values[cnr_name(20, radius)], 1)
        assert np.allclose(curves["identity"].values[observer_name(radius)], 1)
    assert curves["identity"].values[ERROR] == pytest.approx(NOISE_HU, rel=0.02)


def test_an_oracle_has_no_error_and_no_noise(scan: NoisyScan, slices: list[TestSlice]) -> None:
    """The truth as an answer: nothing is left of the noise, all of the lesions."""
    one = method_curves("oracle", measured(oracle(scan), slices[:1]), GROUP)
    assert one.values[ERROR][-1] == pytest.approx(0, abs=1e-2)
    assert one.values[NOISE][-1] == pytest.approx(1, abs=1e-3)
    assert one.values[contrast_name(20, 2.0)] == pytest.approx(1, abs=1e-3)
    assert np.diff(one.values[ERROR]).max() < 0


def test_a_blurs_cnr_is_that_of_theory(curves: dict[str, MethodCurves]) -> None:
    """White noise and a disc: the lesion's response and the band's noise follow from the blur's frequency response."""
    template = np.pad(profile(4.0), 40)
    kernel = np.zeros_like(template)
    kernel[len(kernel) // 2, len(kernel) // 2] = 1
    gain = np.abs(np.fft.fft2(ndimage.gaussian_filter(kernel, 0.8)))
    power = np.abs(np.fft.fft2(template)) ** 2
    contrast = (gain * power).sum() / power.sum()
    band = math.sqrt((gain**2 * power).sum() / power.sum())
    pixel = math.sqrt((gain**2).mean())
    found = curves["blur 0.8"]
    assert found.values[contrast_name(20, 4.0)][-1] == pytest.approx(contrast, rel=2e-3)
    assert found.values[cnr_name(20, 4.0)][-1] == pytest.approx(contrast / band, rel=0.03)
    assert found.values[NOISE][-1] == pytest.approx(1 - pixel, abs=0.01)
    assert found.values[FREQUENCY][-1] < -0.2
    assert found.values[F50][-1] < 0.95


def test_methods_are_ranked_by_what_is_seen_at_equal_noise(curves: dict[str, MethodCurves]) -> None:
    """Half of the noise gone: the one that knows the truth wins, the one that erases lesions comes last."""
    names = [one.title for one in ranked([curves["median"], curves["blur 0.8"], curves["oracle 0.9"]], 0.5)]
    assert names == ["oracle 0.9", "blur 0.8", "median"]
    # Contrast over noise, and a share of it: what an erasing median shows of small lesions.
    erased, blurred, known = (
        curves[name].at_noise(cnr_name(20, 2.0), 0.5).mean for name in ("median", "blur 0.8", "oracle 0.9")
    )
    assert erased < blurred
    assert known == pytest.approx(2, rel=0.05)


def test_tables_say_what_is_not_reached_and_what_was_blended(curves: dict[str, MethodCurves]) -> None:
    table = tables_at(list(curves.values()), GROUP)[0]
    lines = {line[0]: line for line in table.lines}
    assert "identity" not in lines  # there is no noise reduction at which it could be compared
    assert {line[0]: line for line in tables_at(list(curves.values()), GROUP)[2].lines}["blur 0.8"][1] == NOT_REACHED
    assert 0 < float(lines["oracle 0.9"][1]) < 1
    assert table.title == f"At 30 % less noise, {GROUP}: 1 patient, 4 slices"
    assert all(len(line) == len(table.heads) for line in table.lines)


def made(title: str, patients: dict[str, tuple[float, float]]) -> MethodCurves:
    """At full strength so much noise removed and so much CNR left in each patient, on straight lines."""
    curves = {
        patient: {NOISE: removed * STRENGTHS, cnr_name(20, 2.0): 1 - (1 - left) * STRENGTHS}
        for patient, (removed, left) in patients.items()
    }
    return MethodCurves(title=title, slices=len(patients), of_patient=curves)


def test_noise_is_equal_in_every_patient_and_the_interval_is_students() -> None:
    one = made("one", {"A": (1.0, 0.8), "B": (0.5, 0.9), "C": (0.5, 0.7)})
    assert one.strengths_for(0.5) == pytest.approx({"A": 0.5, "B": 1.0, "C": 1.0})
    found = one.at_noise(cnr_name(20, 2.0), 0.5)
    values = np.array([0.9, 0.9, 0.7])
    assert found.mean == pytest.approx(values.mean())
    ends = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert found.interval == pytest.approx(ends)
    other = made("other", {"A": (1.0, 0.7), "B": (0.5, 0.8), "C": (0.5, 0.6)})
    line = tables_at([other, one], GROUP)[1].lines
    assert [cells[0] for cells in line] == ["one", "other"]
    assert line[0][1:4] == ["0.50 to 1.00", "0.83 ± 0.29", NOT_GIVEN]
    assert line[1][3] == "-0.08 ± 0.07"  # -0.05, -0.1, -0.1: far less uncertain than the two means apart


def test_a_reduction_that_one_patient_does_not_reach_has_no_figures() -> None:
    """A mean over the others would be held against means over all."""
    some = made("some", {"A": (0.6, 0.9), "B": (0.4, 0.9), "C": (0.6, 0.9)})
    line = tables_at([some], GROUP)[1].lines[0]
    assert line[1] == f"{NOT_REACHED} in 1 of 3"
    assert set(line[2:]) == {NOT_GIVEN}
    assert np.max(curve_of(some, cnr_name(20, 2.0)).x) == pytest.approx(40)


def test_two_patients_have_no_interval() -> None:
    table = tables_at([made("two", {"A": (0.6, 0.9), "B": (0.5, 0.7)})], GROUP)[0]
    assert table.lines[0][2].endswith(f" ± {NOT_GIVEN}")


def test_a_plot_has_a_curve_for_each_method_that_does_something(curves: dict[str, MethodCurves]) -> None:
    plots = plots_of(list(curves.values()))
    assert len(plots) == 8
    assert all(len(one.curves) == 3 for one in plots)


def test_a_blend_measured_from_the_changes_is_the_blend_denoised(scan: NoisyScan, slices: list[TestSlice]) -> None:
    """Half the strength by arithmetic, and as a method of its own."""
    whole = blur(1.0)
    half = Known("half", lambda image: image + np.float32(0.5) * whole.change_hu(image))
    found, direct = (method_curves("", measured(one, slices[2:3]), GROUP) for one in (whole, half))
    for name in (NOISE, ERROR, F50, FREQUENCY, cnr_name(20, 2.0), observer_name(4.0)):
        assert found.at(name, 0.5).mean == pytest.approx(direct.at(name, 1.0).mean, rel=1e-3, abs=1e-4), name


def test_the_frequency_shift_is_that_of_theory_and_of_another_librarys_spectrum(slices: list[TestSlice]) -> None:
    """A blur of white noise; along one axis by SciPy's periodogram after Welch, over all directions by the table's."""
    one, method = slices[0], blur(0.8)
    inside = (slice(45, 115), slice(45, 115))
    change = [method.change_hu(one.scene_hu + sign * one.noise_hu)[inside] for sign in (1, -1)]
    noise = one.noise_hu[inside]

    def mean_frequency(image: Any) -> float:
        frequency, power = signal.welch(image, nperseg=32, axis=1, detrend=False)
        mean = power.mean(axis=0)
        return float((frequency * mean).sum() / mean.sum())

    frequency = np.abs(np.fft.fftfreq(64))
    gain = np.exp(-((2 * np.pi * frequency * 0.8) ** 2))
    along = (frequency * gain).sum() / gain.sum() / frequency.mean() - 1
    theirs = mean_frequency(noise + (change[0] - change[1]) / 2) / mean_frequency(noise) - 1
    assert theirs == pytest.approx(along, abs=0.05)
    radial = np.linspace(0, 0.5, 200)
    weight = np.exp(-((2 * np.pi * radial * 0.8) ** 2))
    expected = (radial**2 * weight).sum() / (radial * weight).sum() / ((radial**2).sum() / radial.sum()) - 1
    ours = method_curves("", {"slices": [measured_slice(method, one)]}, GROUP).values[FREQUENCY][-1]
    assert ours == pytest.approx(expected, abs=0.05)


def test_the_matched_filter_is_scipys_correlation() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (60, 60)).astype(np.float32)
    template = profile(4.0)
    theirs = signal.correlate2d(image, template, mode="same") / (template**2).sum()
    lesion = Inserted(row=30, column=25, radius_px=4.0, sign=-1)
    assert response(image, lesion) == pytest.approx(-theirs[30, 25], abs=1e-6)
    inside = np.zeros((60, 60), bool)
    inside[20:41, 20:41] = True
    depth = ndimage.distance_transform_edt(inside)
    assert band_response(image, 4.0, inside) == pytest.approx(theirs[depth >= 4.75], abs=1e-5)


def test_the_observers_figure_is_scipys_distance_of_mahalanobis() -> None:
    """That is what Hotelling's observer reaches on Gaussian channel outputs, given many images."""
    rng = np.random.default_rng(2)
    mixing, shift = rng.normal(0, 1, (5, 5)), np.array([1.0, 0.5, 0, 0, 0.2])
    absent, present = (rng.normal(0, 1, (500, 5)) @ mixing + at for at in (0, shift))
    nothing = np.zeros_like(absent)
    theirs = spatial.distance.mahalanobis(shift, np.zeros(5), np.linalg.inv(mixing.T @ mixing))
    assert d_primes(present, nothing, absent, nothing)[0] == pytest.approx(theirs, rel=0.08)


def test_noise_that_is_even_in_the_noise_does_not_hide_in_half_differences(scan: NoisyScan) -> None:
    """The size of normal noise has 60 % of its standard deviation: 40 % are gone, not all."""
    one = slices_of([scan])[0]
    found = method_curves("", {"slices": [measured_slice(even_noise(scan), replace(one, other_noises_hu=[]))]}, GROUP)
    assert found.values[NOISE][-1] == pytest.approx(1 - math.sqrt(1 - 2 / math.pi), abs=0.02)
    assert found.values[ERROR][-1] == pytest.approx(NOISE_HU * math.sqrt(1 - 2 / math.pi), rel=0.05)
    # Lesions are gone with the sign of everything: what is left in their band is noise.
    assert found.values[cnr_name(20, 4.0)][-1] < 0.5


def test_contrast_beyond_what_was_put_in_does_not_count(scan: NoisyScan) -> None:
    one = replace(slices_of([scan])[0], other_noises_hu=[])
    numbers = measured_slice(disc_finder(scan), one)
    found = method_curves("", {"slices": [numbers]}, GROUP)
    assert found.values[contrast_name(50, 4.0)][-1] > 1.2
    band = np.sqrt(mean_square([numbers["band"]["4"]]))
    assert found.values[cnr_name(50, 4.0)][-1] == pytest.approx(band[0] / band[-1])


def test_strengths_are_found_between_two_of_them() -> None:
    square = mean_square([[4.0, -4.0, 4.0, 10], [4.0, -4.0, 4.0, 30]])  # (2 - 2 s)^2
    assert np.sqrt(square) == pytest.approx(2 - 2 * STRENGTHS)
    assert strength_at(1 - np.sqrt(square) / 2, 0.33) == pytest.approx(0.33)
    assert math.isnan(strength_at(0.2 * STRENGTHS, 0.3))


def test_scans_without_truth_have_no_error_and_no_observer(scan: NoisyScan) -> None:
    found = measured_slice(identity(), slices_of([replace(scan, group="")])[0])
    assert found["error"] is None
    assert found["observer"] is None
    assert found["group"] == ""


def test_numbers_can_be_kept_as_json(slices: list[TestSlice]) -> None:
    assert json.loads(json.dumps(measured(identity(), slices[:1]), allow_nan=False))["slices"][0]["patient"] == "A"
