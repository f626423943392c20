"""The folder for Model Zoo, MONAI Label, MONAI Deploy and Hugging Face: ``make hub``."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from monai.bundle import ConfigParser

from iscl_monai.errors import ConfigRefusal, OutputRefusal

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "iscl"


@pytest.fixture(scope="module")
def make_hub() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_hub", ROOT / "deploy" / "hub" / "make_hub.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_holds_what_the_zoo_looks_for(make_hub: ModuleType, tmp_path: Path) -> None:
    hub = tmp_path / make_hub.NAME
    assert make_hub.main([str(hub)]) == 0
    held = {str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}
    wanted = {"LICENSE", "docs/README.md", "docs/license.txt", "configs/metadata.json", "configs/inference.json"}
    assert wanted | {"models/model.pt", "README.md"} <= held
    assert "large_files.yml" not in held
    assert (hub / "models" / "model.pt").read_bytes() == (BUNDLE / "models" / "released.pt").read_bytes()
    parser = ConfigParser()
    parser.read_config(str(hub / "configs" / "inference.json"))
    parser.config.update({"bundle_root": str(hub), "device": "cpu"})  # as MONAI Label does
    parser.parse()
    assert parser.get_parsed_content("weights_file") == hub / "models" / "model.pt"
    assert {"preprocessing", "inferer", "postprocessing", "network_def"} <= set(parser.config)
    assert yaml.safe_load((hub / "README.md").read_text().split("---")[1])["license"] == "apache-2.0"
    metadata = json.loads((hub / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


def test_weights_that_lie_elsewhere_are_named_with_their_digest(make_hub: ModuleType, tmp_path: Path) -> None:
    hub = make_hub.make_hub(tmp_path / "hub", weights_url="https://example.org/model.pt")
    assert not (hub / "models" / "model.pt").exists()
    (entry,) = yaml.safe_load((hub / "large_files.yml").read_text())["large_files"]
    digest = hashlib.sha256((BUNDLE / "models" / "released.pt").read_bytes()).hexdigest()
    assert entry == {
        "path": "models/model.pt",
        "url": "https://example.org/model.pt",
        "hash_val": digest,
        "hash_type": "sha256",
    }


def test_what_would_be_no_hub_is_refused(
    make_hub: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigRefusal, match="https://"):
        make_hub.make_hub(tmp_path / "one", weights_url="model.pt")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OutputRefusal):
        make_hub.make_hub(tmp_path / "taken")
    monkeypatch.setattr(make_hub, "LARGEST_FILE", 1000)
    assert make_hub.main([str(tmp_path / "two")]) == 2
    assert "--weights-url" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
