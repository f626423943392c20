"""Painted patches: without noise, with sharp edges, in the Hounsfield units of what they replace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor

from iscl_monai.data import UnpairedPatches
from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.transforms import HUWindowd, RandDeadLeavesd, augmentation, dead_leaves
from iscl_monai.transforms.dead_leaves import RADII_PX, STEEPEST_HU

NOISE_HU = 12.0


def patch(size: int = 64) -> Tensor:
    """Fat beside muscle, with noise; HU (1, row, column)."""
    source = torch.Generator().manual_seed(1)
    hu = torch.full((1, size, size), -90.0)
    hu[..., size // 2 :] = 50
    return hu + NOISE_HU * torch.randn(hu.shape, generator=source)


def painted(seed: int, share: float = 1.0) -> Tensor:
    painting = RandDeadLeavesd("clean", share=share)
    painting.set_random_state(seed=seed)
    picture: Tensor = painting({"clean": patch()})["clean"]
    return picture


def steps_hu(image: Tensor) -> Tensor:
    """Differences of neighbours in a row."""
    return (image[..., 1:] - image[..., :-1]).abs()


@pytest.mark.parametrize("seed", range(5))
def test_nothing_in_it_is_noise_and_edges_are_sharp(seed: int) -> None:
    picture = painted(seed)
    assert picture.shape == patch().shape
    assert picture.dtype == torch.float32
    flat = (steps_hu(picture) < STEEPEST_HU).float().mean()
    assert flat > 0.5
    assert (steps_hu(patch()) < STEEPEST_HU).float().mean() < 0.25
    assert steps_hu(picture).max() > 80  # fat to muscle within a pixel or two


@pytest.mark.parametrize("seed", range(5))
def test_its_hounsfield_units_are_those_of_the_patch(seed: int) -> None:
    picture, shade = painted(seed), STEEPEST_HU * 1.5 * RADII_PX[1]
    assert picture.min() > patch().min() - shade
    assert picture.max() < patch().max() + shade
    near = ((picture[..., None] - torch.tensor([-90.0, 50.0])).abs() < 4 * NOISE_HU).any(-1)
    assert near.float().mean() > 0.8


def test_no_leaf_is_cut_off_at_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    painting = RandDeadLeavesd("clean", share=1.0)
    pictures = np.full((2, 60, 64, 64), -1000.0, np.float32)
    for faded, several in zip((dead_leaves.FADED, 1000.0), pictures, strict=True):
        monkeypatch.setattr(dead_leaves, "FADED", faded)
        for seed, picture in enumerate(several):
            painting.set_random_state(seed=seed)
            painting._drop_leaf(picture, 1000.0)
    small, whole = pictures
    assert (whole > 0).any(axis=(1, 2)).sum() > 30
    assert np.abs(small - whole).max() < 0.01


def test_a_seed_paints_its_picture_again_and_no_other() -> None:
    assert torch.equal(painted(3), painted(3))
    assert not torch.equal(painted(3), painted(4))


def test_as_many_are_replaced_as_was_asked_for() -> None:
    replaced = [not torch.equal(painted(seed, 0.3), patch()) for seed in range(200)]
    assert np.mean(replaced) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(painted(0, 0.0), patch())


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigRefusal, match=r"dead_leaves_share=.*; allowed: 0 to 1"):
        RandDeadLeavesd("clean", share=share)


class OneHounsfield:
    """Noise that can be told from everything else."""

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        return torch.ones(1, size, size)


def patches(share: float) -> UnpairedPatches:
    source = torch.Generator().manual_seed(2)
    scan = {
        "image": 40 + NOISE_HU * torch.randn(1, 96, 96, 3, generator=source),
        "image_body": np.ones((12, 12, 3), np.float32),
    }
    return UnpairedPatches(
        [scan],
        [scan],
        augmentation=Compose([augmentation("image", patch_size=32)]),
        windowing=HUWindowd("image", HUWindow(-1000, 1000)),
        seed=7,
        harvested=OneHounsfield(),  # type: ignore[arg-type]
        painting=RandDeadLeavesd("clean", share=share) if share else None,
    )


def test_noise_is_added_to_what_is_painted_and_noisy_scans_are_not_painted() -> None:
    without, with_leaves = patches(0)[5], patches(1)[5]
    assert torch.equal(with_leaves["noisy"], without["noisy"])
    assert not torch.equal(with_leaves["clean"], without["clean"])
    torch.testing.assert_close(with_leaves["harvested"] - with_leaves["clean"], torch.full((1, 32, 32), 0.001))
    again = patches(1)
    again[2]  # what was asked for before changes nothing
    assert torch.equal(again[5]["clean"], with_leaves["clean"])


def test_painting_without_noise_to_add_is_refused() -> None:
    made = patches(1)
    with pytest.raises(ConfigRefusal, match="dead_leaves_share without harvested noise"):
        UnpairedPatches([], [], augmentation=made.augmentation, windowing=made.windowing, painting=made.painting)
