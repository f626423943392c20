"""No place of a slice counts as louder than its soft tissue lets it be: lung and bone are no noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from iscl_monai.baselines import LocalNonLocalMeans
from iscl_monai.errors import ConfigRefusal
from iscl_monai.evaluation.scans import read_scan
from iscl_monai.hu import HUWindow
from iscl_monai.inference import Denoiser
from iscl_monai.inference.tiles import SeamlessInferer
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor, NoiseUNet, UNetGenerator
from iscl_monai.networks.local import box_mean, quiet_deviation
from iscl_monai.networks.slice_noise import LOUDEST_OF_TISSUE, slice_noise
from tests.real_data import real

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "iscl"
WINDOW = HUWindow(-1000, 1000)
NOISE_HU = 10.0


def chest(rows: int = 192, columns: int = 160, *, fine_hu: float = 60.0, noise_hu: float = NOISE_HU) -> Tensor:
    """Muscle above, lung with fine structure below: one grain beside the other, no quiet place; network units."""
    source = torch.Generator().manual_seed(4)
    hu = torch.full((1, 1, rows, columns), 50.0)
    below = slice(rows // 3, None)
    hu[..., below, :] = -800 + fine_hu * torch.randn(hu[..., below, :].shape, generator=source)
    return WINDOW.to_network(hu + noise_hu * torch.randn(hu.shape, generator=source))


def lung(image: Tensor) -> Tensor:
    return image[..., image.shape[-2] // 3 + 30 :, :]


def ensemble(mode: str = "ensemble", *, unets: bool = True) -> DenoisingNetwork:
    torch.manual_seed(2)
    f, h = (UNetGenerator(width=4), NoiseUNet(width=4)) if unets else (Generator(width=4, skip="nonlocal"), None)
    made = DenoisingNetwork(
        denoiser=f, noise_extractor=h or NoiseExtractor(layers=3), hu_window=WINDOW, mode=mode
    ).eval()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, 0, 0.2)
    return made


def test_fine_structure_is_as_loud_as_soft_tissue_at_most() -> None:
    seen, told = (noise * 1000 for noise in (quiet_deviation(chest()), slice_noise(chest(), WINDOW)))
    assert float(lung(seen).median()) > 45
    muscle = float(seen[..., :40, :].median())
    assert float(lung(told).max()) <= 1.05 * LOUDEST_OF_TISSUE * muscle
    torch.testing.assert_close(told[..., :40, :], seen[..., :40, :].clamp_max(float(told.max())))


def test_a_loud_slice_is_as_loud_as_it_looks() -> None:
    x = chest(fine_hu=0, noise_hu=60)
    assert (slice_noise(x, WINDOW) == quiet_deviation(x)).float().mean() > 0.9


@pytest.mark.parametrize("window", [HUWindow(-100, 1000), HUWindow(-1000, 150)])
def test_a_window_without_soft_tissue_tells_nothing(window: HUWindow) -> None:
    x = chest()
    assert torch.equal(slice_noise(x, window), quiet_deviation(x))


def test_a_slice_without_soft_tissue_tells_nothing() -> None:
    x = lung(chest())
    assert torch.equal(slice_noise(x, WINDOW), quiet_deviation(x))


def test_slices_of_a_batch_are_told_apart() -> None:
    both = torch.cat([chest(), chest(noise_hu=40)])
    alone = torch.cat([slice_noise(both[:1], WINDOW), slice_noise(both[1:], WINDOW)])
    assert torch.equal(slice_noise(both, WINDOW), alone)


@pytest.mark.parametrize(
    ("mode", "unets"), [("generator", True), ("extractor", True), ("ensemble", True), ("generator", False)]
)
@torch.no_grad()
def test_networks_take_less_from_the_lung(mode: str, *, unets: bool) -> None:
    made, x = ensemble(mode, unets=unets), chest()
    told, free = (float((lung(made(x, loudest) - x)).square().mean()) for loudest in (None, torch.tensor(2.0)))
    assert told < 0.5 * free
    torch.testing.assert_close(made.modes(x)[("generator", "extractor", "ensemble").index(mode)], made(x))


@torch.no_grad()
def test_a_tile_of_lung_is_told_of_the_muscle_elsewhere() -> None:
    made = ensemble("generator")
    x = chest(8 * made.reach_px, 40)
    least = -(-(4 * made.reach_px + 3 * made.stride_px) // 16) * 16
    tiled = SeamlessInferer(tile_px=least, reach_px=made.reach_px, stride_px=made.stride_px)
    torch.testing.assert_close(tiled(x, made), made(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiled(x, torch.jit.script(made)), made(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiled(x, torch.nn.DataParallel(made)), made(x), rtol=0, atol=1e-5)
    for unaware in (torch.nn.Sequential(made), made.modes):
        with pytest.raises(TypeError, match="loudest"):
            tiled(x, unaware)
    torch.testing.assert_close(tiled(x, made.forward), made(x), rtol=0, atol=1e-5)
    unwrapped = tiled(x, lambda tile: made(tile))  # what no one can see through
    assert (unwrapped - made(x)).abs().max() > 1e-3, "what would be without being told"


def test_the_filter_that_goes_by_local_noise_is_told_too() -> None:
    hu = WINDOW.to_hu(chest())[0, 0].numpy()
    removed = -LocalNonLocalMeans().change_hu(hu)
    assert lung(torch.from_numpy(removed)[None, None]).std() < 2.5 * NOISE_HU


@pytest.mark.parametrize("archive", ["qa/ge_head_tilt", "train/lidc_idri_0001"])
def test_released_weights_take_no_more_from_lung_and_bone_than_from_soft_tissue(archive: str) -> None:
    hu = read_scan(real(archive)).hu
    image_hu = np.ascontiguousarray(hu[len(hu) // 2], np.float32)
    removed = torch.from_numpy(Denoiser.from_bundle(BUNDLE, target_noise_hu=0).change_hu(image_hu))
    mean = box_mean(torch.from_numpy(image_hu)[None, None], 9)[0, 0]
    soft, rest = (mean > -150) & (mean < 200), ((mean > -950) & (mean < -500)) | (mean > 300)
    assert removed[rest].std() <= LOUDEST_OF_TISSUE * removed[soft].std()


@pytest.mark.parametrize("border", [40, 64])
def test_what_somebody_filled_up_with_one_value_tells_nothing(border: int) -> None:
    """Zeros around a slice that was padded or turned are no soft tissue without noise."""
    x = chest()
    filled = torch.full(
        (1, 1, x.shape[-2] + 2 * border, x.shape[-1] + 2 * border), float(WINDOW.to_network(torch.tensor(0.0)))
    )
    filled[..., border:-border, border:-border] = x
    told = slice_noise(filled, WINDOW)
    muscle = float(quiet_deviation(x)[..., :40, :].median())
    assert 0.9 * LOUDEST_OF_TISSUE * muscle <= float(told.max()) <= 1.1 * LOUDEST_OF_TISSUE * muscle


def test_a_slice_without_any_noise_has_none() -> None:
    x = chest(fine_hu=0, noise_hu=0)
    assert float(slice_noise(x, WINDOW)[..., :30, :].max()) == 0


@pytest.mark.parametrize("noise", [float("nan"), float("inf"), -1.0])
def test_a_wanted_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(ConfigRefusal, match="noise >= 0"):
        ensemble().want(noise_hu=noise)
