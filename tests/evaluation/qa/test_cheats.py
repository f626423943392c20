"""A denoiser that cheats is caught, each by the limits made for it; an honest one passes them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation.qa.denoisers import Made, Oracle, fitted
from scipy import ndimage

from iscl_monai.evaluation.qa import Limits, QaResult, run_qa, tissue
from iscl_monai.evaluation.qa.phantom import ANATOMY, INSERTS, Phantom
from iscl_monai.evaluation.qa.tissue import displacement_mm, tissue_figures
from iscl_monai.quality.linearity import distance_mm_from

Slice = np.ndarray


@pytest.fixture(scope="module")
def checked(dataset: Path) -> Callable[[Callable[[Slice], Slice]], QaResult]:
    return lambda denoised: run_qa(Made(denoised), dataset, limits=Limits.proposed())


def failed(result: QaResult) -> set[str]:
    return {verdict.limit for verdict in result.failed}


def test_an_honest_denoiser_passes_everything(checked, oracle: Oracle) -> None:
    result = checked(oracle)
    assert failed(result) == set()
    assert {verdict.status for verdict in result.verdicts} == {"pass"}


def test_one_that_copies_its_input_removes_no_noise(checked) -> None:
    assert failed(checked(lambda image: image)) == {"noise_reduction_percent_min"}


def test_one_that_blurs_loses_edges_and_small_signals(checked) -> None:
    found = failed(checked(lambda image: ndimage.gaussian_filter(image, 1.5)))
    assert found >= {"f50_ratio_min", "d_prime_ratio_min", "lesion_recovery_min"}
    # What else blurring does: coarser noise, tissue smeared over its borders, a full-dose scan that changes.
    assert found - {"f50_ratio_min", "d_prime_ratio_min", "lesion_recovery_min"} == {
        "noise_frequency_shift_percent_max",
        "full_dose_change_hu_max",
        "full_dose_psnr_db_min",
    }


def test_one_that_paints_texture_is_seen_to_invent(checked, oracle: Oracle) -> None:
    def painted(image: Slice) -> Slice:
        rows, columns = (np.arange(size) - (size - 1) / 2 for size in image.shape)
        dots = np.cos(rows * 0.5)[:, None] * np.cos(columns * 0.5)
        return oracle(image) + 12 * dots.clip(0.5) - 12 * 0.5

    assert failed(checked(painted)) == {"hallucinations_per_slice_max"}


def test_one_that_shifts_hounsfield_units_is_off_in_soft_tissue(checked, oracle: Oracle) -> None:
    assert failed(checked(lambda image: oracle(image) + 3)) == {"bias_soft_hu_max", "full_dose_change_hu_max"}


@pytest.mark.parametrize(("lowest", "highest", "shift_hu"), [(-200, np.inf, -25), (-950, -600, 60)])
def test_one_that_shifts_the_tissue_of_patients_alone(
    checked, oracle: Oracle, phantom: Phantom, lowest: float, highest: float, shift_hu: float
) -> None:
    modules = [phantom.modules[name] for name in ANATOMY]
    anatomy = {id(truth) for module in modules for truth in (module.truth_hu, module.plain_hu)}

    def shifted(image: Slice) -> Slice:
        hit = (lowest < image) & (image < highest) & (id(oracle.truth_of(image)) in anatomy)
        return oracle(image) + np.where(hit & oracle.is_noisy(image), shift_hu, 0)

    assert failed(checked(shifted)) >= {"bias_anatomy_hu_max"}


def test_too_few_pixels_of_a_tissue_are_no_pass(
    monkeypatch: pytest.MonkeyPatch, checked, oracle: Oracle, phantom: Phantom
) -> None:
    monkeypatch.setattr(tissue, "EVEN_MM", 20.0)  # leaves next to no lung
    chest, abdomen = ANATOMY
    scans_hu = {name: phantom.modules[name].scans_hu(0.25) for name in ANATOMY}
    found = {
        (one.module, one.tissue): one.shift_hu
        for name in ANATOMY
        for one in tissue_figures(phantom, name, scans_hu[name], scans_hu[name] + 60)
    }
    assert math.isnan(found[chest, "lung"])
    assert found[abdomen, "soft tissue"] == pytest.approx(60, abs=0.01)
    result = checked(oracle)
    status = {one.quantity: one.status for one in result.verdicts if one.limit == "bias_anatomy_hu_max"}
    assert status["shift of lung in anatomy chest, HU"] == "not measurable"


def test_one_that_moves_everything_by_half_a_pixel(checked, oracle: Oracle) -> None:
    def moved(image: Slice) -> Slice:
        denoised = oracle(image)
        return ndimage.shift(denoised, (0.5, 0), mode="nearest") if oracle.is_noisy(image) else denoised

    assert failed(checked(moved)) == {"position_mm_max"}


def test_one_that_sharpens_at_low_dose(checked, oracle: Oracle) -> None:
    def sharpened(image: Slice) -> Slice:
        denoised = oracle(image)
        return denoised + 0.5 * oracle.is_noisy(image) * (denoised - ndimage.gaussian_filter(denoised, 1))

    assert failed(checked(sharpened)) == {"f50_ratio_max"}


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_where_things_lie_is_known_to_a_tenth_of_a_pixel(phantom: Phantom, angle: float) -> None:
    for name in (INSERTS, *ANATOMY):
        truth = phantom.modules[name].truth_hu
        still = np.stack([truth, truth + 5])
        assert displacement_mm(phantom, name, still) == pytest.approx(0, abs=1e-4)
        assert displacement_mm(phantom, name, ndimage.gaussian_filter(still, (0, 1, 1))) < 0.1
        moved = (
            ndimage.rotate(truth, angle, reshape=False, mode="nearest")
            if angle
            else ndimage.shift(truth, (0.3, -0.4), mode="nearest")
        )
        found = displacement_mm(phantom, name, moved[None])
        assert found > 0.2 if angle else found == pytest.approx(0.5 * phantom.spacing_mm, abs=0.14)


def test_one_that_erases_small_lesions_is_found_out_by_them(checked, oracle: Oracle, phantom: Phantom) -> None:
    erased = {id(phantom.modules[name].truth_hu): small_lesions(phantom, name) for name in ANATOMY}

    def without_small(image: Slice) -> Slice:
        signal = erased.get(id(oracle.truth_of(image)))
        return oracle(image) - (0 if signal is None else fitted(signal, image.shape))

    found = failed(checked(without_small))
    assert found == {"lesion_removed_share_max", "lesion_recovery_min", "d_prime_ratio_min"}


def small_lesions(phantom: Phantom, name: str) -> Slice:
    """What lesions of up to 5 mm add."""
    module, signal = phantom.modules[name], np.zeros_like(phantom.modules[name].truth_hu)
    for lesion in module.facts["lesions"]:
        if lesion["diameter_mm"] <= 5:
            away_mm = distance_mm_from(tuple(lesion["centre_row_column"]), signal.shape, phantom.pixel_spacing_mm)
            signal = np.where(away_mm < 8, module.signal_hu, signal)
    return signal
