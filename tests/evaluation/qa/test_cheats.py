"""A denoiser that cheats is caught by a limit of physics or of a standard; an honest one meets all of them."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.qa.cheats import CHEATS, HONEST, AveragesNeighbours, Denoised, World, cheating
from evaluation.qa.judged import Judge

from iscl_monai.evaluation.qa.making import between_dose
from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.phantom.anatomy_slice import REGIONS, draw_anatomy_slice
from iscl_monai.phantom.objects import MODULES, draw_discs
from iscl_monai.phantom.seeds import named_rng

CAUGHT_BY = {
    "copies its input": "noise_reduction_percent_min",
    "blurs everything, sigma 2 mm": "border_steepness_min",
    "blurs anatomy, sigma 0.7 mm": "border_steepness_min",
    "blurs the chest alone, sigma 0.7 mm": "border_steepness_min",
    "blurs anatomy, sigma 1 mm": "border_steepness_min",
    "blurs everything but lesions, sigma 3 mm": "border_steepness_min",
    "lowers bone above 250 HU by 150 HU, in patients": "bias_anatomy_hu_max",
    "invents a lesion per slice, -25 HU, 6 mm, each time elsewhere": "invented_per_scan_max",
    "doubles lesions of 10 HU": "faint_recovery_max",
    "erases lesions of 10 HU": "faint_recovery_min",
    "erases every third lesion of 20 HU and more": "lesion_removed_share_max",
    "knows another phantom by heart": "position_mm_max",
    "removes calcifications below 3 mm": "calcification_removed_share_max",
    "raises fat by 15 HU": "bias_anatomy_hu_max",
    "steps of 8 HU": "grey_steps_max",
    "sharpens, unsharp mask of sigma 1.4 mm": "border_steepness_max",
    "sharpens patients alone": "border_steepness_max",
    "adds a grid of 3 HU": "fixed_pattern_hu_max",
    "adds rings of 3 HU": "fixed_pattern_hu_max",
    "lowers contrast medium by 20 HU": "bias_anatomy_hu_max",
    "raises lung by 20 HU": "bias_anatomy_hu_max",
    "works at a quarter of the dose only": "noise_reduction_percent_min",
    "strength changes from slice to slice": "strength_spread_max",
    "brightness changes from slice to slice, 3 HU": "brightness_spread_hu_max",
    "shifts by half a pixel": "position_mm_max",
    "smooths muscle only, sigma 3 mm": "lesion_removed_share_max",
    "denoises muscle only": "noise_reduction_percent_min",
    "erases vessels in lung": "border_steepness_min",
    "squeezes contrast around 60 HU by 8 %, in patients": "bias_anatomy_hu_max",
    "raises dark and lowers bright within soft tissue by 6 HU": "bias_anatomy_hu_max",
    "paints texture": "hallucinations_per_slice_max",
    "replaces noise by noise of its own": "own_noise_share_max",
    "gives back a 5 x 5 pixel median, in patients": "border_steepness_min",
    "leaves the size of the noise alone": "own_noise_share_max",
    "finds what looks like a disc in soft tissue, and doubles it": "lesion_recovery_max",
}
"""The limit that was made for each."""

ANOTHER_SEED = 99


@pytest.fixture(scope="module")
def judge(phantom: Phantom) -> Judge:
    return Judge(phantom)


@pytest.fixture(scope="module")
def world(judge: Judge) -> World:
    """What cheats know; by heart, the objects of another phantom."""
    size, spacing_mm = len(judge.oracle.truths[0]), judge.phantom.spacing_mm
    place = {"size": size, "spacing_mm": spacing_mm}
    discs = [draw_discs(draw(named_rng(ANOTHER_SEED, name)), **place) for name, draw in MODULES.items()]
    patients = [draw_anatomy_slice(region, seed=ANOTHER_SEED, **place).with_lesions_hu for region in REGIONS]
    return World(judge.phantom, judge.oracle, [*discs, *patients])


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_denoiser_has_no_fault(judge: Judge, world: World, name: str) -> None:
    found = judge.verdicts(lambda image: HONEST[name](Denoised(world, image)))
    assert [one for one in found if one.status in ("fault", "not measurable")] == []


def test_every_cheat_has_its_limit() -> None:
    assert CAUGHT_BY.keys() == CHEATS.keys()
    assert len(CHEATS) >= 20


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught(judge: Judge, world: World, name: str) -> None:
    dose = between_dose(judge.phantom.seed) if "a quarter of the dose only" in name else 0.25
    assert CAUGHT_BY[name] in judge.faults(cheating(world, name), dose)


def test_one_that_averages_neighbours_is_caught_where_they_differ(judge: Judge, world: World) -> None:
    assert judge.faults(AveragesNeighbours(world)) == {"step_left_min"}


def test_one_that_looks_at_neighbours_and_uses_them_well_has_no_fault(judge: Judge, world: World) -> None:
    class Volumes(AveragesNeighbours):
        def change_volume_hu(self, volume_hu: np.ndarray) -> np.ndarray:
            return np.stack([self.denoised(image) for image in volume_hu]) - volume_hu

    assert judge.faults(Volumes(world)) == set()
