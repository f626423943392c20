"""What is exported and deployed: how it is read back, what it pads, what it leaves alone, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal, Refusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks import (
    DenoisingNetwork,
    Generator,
    NoiseExtractor,
    NoiseUNet,
    RedCNN,
    ResidualUNetExtractor,
    ResidualUNetGenerator,
    UNetGenerator,
)
from iscl_monai.networks.blocks import symmetric_pad

WINDOW = HUWindow(-1000, 1000)


def made(
    *,
    denoiser: Generator | UNetGenerator | ResidualUNetGenerator | RedCNN | None = None,
    noise_extractor: NoiseExtractor | NoiseUNet | ResidualUNetExtractor | None = None,
    hu_window: HUWindow = WINDOW,
    blend: float = 0.5,
    mode: str = "ensemble",
    keep_mean_px: int = 0,
) -> DenoisingNetwork:
    torch.manual_seed(5)
    network = DenoisingNetwork(
        denoiser=denoiser or Generator(width=2, residual_blocks=1),
        noise_extractor=noise_extractor or NoiseExtractor(width=2, layers=3),
        hu_window=hu_window,
        blend=blend,
        mode=mode,
        keep_mean_px=keep_mean_px,
    )
    for name, weights in network.named_parameters():
        if "last" in name or weights.ndim == 4:
            torch.nn.init.normal_(weights, 0, 0.2)
    return network.eval()


def image(rows: int, columns: int) -> Tensor:
    return torch.rand(1, 1, rows, columns, generator=torch.Generator().manual_seed(rows)) - 0.5


def told(refusal: pytest.ExceptionInfo[Refusal]) -> tuple[str, str, str]:
    return refusal.value.came, refusal.value.allowed, refusal.value.cure


# --- refusals -----------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal) as refusal:
        made(blend=2)
    assert told(refusal) == ("blend=2", "0 to 1", "0.5 is the paper's")
    with pytest.raises(ConfigRefusal) as refusal:
        made(keep_mean_px=2)
    assert told(refusal) == ("keep_mean_px=2", "0 or an odd number", "9 is our default")
    with pytest.raises(ConfigRefusal) as refusal:
        made(mode="both")
    assert told(refusal) == ("mode='both'", "ensemble, generator, extractor", "choose one of these words")
    with pytest.raises(CheckpointRefusal) as missing:
        DenoisingNetwork.from_file(tmp_path / "model.pt")
    assert told(missing) == (
        f"{tmp_path / 'model.pt'} does not exist",
        "the model.pt of a training, or a bundle with released weights",
        "train first, or give --ckpt_dir the folder that holds it",
    )


@pytest.mark.parametrize("blend", [1.5, -0.5])
def test_weights_whose_blend_is_none_are_refused(blend: float, tmp_path: Path) -> None:
    weights = made().state_dict() | {"blend": torch.tensor(blend)}
    with pytest.raises(CheckpointRefusal) as refusal:
        DenoisingNetwork.from_weights(weights)
    assert told(refusal) == (
        f"weights that are not those of the network they describe (blend {blend})",
        "the model.pt of a training with this version",
        "copy the file again from where it was trained, or train again",
    )
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(CheckpointRefusal, match=str(tmp_path / "model.pt")):
        DenoisingNetwork.from_file(tmp_path / "model.pt")


def test_a_long_reason_is_cut() -> None:
    weights = {name: tensor for name, tensor in made().state_dict().items() if not name.startswith("denoiser.steps")}
    with pytest.raises(CheckpointRefusal) as refusal:
        DenoisingNetwork.from_weights(weights)
    start, _, reason = refusal.value.came.partition("(")
    assert start == "weights that are not those of the network they describe "
    assert len(reason) == 161
    assert "Missing key(s) in state_dict" in reason
    assert "  " not in reason


# --- reading back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blend", "mode", "found"),
    [
        (0.5, "ensemble", "ensemble"),
        (1.0, "ensemble", "generator"),
        (0.0, "ensemble", "extractor"),
        (0.5, "generator", "generator"),
        (1.0, "extractor", "extractor"),
        (0.0, "generator", "generator"),
    ],
)
def test_a_blend_of_one_network_alone_is_that_network(blend: float, mode: str, found: str, tmp_path: Path) -> None:
    torch.save(made(blend=blend).state_dict(), tmp_path / "model.pt")
    assert DenoisingNetwork.from_file(tmp_path / "model.pt", mode=mode).mode == found
    assert DenoisingNetwork.from_file(tmp_path / "model.pt").mode == {1.0: "generator", 0.0: "extractor"}.get(
        blend, "ensemble"
    )


@pytest.mark.parametrize(
    ("denoiser", "noise_extractor"),
    [
        (Generator(width=2, residual_blocks=1), NoiseExtractor(width=2, layers=3)),
        (UNetGenerator(width=4), NoiseUNet(width=4)),
        (ResidualUNetGenerator(width=2, levels=3), ResidualUNetExtractor(width=2, levels=2)),
        (RedCNN(width=3), NoiseExtractor(width=2, layers=3)),
    ],
    ids=["paper", "U-Net", "residual U-Net", "RED-CNN"],
)
@torch.no_grad()
def test_weights_bring_back_the_network_they_come_from(
    denoiser: Generator | UNetGenerator | ResidualUNetGenerator | RedCNN,
    noise_extractor: NoiseExtractor | NoiseUNet | ResidualUNetExtractor,
) -> None:
    network, x = made(denoiser=denoiser, noise_extractor=noise_extractor, keep_mean_px=9), image(40, 24)
    again = DenoisingNetwork.from_weights(network.state_dict()).eval()
    assert type(again.denoiser) is type(denoiser)
    assert again.statistics == network.statistics == "frozen"
    assert torch.equal(again(x), network(x))


def test_weights_inside_those_of_another_network_find_their_way() -> None:
    outer, other = (torch.nn.ModuleDict({"inner": made(blend=blend)}) for blend in (0.5, 0.25))
    outer.load_state_dict(other.state_dict())
    assert float(outer["inner"].blend) == 0.25


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("downsamplings", "levels", "stride"), [(3, 1, 8), (1, 3, 8), (2, 2, 4)], ids=["F's", "H's", "both"]
)
def test_slices_are_mirrored_to_what_both_networks_divide(downsamplings: int, levels: int, stride: int) -> None:
    f, h = Generator(width=2, residual_blocks=0, downsamplings=downsamplings), NoiseUNet(width=2, levels=levels)
    assert made(denoiser=f, noise_extractor=h).stride_px == stride


@pytest.mark.parametrize("mode", ["generator", "extractor", "ensemble"])
@torch.no_grad()
def test_odd_sizes_are_mirrored_below_and_to_the_right(mode: str) -> None:
    network, x = made(mode=mode), image(21, 34)
    answer = network(x)
    assert answer.shape == x.shape
    torch.testing.assert_close(answer, network(symmetric_pad(x, 3, 2))[..., :21, :34], rtol=0, atol=1e-6)
    torch.testing.assert_close(network.modes(x)[("generator", "extractor", "ensemble").index(mode)], answer)


# --- air ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hu", "window", "share"),
    [
        (-990, WINDOW, 0.0),
        (-980, WINDOW, 0.0),
        (-955, WINDOW, 0.5),
        (-930, WINDOW, 1.0),
        (300, WINDOW, 1.0),
        (-2000, HUWindow(-2000, 1000), 0.0),
        (-980, HUWindow(-980, 1000), 0.0),  # begins where air ends: what lies there may be air
        (-960, HUWindow(-960, 1000), 1.0),  # cannot know air
    ],
)
def test_tissue_begins_where_air_ends(hu: float, window: HUWindow, share: float) -> None:
    x = window.to_network(torch.full((1, 1, 20, 20), float(hu)))
    network = made(hu_window=window, keep_mean_px=9)
    assert float(network._tissue(x).min()) == pytest.approx(share, abs=1e-3)
    taken = x - network.finish(x, x + 0.01 * torch.eye(20))
    assert bool((taken.abs() > 1e-4).any()) == (share > 0)


@torch.no_grad()
def test_the_mean_of_single_pixels_is_all_there_is() -> None:
    network, x = made(keep_mean_px=1), image(24, 24)
    torch.testing.assert_close(network(x), x, rtol=0, atol=1e-6)
