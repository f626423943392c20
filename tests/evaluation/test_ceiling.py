"""What a perfect denoiser would reach against a noisy reference, and errors beyond the reference's own noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iscl_monai.dicom.inserted import inserted_dose
from iscl_monai.evaluation.benchmark.ceiling import ceilings
from iscl_monai.evaluation.benchmark.score import LoadedPair, judged_by_reference, truth_protocols
from iscl_monai.evaluation.ceiling import Ceiling, excess_rmse_hu
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import HU_FRAME, TRUTH_RANDOM_ANATOMY

FULL_HU, DOSE = 10.0, 0.25
RNG = np.random.default_rng(0)
TRUTH = np.full((3, 96, 96), 40, np.float32)
OWN = RNG.normal(0, FULL_HU, TRUTH.shape).astype(np.float32)
ADDED = RNG.normal(0, FULL_HU * math.sqrt((1 - DOSE) / DOSE), TRUTH.shape).astype(np.float32)
REFERENCE, LOW = TRUTH + OWN, TRUTH + OWN + ADDED


def pair(**change: object) -> LoadedPair:
    return LoadedPair(**{"patient": "A", "noisy_hu": LOW, "clean_hu": REFERENCE, "dose": DOSE, **change})  # type: ignore[arg-type]


def test_the_ceiling_at_a_quarter_is_4_77_db_and_a_perfect_denoiser_reaches_it() -> None:
    ceiling = ceilings([pair()], [HU_FRAME])[HU_FRAME.identity]["A"]
    assert ceiling.gain_db == pytest.approx(10 * math.log10(3))
    assert math.sqrt(ceiling.reference_mse_hu2) == pytest.approx(FULL_HU, rel=0.02)
    perfect = fidelity(TRUTH, REFERENCE, protocol=HU_FRAME).mean()
    assert ceiling.psnr_db == pytest.approx(perfect.psnr_db, abs=0.1)
    assert excess_rmse_hu({"A": perfect.mse_hu2}, {"A": ceiling}) == pytest.approx(0, abs=1.5)


def test_excess_error_is_the_error_to_the_truth_where_a_method_knows_nothing_of_the_references_noise() -> None:
    """6 HU of error of its own, independent of the noise: hidden behind 10 HU of the reference, and found again."""
    own_error = np.random.default_rng(5).normal(0, 6, TRUTH.shape).astype(np.float32)
    measured = fidelity(TRUTH + own_error, REFERENCE, protocol=HU_FRAME).mean()
    known = ceilings([pair()], [HU_FRAME])[HU_FRAME.identity]
    assert measured.rmse_hu == pytest.approx(math.hypot(6, FULL_HU), rel=0.02)
    assert excess_rmse_hu({"A": measured.mse_hu2}, known) == pytest.approx(6, rel=0.05)


def test_a_method_that_leaves_the_references_noise_has_less_than_none() -> None:
    known = ceilings([pair()], [HU_FRAME])[HU_FRAME.identity]
    assert excess_rmse_hu({"A": fidelity(REFERENCE, REFERENCE, protocol=HU_FRAME).mean().mse_hu2}, known) < -9


def test_with_a_truth_the_ceiling_is_measured() -> None:
    independent = TRUTH + np.random.default_rng(3).normal(0, 20, TRUTH.shape).astype(np.float32)
    known = pair(noisy_hu=independent, truth_hu=TRUTH, truth_protocol=TRUTH_RANDOM_ANATOMY.name, dose=None)
    ceiling = ceilings([known], [HU_FRAME])[HU_FRAME.identity]["A"]
    assert ceiling.psnr_db == pytest.approx(fidelity(TRUTH, REFERENCE, protocol=HU_FRAME).mean().psnr_db)
    assert ceiling.gain_db == pytest.approx(10 * math.log10(5), abs=0.1)  # noise of both doses, nothing shared


def test_nothing_known_is_no_ceiling() -> None:
    assert ceilings([pair(dose=None)], [HU_FRAME]) == {HU_FRAME.identity: {}}
    assert math.isnan(excess_rmse_hu({"A": 1.0}, {}))
    assert math.isnan(excess_rmse_hu({"A": 1.0, "B": 1.0}, {"A": Ceiling(psnr_db=1, gain_db=1, reference_mse_hu2=1)}))


def test_pairs_with_a_truth_are_not_averaged_with_others() -> None:
    one, other = pair(), pair(patient="B", truth_hu=TRUTH, truth_protocol=TRUTH_RANDOM_ANATOMY.name)
    assert judged_by_reference([one, other]) == [one]
    assert judged_by_reference([other]) == [other]
    assert truth_protocols([one, other]) == [TRUTH_RANDOM_ANATOMY]
    assert truth_protocols([one]) == []


def test_the_dose_is_read_from_our_own_derivation() -> None:
    from data_prep.dose.header import SimulationRecipe

    recipe = SimulationRecipe(
        fraction=0.1, average=3, seed=0, z_range_mm=None, noise_hu=12.0, photons=1e5, kernel="fitted"
    )
    assert inserted_dose(recipe.description()) == 0.1
    assert inserted_dose("Noise inserted as for 1.5 of the dose") is None
    assert inserted_dose("") is None


def test_evaluate_tells_the_ceiling_where_every_dose_is_known() -> None:
    from pathlib import Path

    from iscl_monai.evaluation.pairs import Pair
    from iscl_monai.evaluation.scans import Scan
    from iscl_monai.evaluation.scores import Scores

    noisy, reference = (
        Scan(
            source=Path("scan"),
            hu=hu,
            affine_lps=np.eye(4),
            positions_mm=(0.0, 1.0, 2.0),
            pixel_spacing_mm=(1.0, 1.0),
        )
        for hu in (LOW, REFERENCE)
    )
    for dose, shown in ((DOSE, True), (None, False)):
        scores = Scores(HU_FRAME)
        scores.add(Pair(name="A", patient="A", denoised_hu=LOW, reference=reference, noisy=noisy, dose=dose))
        assert ("a perfect denoiser would gain 4.77 dB" in " ".join(scores.notices())) is shown
