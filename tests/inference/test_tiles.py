"""Slices of every size, whole and in tiles: tiles give what whole slices give, and know how far the network sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dicom.synthetic import Series
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d

from iscl_monai.errors import ConfigRefusal, DicomRefusal, ImageRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.inference import Denoiser, ModelIdentity, denoise_series, denoise_volume
from iscl_monai.inference.tiles import SeamlessInferer
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor
from iscl_monai.networks.denoising_network import MODES

WINDOW = HUWindow(-1000.0, 1000.0)
IDENTITY = ModelIdentity("ISCL", "0", "0" * 64)
TOLERANCE_HU = 0.5


def network(
    downsamplings: int = 2, residual_blocks: int = 1, skip: str = "none", keep_mean_px: int = 9, layers: int = 5
) -> DenoisingNetwork:
    """Random weights, large enough for every pixel to matter to the farthest that sees it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generator = Generator(width=3, downsamplings=downsamplings, residual_blocks=residual_blocks, skip=skip)
        made = DenoisingNetwork(
            denoiser=generator,
            noise_extractor=NoiseExtractor(width=3, layers=layers),
            hu_window=WINDOW,
            keep_mean_px=keep_mean_px,
        )
        with torch.no_grad():
            for weights in made.parameters():
                if weights.ndim == 4:
                    weights.copy_(torch.randn_like(weights) * 0.25)
    return made.eval()


def anatomy(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Tissue, fat and air with noise, HU."""
    chance = np.random.default_rng(seed)
    coarse = chance.choice(
        [-1000.0, -100.0, 40.0, 300.0], size=(rows // 24 + 1, columns // 24 + 1), p=[0.1, 0.3, 0.4, 0.2]
    )
    image = np.kron(coarse, np.ones((24, 24)))[:rows, :columns]
    return (image + 30 * chance.standard_normal((rows, columns))).astype(np.float32)


def change_hu(made: DenoisingNetwork, image_hu: np.ndarray, **tiles: int) -> np.ndarray:
    inferer = SeamlessInferer(**tiles) if tiles else None
    return Denoiser(made, identity=IDENTITY, device="cpu", inferer=inferer).change_hu(image_hu)


# --- how far a pixel reaches ------------------------------------------------------------------------


@torch.no_grad()
def seen_px(made: DenoisingNetwork, side: int, row: int, column: int) -> int:
    """How far from a pixel of the input something changes in the output."""
    image = torch.rand(1, 1, side, side + 3, dtype=torch.float64) * 0.8 - 0.4
    changed = image.clone()
    changed[0, 0, row, column] += 0.4
    rows, columns = (made(changed) != made(image))[0, 0].nonzero(as_tuple=True)
    return int(max((rows - row).abs().max(), (columns - column).abs().max()))


@pytest.mark.parametrize("keep_mean_px", [0, 9])
@pytest.mark.parametrize("skip", ["none", "nonlocal"])
@pytest.mark.parametrize(
    ("downsamplings", "residual_blocks", "layers"), [(0, 2, 5), (1, 1, 20), (2, 0, 5), (2, 2, 4), (3, 0, 6)]
)
def test_no_pixel_reaches_farther_than_the_network_says(
    downsamplings: int, residual_blocks: int, layers: int, skip: str, keep_mean_px: int
) -> None:
    made = network(downsamplings, residual_blocks, skip, keep_mean_px, layers).double()
    side = 2 * made.reach_px + 37
    middle = side // 2
    places = [(middle + step, middle - step) for step in range(2**downsamplings)] + [(0, 1), (side - 1, 5)]
    farthest = max(seen_px(made, side, row, column) for row, column in places)
    # And it says hardly more than it needs: what lies between are positions within a stride.
    assert made.reach_px - 2**downsamplings <= farthest <= made.reach_px


# --- tiles, with a network that tells at once what it misses -----------------------------------------


def averaging(reach_px: int, stride_px: int) -> object:
    """Sees exactly so far, and a different thing at every phase of the stride, as a network with strides does."""

    def forward(image: Tensor) -> Tensor:
        rows, columns = image.shape[-2:]
        assert rows % stride_px == columns % stride_px == 0
        phase = torch.arange(rows)[:, None] % stride_px + torch.arange(columns)[None] % stride_px
        for reach in ([reach_px, 0], [0, reach_px]):
            kernel = [2 * px + 1 for px in reach]
            image = avg_pool2d(image, kernel, stride=1, padding=reach, count_include_pad=False)
        return image * (1 + phase.to(image.dtype))

    return forward


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Rows, columns, tile, reach and stride."""
    stride_px = draw(st.sampled_from([1, 2, 4, 8]))
    reach_px = draw(st.integers(0, 40))
    halo_px = -(-reach_px // stride_px) * stride_px
    least = -(-4 * halo_px // 16) * 16 + 16
    tile_px = least + draw(st.integers(0, 70))
    rows, columns = (draw(st.integers(16, 3 * tile_px)) for _ in "rc")
    return rows, columns, tile_px, reach_px, stride_px


@settings(max_examples=40, deadline=None)
@given(cut=cuts())
def test_every_pixel_is_taken_from_a_tile_that_holds_all_it_sees(cut: tuple[int, int, int, int, int]) -> None:
    rows, columns, tile_px, reach_px, stride_px = cut
    sizes: list[tuple[int, int]] = []
    whole = averaging(reach_px, stride_px)

    def tile(image: Tensor) -> Tensor:
        sizes.append(tuple(image.shape[-2:]))
        return whole(image)

    padded = torch.rand(1, 1, rows - rows % -stride_px, columns - columns % -stride_px, dtype=torch.float64)
    answer = SeamlessInferer(tile_px=tile_px, reach_px=reach_px, stride_px=stride_px)(padded, tile)
    # The weight of what saw too little is a millionth.
    torch.testing.assert_close(answer, whole(padded), rtol=0, atol=1e-4)
    assert max(max(size) for size in sizes) <= tile_px
    assert (len(sizes) > 1) == (max(padded.shape) > tile_px)


def test_that_property_fails_for_a_network_that_sees_farther_than_it_says() -> None:
    whole = averaging(20, 4)
    image = torch.rand(1, 1, 320, 320, dtype=torch.float64)
    answer = SeamlessInferer(tile_px=96, reach_px=16, stride_px=4)(image, whole)
    assert (answer - whole(image)).abs().max() > 1e-3


# --- tiles, with networks ---------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(16, 420), columns=st.integers(161, 420), tile_px=st.integers(160, 230), seed=st.integers(0, 99))
def test_tiles_give_what_the_whole_slice_gives(
    denoiser: Denoiser, bundle: Path, rows: int, columns: int, tile_px: int, seed: int
) -> None:
    image_hu = anatomy(rows, columns, seed)
    whole = denoiser.change_hu(image_hu)
    tiled = Denoiser.from_bundle(bundle, device="cpu", tile_px=tile_px).change_hu(image_hu)
    assert np.abs(whole).max() > 20 * TOLERANCE_HU
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=TOLERANCE_HU / 10)


@pytest.mark.parametrize("skip", ["none", "nonlocal"])
@pytest.mark.parametrize(("downsamplings", "keep_mean_px"), [(0, 9), (1, 0), (3, 9)])
def test_tiles_of_networks_of_other_sizes(downsamplings: int, keep_mean_px: int, skip: str) -> None:
    made = network(downsamplings, 0, skip, keep_mean_px)
    image_hu = anatomy(311, 277)
    whole = change_hu(made, image_hu)
    tiled = change_hu(made, image_hu, tile_px=208, reach_px=made.reach_px, stride_px=made.stride_px)
    assert np.abs(tiled - whole).max() < TOLERANCE_HU < np.abs(whole).max()


@pytest.mark.parametrize(("reach_px", "stride_px"), [(4, 4), (16, 4), (36, 1), (36, 2)])
def test_tiles_show_seams_with_a_wrong_reach_or_stride(reach_px: int, stride_px: int) -> None:
    made = network()
    image_hu = anatomy(301, 303)
    tiled = change_hu(made, image_hu, tile_px=170, reach_px=reach_px, stride_px=stride_px)
    assert np.abs(tiled - change_hu(made, image_hu)).max() > TOLERANCE_HU


def test_slices_that_fit_a_tile_are_not_cut(denoiser: Denoiser, bundle: Path) -> None:
    image_hu = anatomy(160, 131)
    tiled = Denoiser.from_bundle(bundle, device="cpu", tile_px=160)
    np.testing.assert_array_equal(tiled.change_hu(image_hu), denoiser.change_hu(image_hu))


# --- what is refused --------------------------------------------------------------------------------


def test_tiles_that_hold_no_pixel_that_saw_enough_are_refused(bundle: Path) -> None:
    with pytest.raises(ConfigRefusal, match=r"tiles of 159 pixels; allowed: 160 or more"):
        Denoiser.from_bundle(bundle, device="cpu", tile_px=159)


@settings(max_examples=200, deadline=None)
@given(cut=cuts(), length=st.integers(16, 4096))
def test_every_slice_can_be_cut_into_every_tile_that_is_allowed(
    cut: tuple[int, int, int, int, int], length: int
) -> None:
    _, _, tile_px, reach_px, stride_px = cut
    inferer = SeamlessInferer(tile_px=tile_px, reach_px=reach_px, stride_px=stride_px)
    length -= length % -stride_px
    side, step = inferer._layout(length)
    assert side <= tile_px or side == length <= tile_px
    assert (length - side) % step == 0
    assert side % stride_px == step % stride_px == 0


# --- sizes ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(16, 70), columns=st.integers(16, 70), mode=st.sampled_from(MODES))
def test_every_size_from_16_pixels_up(bundle: Path, rows: int, columns: int, mode: str) -> None:
    volume_hu = anatomy(rows, columns)[None]
    denoised_hu = denoise_volume(volume_hu, Denoiser.from_bundle(bundle, device="cpu", mode=mode))
    assert denoised_hu.shape == volume_hu.shape
    assert np.isfinite(denoised_hu).all()


@pytest.mark.parametrize("shape", [(15, 16), (16, 15), (1, 512), (4097, 16), (16, 4097)])
def test_other_sizes_are_refused(denoiser: Denoiser, tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(ImageRefusal, match="16 to 4096"):
        denoise_volume(np.zeros((1, *shape), np.float32), denoiser)
    made = Series(slots=[0], rows=shape[0], columns=shape[1])
    made.write(tmp_path / "source")
    with pytest.raises(DicomRefusal, match="allowed: 16 to 4096"):
        denoise_series(tmp_path / "source", tmp_path / "output", denoiser=denoiser)
    assert not (tmp_path / "output").exists()


def test_arrays_that_are_no_volumes_are_refused(denoiser: Denoiser) -> None:
    for wrong in (
        np.zeros((32, 32)),
        np.zeros((1, 32, 32), complex),
        np.full((1, 32, 32), np.nan),
        np.zeros((1, 1, 32, 32)),
    ):
        with pytest.raises(ImageRefusal):
            denoise_volume(wrong, denoiser)
    assert denoise_volume(np.zeros((0, 32, 32)), denoiser).shape == (0, 32, 32)
