from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork, NoiseExtractor, RedCNN
from iscl_monai.weights import load_tensors


def test_the_papers_size_has_the_parameters_that_are_published_for_it() -> None:
    """96 channels, ten layers of 5x5: 1.85 million, as LDCT-Bench counts."""
    layers = 2 * (25 * 96 + 96) - 95 + 8 * (25 * 96 * 96 + 96)
    assert sum(p.numel() for p in RedCNN().parameters()) == layers == 1_848_865


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (33, 20), (64, 48)])
def test_every_size_comes_out_as_it_went_in(rows: int, columns: int) -> None:
    assert RedCNN(width=2)(torch.rand(2, 1, rows, columns)).shape == (2, 1, rows, columns)


def test_without_weights_the_shortcut_gives_the_input_back() -> None:
    network = RedCNN(width=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    x = torch.rand(1, 1, 20, 24) * 2 - 1
    assert torch.equal(network(x), x)


def test_a_pixel_reaches_as_far_as_it_says() -> None:
    network = RedCNN(width=2).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.01)
    x = torch.rand(1, 1, 81, 81, dtype=torch.float64)
    other = x.clone()
    other[..., 40, 40] += 1
    changed = (network(other) != network(x))[0, 0].nonzero()
    assert (changed - 40).abs().max() == network.reach_px == 20


def test_it_comes_back_from_its_weights_in_place_of_the_generator() -> None:
    parts = {"denoiser": RedCNN(width=3), "noise_extractor": NoiseExtractor(width=2, layers=3)}
    network = DenoisingNetwork(**parts, hu_window=HUWindow(-1000, 1000), blend=1.0).eval()
    again = DenoisingNetwork.from_weights(network.state_dict()).eval()
    assert isinstance(again.denoiser, RedCNN)
    assert again.mode == "generator"  # a blend of F alone needs no H
    x = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)


def test_no_width_is_refused() -> None:
    with pytest.raises(ConfigRefusal, match="RedCNN width=0"):
        RedCNN(width=0)


@pytest.mark.parametrize("blend", [7.0, -0.1, float("nan")])
def test_weights_with_an_impossible_blend_are_refused(blend: float) -> None:
    parts = {"denoiser": RedCNN(width=2), "noise_extractor": NoiseExtractor(width=2, layers=3)}
    weights = DenoisingNetwork(**parts, hu_window=HUWindow(-1000, 1000)).state_dict()
    weights["blend"] = torch.tensor(blend)
    with pytest.raises(CheckpointRefusal, match="blend"):
        DenoisingNetwork.from_weights(weights)


def test_nobody_is_advised_to_load_what_is_not_tensors(tmp_path: Path) -> None:
    torch.save({"weights": HUWindow(-1, 1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointRefusal) as refused:
        load_tensors(tmp_path / "model.pt")
    assert "weights_only" not in str(refused.value)
