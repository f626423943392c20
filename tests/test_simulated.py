"""Noise of simulated scans: just what they have more than their references, at many strengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from iscl_monai.data import HarvestedNoise, PoolScan, SimulatedNoise, cached, noise_source
from iscl_monai.data.simulated import MixedNoise
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.transforms import BodyFractiond, loading

ONE = {"strengths": (1.0, 1.0), "quiet_share": 0.0}


def volume(image_hu: np.ndarray) -> dict[str, Any]:
    return BodyFractiond("image")({"image": torch.from_numpy(image_hu.astype(np.int16))[None]})


def pair(sigma_hu: float, *, seed: int = 0, size: int = 80) -> tuple[dict[str, Any], dict[str, Any]]:
    """A scan with twice as much noise in its right half, and its reference."""
    chance = np.random.default_rng(seed)
    quiet = 40 + 5 * chance.standard_normal((size, size, 3))
    noise = sigma_hu * chance.standard_normal(quiet.shape)
    noise[:, size // 2 :] *= 2
    return volume(quiet + noise), volume(quiet)


def test_it_is_the_difference_wherever_it_is_cut() -> None:
    noisy, reference = pair(20)
    source = SimulatedNoise([noisy], [reference], **ONE)
    difference = (noisy["image"] - reference["image"])[0].float()
    windows = difference.unfold(0, 16, 1).unfold(1, 16, 1)
    for n in range(5):
        patch = source.draw(16, np.random.default_rng(n))[0]
        assert patch.shape == (16, 16)
        assert (windows == patch).flatten(-2).all(-1).any()


def test_strengths_are_drawn_and_some_patches_get_none() -> None:
    source = SimulatedNoise(*zip(pair(20), strict=True), strengths=(0.5, 2.0), quiet_share=0.3)
    spreads = np.array([float(source.draw(32, np.random.default_rng(n)).std()) for n in range(150)])
    assert 0.2 < (spreads == 0).mean() < 0.4
    assert spreads[spreads > 0].min() < 15
    assert spreads.max() > 50
    again = [float(source.draw(32, np.random.default_rng(n)).std()) for n in range(5)]
    assert again == spreads[:5].tolist()


def test_scans_that_are_their_references_are_left_out() -> None:
    noisy, reference = pair(20)
    assert len(SimulatedNoise([noisy, reference], [reference, reference]).fields) == 1
    with pytest.raises(
        DatalistRefusal, match="no simulated noise: 1 noisy scans with a reference, none of them noisier"
    ):
        SimulatedNoise([reference], [reference])
    with pytest.raises(DatalistRefusal, match="no simulated noise: 0 noisy scans"):
        SimulatedNoise([], [])


def test_a_reference_of_another_size_is_refused() -> None:
    with pytest.raises(DatalistRefusal, match=r"\(1, 80, 80, 3\) voxels with a reference of \(1, 64, 64, 3\)"):
        SimulatedNoise([pair(20)[0]], [pair(20, size=64)[1]])


class Constant:
    """A source whose noise tells where it comes from."""

    def __init__(self, value: float) -> None:
        self.value = value

    def draw(self, size: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.full((1, size, size), self.value)


def test_two_kinds_are_mixed_by_their_share() -> None:
    mixed = MixedNoise(Constant(1.0), Constant(2.0), share=0.25)
    values = [float(mixed.draw(2, np.random.default_rng(n)).mean()) for n in range(400)]
    assert set(values) == {1.0, 2.0}
    assert np.mean(np.array(values) == 2.0) == pytest.approx(0.25, abs=0.07)
    with pytest.raises(ConfigRefusal, match=r"simulated_share=1\.5"):
        MixedNoise(Constant(1.0), Constant(2.0), share=1.5)


def test_a_pool_gives_the_noise_of_its_scans_that_have_a_reference(tmp_path: Path) -> None:
    body = np.full((96, 96, 4), 40.0)
    chance = np.random.default_rng(3)
    files = {}
    for name, sigma in {"quiet": 5, "low": 40, "other": 40}.items():
        image = np.pad(
            body + sigma * chance.standard_normal(body.shape), ((16, 16), (16, 16), (0, 0)), constant_values=-1000
        )
        files[name] = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(image.astype(np.int16), np.eye(4)), files[name])
    scans = [
        PoolScan(image=files["other"], patient="b"),
        PoolScan(image=files["low"], patient="a", reference=files["quiet"]),
    ]
    chain = loading("image")
    noisy = cached(scans, loading=chain, progress=False)
    clean = cached([PoolScan(image=files["quiet"], patient="c")], loading=chain, progress=False)
    assert isinstance(noise_source(noisy, clean, scans, chain), HarvestedNoise)
    source = noise_source(noisy, clean, scans, chain, simulated_share=0.5)
    assert isinstance(source, MixedNoise)
    assert isinstance(source.second, SimulatedNoise)
    assert len(source.second.fields) == 1
    assert isinstance(noise_source(noisy, clean, scans, chain, simulated_share=1.0), SimulatedNoise)
