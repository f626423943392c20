"""A denoiser that cheats is caught, each by the limits made for it; an honest one passes them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation.qa.denoisers import Made, Oracle, fitted
from scipy import ndimage

from iscl_monai.evaluation.qa import Limits, QaResult, run_qa
from iscl_monai.evaluation.qa.phantom import ANATOMY, Phantom
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
