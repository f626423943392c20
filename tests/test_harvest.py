"""Harvested noise: as strong and as textured as in the scan it came from, without its anatomy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from iscl_monai.data import HarvestedNoise, UnpairedPatches
from iscl_monai.data.harvest import ScanNoise, harvest
from iscl_monai.errors import DatalistRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks.local import QUIET_OF_NOISE
from iscl_monai.networks.slice_noise import LOUDEST_OF_TISSUE
from iscl_monai.transforms import BodyFractiond, HUWindowd, RandDeadLeavesd, RandLesionsd, augmentation
from iscl_monai.transforms.lesions import STRUCTURES


def scan(noise_hu: float, *, seed: int = 0, texture_px: float = 0.7, tissue_hu: float = 40.0) -> dict[str, Any]:
    """Six slices of a body with an organ border through it, correlated noise; HU (1, row, column, slice)."""
    chance = np.random.default_rng(seed)
    image = np.full((160, 160, 6), -1000.0)
    image[16:144, 16:144] = tissue_hu
    image[16:144, 80:144] = tissue_hu + 200
    noise = ndimage.gaussian_filter(chance.standard_normal(image.shape), (texture_px, texture_px, 0))
    image += noise_hu * noise / noise.std()
    items = {"image": torch.from_numpy(image.astype(np.int16))[None]}
    return BodyFractiond("image")(items)


def patches(**arguments: Any) -> UnpairedPatches:
    noisy, clean = [scan(40)], [scan(10, seed=1)]
    window = HUWindow(-1000, 1000)
    chain = augmentation("image", patch_size=64, lesions=arguments.pop("lesions", 0))
    harvested = HarvestedNoise(noisy, clean, **arguments)
    return UnpairedPatches(noisy, clean, augmentation=chain, windowing=HUWindowd("image", window), harvested=harvested)


@pytest.mark.parametrize("differences", [True, False])
def test_it_is_the_noise_of_the_scan_without_its_anatomy(differences: bool) -> None:
    found = harvest(scan(30), differences=differences)
    assert found is not None
    assert found.sigma_hu == pytest.approx(30, rel=0.06)  # the surface takes some of it
    assert np.abs(found.blocks_hu.mean(axis=(1, 2))).max() < 1e-3
    assert np.abs(found.blocks_hu.mean(axis=0)).max() < 5 * 30 / np.sqrt(len(found.blocks_hu))


def test_a_loud_scan_gives_as_much_as_a_quiet_one() -> None:
    quiet, loud = (harvest(scan(noise_hu), differences=False) for noise_hu in (15, 55))
    assert quiet is not None
    assert loud is not None
    assert len(loud.blocks_hu) >= 0.9 * len(quiet.blocks_hu)
    assert np.abs(loud.blocks_hu.mean(axis=0)).max() < 55  # nothing across the organs' border


def test_the_texture_is_reported() -> None:
    fine, coarse = harvest(scan(30, texture_px=0.4)), harvest(scan(30, texture_px=1.2))
    assert isinstance(fine, ScanNoise)
    assert isinstance(coarse, ScanNoise)
    assert coarse.mean_frequency() < 0.6 * fine.mean_frequency()
    assert "mean frequency 0.1" in HarvestedNoise([scan(30, texture_px=1.2)], [scan(10)]).report()


@pytest.mark.parametrize("size", [20, 32, 64, 75])
def test_a_patch_of_it_is_as_strong_everywhere_and_has_no_seams(size: int) -> None:
    source = HarvestedNoise([scan(40)], [scan(10, seed=1)], strengths=(1.0, 1.0), quiet_share=0)
    drawn = np.stack([source.draw(size, np.random.default_rng(n))[0].numpy() for n in range(150)])
    assert drawn.shape == (150, size, size)
    spread = ndimage.uniform_filter(np.sqrt(np.square(drawn).mean(axis=0)), 9)
    wanted = np.sqrt(40**2 - 10**2)
    assert np.sqrt(np.square(drawn).mean()) == pytest.approx(wanted, rel=0.06)
    assert np.abs(spread / wanted - 1).max() < 0.15
    steps = np.abs(np.diff(drawn, axis=2)).mean(axis=(0, 1))
    assert steps.max() < 1.2 * np.median(steps)


def test_strengths_are_drawn_and_some_patches_get_none() -> None:
    source = HarvestedNoise([scan(40)], [scan(10, seed=1)], strengths=(0.25, 2.0), quiet_share=0.3)
    spreads = np.array([float(source.draw(32, np.random.default_rng(n)).std()) for n in range(200)])
    assert 0.2 < (spreads == 0).mean() < 0.4
    heard = spreads[spreads > 0]
    assert heard.min() < 15
    assert heard.max() > 60


@pytest.mark.parametrize("noisy", [scan(9), scan(40, tissue_hu=-700)], ids=["quiet", "no soft tissue"])
def test_scans_that_give_nothing_are_refused(noisy: dict[str, Any]) -> None:
    with pytest.raises(DatalistRefusal, match=r"no noise to harvest: 1 noisy scans, of .* HU, a clean pool of 8 HU"):
        HarvestedNoise([noisy], [scan(10, seed=1)])


def test_they_are_left_out_beside_others() -> None:
    assert len(HarvestedNoise([scan(40, tissue_hu=-700), scan(40)], [scan(10, seed=1)]).scans) == 1


def test_the_third_image_is_the_clean_one_with_noise_and_repeats() -> None:
    row = patches(strengths=(1.0, 1.0), quiet_share=0, lesions=3)
    item = row[5]
    added_hu = 1000 * (item["harvested"] - item["clean"])
    tissue = (item["clean"] > -0.5) & (item["harvested"] < 1)
    assert 30 < float(added_hu[tissue].std()) < 48
    again = patches(strengths=(1.0, 1.0), quiet_share=0, lesions=3)[5]
    assert set(item) == {"noisy", "clean", "harvested", "belongs"}
    assert all(torch.equal(item[name], again[name]) for name in item)
    assert not torch.equal(row[6]["harvested"], item["harvested"])


def test_a_map_tells_what_noise_belongs_to_the_clean_patch() -> None:
    """Structure that is everywhere is none of it: clean scans say how loud they are."""
    row = patches(strengths=(1.0, 1.0), quiet_share=0)
    item = row[5]
    assert 1000 * float(item["belongs"].median()) == pytest.approx(QUIET_OF_NOISE * 10, rel=0.25)
    busy = scan(10, seed=1)
    grains = 300 * np.random.default_rng(1).standard_normal((1, 160, 64, 6))
    busy["image"][:, :, 80:144] += torch.from_numpy(grains.astype(np.int16))
    row = UnpairedPatches(
        [scan(40)], [busy], augmentation=row.augmentation, windowing=row.windowing, harvested=row.harvested
    )
    assert 1000 * row.loudest[0] == pytest.approx(LOUDEST_OF_TISSUE * QUIET_OF_NOISE * 10, rel=0.2)
    assert max(float(row[n]["belongs"].max()) for n in range(8)) <= row.loudest[0]


def test_nothing_of_the_noise_belongs_to_a_painted_patch() -> None:
    row = patches(strengths=(1.0, 1.0), quiet_share=0)
    row.painting = RandDeadLeavesd("clean", share=1.0)
    assert float(row[5]["belongs"].max()) == 0


def test_it_changes_nothing_about_the_other_two() -> None:
    row = patches()
    plain = UnpairedPatches(
        row.pools["noisy"], row.pools["clean"], augmentation=row.augmentation, windowing=row.windowing
    )
    assert set(plain[3]) == {"noisy", "clean"}
    assert all(torch.equal(plain[3][name], row[3][name]) for name in plain[3])


# --- lesions -----------------------------------------------------------------------------------------


def lesions(patch: torch.Tensor, seed: int, **arguments: Any) -> torch.Tensor:
    put_in = RandLesionsd("image", **arguments)
    put_in.set_random_state(seed)
    changed: torch.Tensor = put_in({"image": patch})["image"]
    return changed - patch


def test_lesions_are_as_large_and_as_strong_as_asked_for() -> None:
    flat = torch.full((1, 64, 64), 40.0)
    most = [lesions(flat, n, most=1, texture_share=0.0, contrasts_hu=(20.0, 30.0)).abs() for n in range(60)]
    heights = np.array([float(one.max()) for one in most])
    areas = np.array([float((one > 10).sum()) for one in most])
    assert 0.3 < (heights == 0).mean() < 0.7  # none or one
    assert heights.max() <= 30
    assert areas.max() < 1.6 * np.pi * 5**2


def test_structures_are_strong_and_of_all_sizes() -> None:
    flat = torch.full((1, 64, 64), 40.0)
    added = [lesions(flat, n, most=1, **STRUCTURES) for n in range(120)]
    heights = np.array([float(one.abs().max()) for one in added if one.any()])
    areas = np.array([float((one.abs() > 0.5 * one.abs().max()).sum()) for one in added if one.any()])
    assert heights.min() > 50
    assert 700 < heights.max() <= 900
    assert areas.min() < 20
    assert areas.max() > 600
    chain = augmentation("image", patch_size=64, structures=1, lesions=6)
    assert [type(step).__name__ for step in chain.transforms][-2:] == ["RandLesionsd", "RandLesionsd"]


def test_lesions_are_in_tissue_and_on_both_sides_of_a_pair() -> None:
    pair = torch.full((2, 64, 64), 40.0)
    pair[:, :, :32] = -900
    added = torch.stack([lesions(pair, n, most=8, texture_share=0.5) for n in range(20)])
    assert torch.equal(added[:, 0], added[:, 1])
    assert not added[..., :31].any()
    assert added[..., 33:].any()
    assert (added > 0).any()
    assert (added < 0).any()
