from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iscl_monai.baselines import noise_level_hu
from tests.baselines.slices import hann_noise, phantom, white_noise


@pytest.mark.parametrize("noise", [white_noise, hann_noise])
@pytest.mark.parametrize("sigma_hu", [5, 10, 20, 40, 60])
def test_within_a_tenth_of_the_truth(noise: Callable[..., np.ndarray], sigma_hu: float) -> None:
    for seed in range(3):
        measured_hu = noise_level_hu(phantom(256) + noise(sigma_hu, 256, seed))
        assert measured_hu == pytest.approx(sigma_hu, rel=0.1)


@pytest.mark.parametrize("noise", [white_noise, hann_noise])
@pytest.mark.parametrize("tissue_hu", [-800.0, 600.0, 2000.0])
def test_found_without_soft_tissue(noise: Callable[..., np.ndarray], tissue_hu: float) -> None:
    slice_hu = np.full((128, 128), tissue_hu, np.float32) + noise(15)
    slice_hu[:, :30] = -tissue_hu
    slice_hu[:, :30] += noise(15)[:, :30]
    assert noise_level_hu(slice_hu) == pytest.approx(15, rel=0.12)


def test_air_around_a_body_without_soft_tissue_is_not_taken_for_its_noise() -> None:
    slice_hu = np.full((128, 128), -1000, np.float32)
    slice_hu[30:100, 30:100] = 600 + white_noise(20)[30:100, 30:100]
    assert noise_level_hu(slice_hu) == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("value_hu", [-1024.0, -333.3, 0.0, 40.0, 900.1, 3071.0])
def test_nothing_in_a_constant_slice(value_hu: float) -> None:
    assert noise_level_hu(np.full((64, 64), value_hu, np.float32)) == 0


@pytest.mark.parametrize("edge_px", [4, 20, 40])
def test_rounding_beside_an_edge_is_no_noise(edge_px: int) -> None:
    slice_hu = np.full((64, 64), 3071, np.float32)
    slice_hu[:, :edge_px] = -333.3
    assert noise_level_hu(slice_hu) == 0


def test_anatomy_alone_is_no_noise() -> None:
    assert noise_level_hu(phantom()) < 0.5
