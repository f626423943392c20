"""The measures themselves, on arrays whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.evaluation.qa.between_slices import steadiness
from iscl_monai.evaluation.qa.borders import border_figures, step_left
from iscl_monai.evaluation.qa.figures import BorderFigures
from iscl_monai.evaluation.qa.making import between_dose
from iscl_monai.evaluation.qa.noise import own_noise_share
from iscl_monai.evaluation.qa.patterns import fixed_pattern_hu, grey_steps
from iscl_monai.evaluation.qa.phantom import ANATOMY, Phantom
from iscl_monai.evaluation.qa.verdicts import border_steepness

EVERYWHERE = np.ones((96, 96), bool)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 10, (12, 96, 96)).astype(np.float32)


def test_a_pattern_is_found_below_the_noise_and_noise_is_none(noise: np.ndarray) -> None:
    rows, columns = np.indices((96, 96))
    wave = 2 * 2**0.5 * np.cos(0.7 * rows + 0.3 * columns)  # standard deviation 2
    half = 0.5 * noise
    assert fixed_pattern_hu(noise, half, EVERYWHERE) < 0.3
    assert fixed_pattern_hu(noise, half + 5, EVERYWHERE) < 0.3  # a shift is no pattern
    assert fixed_pattern_hu(noise, half + wave, EVERYWHERE) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("step", [1.5, 2, 5, 8, 10, 33])
def test_steps_of_grey_are_found_whatever_their_size_and_whole_numbers_are_none(noise: np.ndarray, step: float) -> None:
    assert grey_steps(noise, EVERYWHERE) < 0.05
    assert grey_steps(np.round(noise), EVERYWHERE) < 0.05
    assert grey_steps(step * np.round(noise * 3 / step), EVERYWHERE) > 0.9


def test_noise_of_its_own_is_told_from_noise_that_was_filtered(noise: np.ndarray) -> None:
    disc = {"centre": (47.5, 47.5), "radius_mm": 200.0, "spacing_mm": 1.0}
    filtered = 0.4 * ndimage.gaussian_filter(noise, (0, 1, 1))
    assert own_noise_share(noise, filtered, **disc) < 0.05  # type: ignore[arg-type]
    neighbours = ndimage.uniform_filter1d(noise, 3, axis=0, mode="wrap")
    assert own_noise_share(noise, neighbours, **disc) < 0.25  # type: ignore[arg-type]
    own = np.random.default_rng(1).normal(0, 1, noise.shape).astype(np.float32)
    assert own_noise_share(noise, own, **disc) > 0.9  # type: ignore[arg-type]
    mixed = 0.1 * noise + own
    assert own_noise_share(noise, mixed, **disc) == pytest.approx(0.5, abs=0.1)  # type: ignore[arg-type]


def test_strength_and_brightness_that_change_from_scan_to_scan(noise: np.ndarray) -> None:
    steady = steadiness("water", noise, 0.5 * noise, EVERYWHERE)
    assert steady.strength_spread < 0.02
    assert steady.brightness_spread_hu < 0.5
    strength = np.where(np.arange(12) % 2, 0.5, 0.8)[:, None, None].astype(np.float32)
    assert steadiness("water", noise, strength * noise, EVERYWHERE).strength_spread == pytest.approx(0.3, abs=0.03)
    brighter = 0.5 * noise + np.arange(12, dtype=np.float32)[:, None, None]
    assert steadiness("water", noise, brighter, EVERYWHERE).brightness_spread_hu == pytest.approx(11, abs=0.5)


def test_borders_are_as_steep_as_they_are_left(phantom: Phantom) -> None:
    for name in ANATOMY:
        truth = np.repeat(phantom.modules[name].truth_hu[None], 3, axis=0)
        kinds = {one.border: one.steepness for one in border_figures(phantom, name, 0.7 * truth)}
        assert {"organs and fat", "bone", "contrast medium"} <= kinds.keys()
        assert list(kinds.values()) == pytest.approx([0.7] * len(kinds))
        blurred = ndimage.gaussian_filter(truth, (0, 1, 1))
        assert max(one.steepness for one in border_figures(phantom, name, blurred)) < 0.8


def test_a_module_with_few_borders_of_a_kind_is_judged_with_the_others() -> None:
    """A thin structure or two are no more than their share; a module with enough of them is judged alone."""

    def steepness(*modules: tuple[int, float], kind: str = "organs and fat") -> float:
        figures = [
            BorderFigures(module=str(place), border=kind, pixels=pixels, steepness=left)
            for place, (pixels, left) in enumerate(modules)
        ]
        return border_steepness(figures)[kind]

    assert steepness((500, 0.8), (4500, 1.0)) == pytest.approx(0.98)
    assert steepness((1000, 0.8), (4000, 1.0)) == 0.8
    assert steepness((500, 0.8), (4500, math.nan)) == 0.8
    assert steepness((500, 1.3), (500, 0.8)) == 1.3
    assert border_steepness([BorderFigures(module="chest", border="lung", pixels=90, steepness=math.nan)]) == {}


def test_the_mean_of_three_slices_leaves_a_third_of_a_step(phantom: Phantom) -> None:
    truth = phantom.stack.truth_hu
    assert step_left(phantom, truth) == pytest.approx(1)
    assert step_left(phantom, ndimage.uniform_filter1d(truth, 3, axis=0)) == pytest.approx(1 / 3, abs=0.06)
    assert step_left(phantom, ndimage.gaussian_filter(truth, (0, 1, 1))) == pytest.approx(1, abs=0.05)


def test_the_dose_between_is_another_for_each_seed_and_none_that_is_usual() -> None:
    doses = [between_dose(seed) for seed in range(50)]
    assert doses == [between_dose(seed) for seed in range(50)]
    assert len(set(doses)) > 40
    assert all(
        0.12 <= dose <= 0.7 and min(abs(np.log(dose / step)) for step in (0.5, 0.25, 0.1)) > 0.1 for dose in doses
    )
