"""What travels with the weights says what they are of; what is of something else never gets in unnoticed."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.handlers import Checkpoint
from torch import Tensor, nn

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.networks import (
    DenoisingNetwork,
    Generator,
    NetworkDescription,
    NoiseExtractor,
    RedCNN,
    ResidualUNetExtractor,
    ResidualUNetGenerator,
)
from iscl_monai.networks.description import (
    GeneratorDescription,
    NoiseExtractorDescription,
    RedCNNDescription,
    ResidualUNetExtractorDescription,
)

GENERATOR = {"width": 3, "downsamplings": 1, "residual_blocks": 2, "skip": "nonlocal"}
DESCRIPTION = NetworkDescription(
    hu_window=HUWindow(-1000, 400.5),
    denoiser=GeneratorDescription(**GENERATOR),
    noise_extractor=NoiseExtractorDescription(width=2, layers=4),
    keep_mean_px=5,
    statistics="per_slice",
)


def network(**changes: Any) -> DenoisingNetwork:
    given = {"hu_window": HUWindow(-1000, 400.5), "keep_mean_px": 5, "statistics": "per_slice", **changes}
    denoiser = given.pop("denoiser", None) or Generator(**GENERATOR)
    extractor = given.pop("noise_extractor", None) or NoiseExtractor(width=2, layers=4)
    return DenoisingNetwork(denoiser=denoiser, noise_extractor=extractor, **given).eval()


def content() -> dict[str, Any]:
    """The description as it stands in a file."""
    loaded: dict[str, Any] = json.loads(bytes(DESCRIPTION.to_tensor().tolist()))
    return loaded


def tensor(written: Any) -> Tensor:
    return torch.tensor(list(json.dumps(written).encode()), dtype=torch.uint8)


def changed(place: str, value: Any) -> dict[str, Any]:
    written = content()
    node = written
    *parents, last = place.split("#")
    for parent in parents:
        node = node[parent]
    node[last] = value
    return written


# --- what it says ------------------------------------------------------------------------------------


def test_a_network_describes_itself_by_name() -> None:
    assert NetworkDescription.of_weights(network().state_dict()) == DESCRIPTION
    assert content() == {
        "format": 1,
        "domain": "ct",
        "hu_window": [-1000.0, 400.5],
        "denoiser": {"network": "Generator", **GENERATOR},
        "noise_extractor": {"network": "NoiseExtractor", "width": 2, "layers": 4},
        "keep_mean_px": 5,
        "statistics": "per_slice",
    }


def test_red_cnn_is_told_from_the_generator() -> None:
    described = NetworkDescription.of_weights(network(denoiser=RedCNN(width=3)).state_dict())
    assert described == replace(DESCRIPTION, denoiser=RedCNNDescription(width=3))


@pytest.mark.parametrize("statistics", ["frozen", "per_slice"])
@pytest.mark.parametrize("keep_mean_px", [0, 9])
def test_a_file_of_tensors_is_all_a_network_needs(statistics: str, keep_mean_px: int, tmp_path: Path) -> None:
    made = network(statistics=statistics, keep_mean_px=keep_mean_px, blend=0.25)
    nn.init.normal_(made.denoiser.steps[-1].weight, std=0.1)
    torch.save(made.state_dict(), tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(isinstance(one, Tensor) for one in loaded.values())
    again = DenoisingNetwork.from_weights(loaded).eval()
    x = torch.rand(1, 1, 32, 24) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
    assert again.hu_window == HUWindow(-1000, 400.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_it_survives_everything_that_weights_go_through() -> None:
    made = network()
    script = torch.jit.script(made)
    file = io.BytesIO()
    torch.jit.save(script, file)
    file.seek(0)
    traced = torch.jit.trace(made, torch.rand(1, 1, 32, 32))
    halved = copy.deepcopy(made).half().float()
    for one in (script, torch.jit.load(file), traced, halved):
        assert NetworkDescription.of_weights(one.state_dict()) == DESCRIPTION
    saved = Checkpoint(to_save={"network": made}, save_handler=lambda *_: None)._setup_checkpoint()
    other = network()
    with torch.no_grad():
        other.blend.fill_(0.125)
    Checkpoint.load_objects(to_load={"network": other}, checkpoint={"network": saved["network"]})
    assert float(other.blend) == 0.5


def test_weights_from_before_an_argument_have_its_default() -> None:
    made = DenoisingNetwork(
        denoiser=ResidualUNetGenerator(width=2, levels=2),
        noise_extractor=ResidualUNetExtractor(width=2, levels=2, magnitude=True),
        hu_window=HUWindow(0, 255),
        domain="mr",
    )
    described = NetworkDescription.of_weights(made.state_dict())
    assert isinstance(described.noise_extractor, ResidualUNetExtractorDescription)
    assert described.noise_extractor.magnitude
    content = json.loads(bytes(described.to_tensor().tolist()))
    del content["denoiser"]["magnitude"], content["noise_extractor"]["magnitude"]
    older = NetworkDescription.of_weights({"description": tensor(content)})
    assert older.denoiser == described.denoiser
    assert older.noise_extractor == replace(described.noise_extractor, magnitude=False)


# --- what is refused ---------------------------------------------------------------------------------


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "window": ({"hu_window": HUWindow(-1000, 1000)}, "--hu_upper 400.5"),
    "width": ({"denoiser": Generator(**{**GENERATOR, "width": 2})}, "--width 3"),
    "downsamplings": ({"denoiser": Generator(**{**GENERATOR, "downsamplings": 2})}, "--downsamplings 1"),
    "residual_blocks": ({"denoiser": Generator(**{**GENERATOR, "residual_blocks": 1})}, "--residual_blocks 2"),
    "skip": ({"denoiser": Generator(**{**GENERATOR, "skip": "none"})}, "--skip nonlocal"),
    "extractor width": ({"noise_extractor": NoiseExtractor(width=3, layers=4)}, "--extractor_width 2"),
    "extractor layers": ({"noise_extractor": NoiseExtractor(width=2, layers=3)}, "--extractor_layers 4"),
    "another network": (
        {"denoiser": RedCNN(width=3)},
        "use iscl-monai denoise, evaluate or qa, which take it from the weights",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_weights_of_another_network_or_window_are_refused_by_name(name: str) -> None:
    """By MONAI's and ignite's plain ``load_state_dict``."""
    changes, cure = DIFFERENT[name]
    weights = network().state_dict()
    other = network(**changes)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointRefusal) as plain:
        other.load_state_dict(weights)
    assert plain.value.cure.endswith(cure)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items()), "half loaded"


def test_red_cnn_of_another_width_is_told_its_setting() -> None:
    with pytest.raises(CheckpointRefusal, match=r"give --network_def#denoiser#width 3$"):
        network(denoiser=RedCNN(width=2)).load_state_dict(network(denoiser=RedCNN(width=3)).state_dict())


def test_what_inference_may_choose_stays_as_the_network_was_built() -> None:
    other = network(keep_mean_px=0, statistics="frozen")
    other.load_state_dict(network().state_dict())
    described = NetworkDescription.of_weights(other.state_dict())
    assert (described.keep_mean_px, described.statistics) == (0, "frozen")
    assert other.keep_mean_px == 0


REFUSED: dict[str, tuple[Any, str]] = {
    "a later format": ({**changed("format", 2), "colour": "red"}, "format 2; allowed: format 1; do: use the version"),
    "another domain": (changed("domain", "mr"), "domain 'mr'; allowed: weights for 'ct'; do: give weights"),
    "a domain of later": (
        changed("domain", "ultrasound"),
        "domain 'ultrasound'; allowed: ct, micrograph, mr; do: use the version",
    ),
    "no format": ({"domain": "ct"}, "cannot be read (KeyError 'format')"),
    "something missing": ({"format": 1, "domain": "ct"}, "cannot be read"),
    "something unknown": (changed("colour", "red"), "unknown colour"),
    "no object": ([1, 2], "cannot be read"),
    "an unknown network": (changed("denoiser#network", "UNet"), "KeyError 'UNet'"),
    "an argument too many": (changed("denoiser#dropout", 1), "dropout"),
    "a number as text": (changed("denoiser#width", "3"), "'3', not int"),
    "truth as a number": (changed("noise_extractor#layers", True), "True, not int"),
    "an empty window": (changed("hu_window", [5.0, 5.0]), "HU window"),
    "a window of one": (changed("hu_window", [5.0]), "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_descriptions_that_make_no_sense_are_refused_in_one_line(name: str) -> None:
    written, words = REFUSED[name]
    weights = {**network().state_dict(), "description": tensor(written)}
    for load in (DenoisingNetwork.from_weights, network().load_state_dict):
        with pytest.raises(CheckpointRefusal) as caught:
            load(weights)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_bytes_that_are_no_description_are_refused() -> None:
    for damaged in (torch.tensor([0, 255, 7], dtype=torch.uint8), torch.rand(3), torch.tensor(1), "text", None):
        with pytest.raises(CheckpointRefusal, match="cannot be read"):
            NetworkDescription.of_weights({"description": damaged})


def test_weights_from_before_the_description_are_refused_with_the_cure() -> None:
    old = network().state_dict()
    old["sizes"] = torch.tensor([1, 3, 1, 2, 1, 2, 4, 5, 1])
    old["window_hu"] = torch.tensor([-1000.0, 400.5])
    del old["description"]
    for load in (DenoisingNetwork.from_weights, network().load_state_dict):
        with pytest.raises(CheckpointRefusal, match=r"with 'sizes' as before .*; do: train again with this version"):
            load(old)
    for nothing in ({}, [], "text", None):
        with pytest.raises(CheckpointRefusal, match="weights without 'description'"):
            NetworkDescription.of_weights(nothing)


@pytest.mark.parametrize(("place", "value"), [("denoiser#width", 4), ("statistics", "batch"), ("keep_mean_px", 4)])
def test_tensors_that_are_not_those_described_are_refused(place: str, value: Any) -> None:
    weights = {**network().state_dict(), "description": tensor(changed(place, value))}
    with pytest.raises(CheckpointRefusal, match="not those of the network they describe"):
        DenoisingNetwork.from_weights(weights)


def test_an_unknown_mode_is_a_matter_of_settings() -> None:
    with pytest.raises(ConfigRefusal, match="mode='both'"):
        DenoisingNetwork.from_weights(network().state_dict(), mode="both")


def test_every_argument_of_the_networks_is_described() -> None:
    """An argument that changes the network and is not described would be lost on the way to a hospital."""
    import inspect

    not_deployed = {"reach", "silent_start"}  # of G, and of the start of a training
    for made in (Generator(width=2), NoiseExtractor(width=2, layers=3), RedCNN(width=2)):
        arguments = set(inspect.signature(type(made)).parameters) - not_deployed
        assert arguments == set(asdict(made.description))
