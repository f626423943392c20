"""Which weights and runtime the node computes with, as its settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.inference import Denoiser
from iscl_monai.inference.openvino_runtime import is_missing
from iscl_monai.service.loaded_model import read_loaded_model
from iscl_monai.service.rules import Rule
from iscl_monai.service.settings import Settings, Work
from iscl_monai.service.working.worker import Models

RELEASED = Path(__file__).parents[2] / "bundles" / "iscl"


def models(folder: Path, **work: object) -> Models:
    chosen = Work(device="cpu", **work)  # type: ignore[arg-type]
    return Models(Settings(data=folder, bundle=RELEASED, work=chosen, rules=(Rule(name="none", process=False),)))


@pytest.mark.parametrize("weights", ["ensemble", "student"])
def test_the_node_loads_the_weights_that_its_settings_name(weights: str, tmp_path: Path) -> None:
    models(tmp_path, weights=weights).write_identity()
    known = read_loaded_model(tmp_path)
    assert known is not None
    own = Denoiser.from_bundle(RELEASED, device="cpu", weights=weights)
    assert known.weights_digest == own.identity.weights_digest
    assert known.parameters == {name: value for name, value in own.parameters.items() if name != "strength"}


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefusal, match=r"model\.pt"):
        models(tmp_path, weights="trained")


@pytest.mark.skipif(not is_missing(), reason="OpenVINO is installed")
def test_a_runtime_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="fast"):
        models(tmp_path, runtime="openvino")


@pytest.mark.skipif(is_missing(), reason="OpenVINO is not installed")
def test_another_runtime_makes_other_objects(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    models(tmp_path / "torch").write_identity()
    models(tmp_path, runtime="openvino").write_identity()
    fast, usual = read_loaded_model(tmp_path), read_loaded_model(tmp_path / "torch")
    assert fast is not None
    assert usual is not None
    assert fast.parameters == {**usual.parameters, "runtime": "openvino"}
