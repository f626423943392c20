"""Weights that come with a bundle are those that were released; weights of one's own come before them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from iscl_monai.errors import CheckpointRefusal, ConfigRefusal
from iscl_monai.inference import Denoiser
from iscl_monai.inference.tiles import least_tile_px
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.released import BundleWeights, record_in, weights_in

FILES = {"ensemble": "models/released.pt", "student": "models/student.pt"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with two released files."""
    (tmp_path / "models").mkdir()
    (tmp_path / "configs").mkdir()
    entries = {}
    for size, file in FILES.items():
        (tmp_path / file).write_bytes(size.encode())
        entries[size] = {"file": file, "sha256": hashlib.sha256(size.encode()).hexdigest()}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"released_weights": entries}))
    (tmp_path / "models" / "released.json").write_text("{}")
    return tmp_path


def test_without_weights_of_ones_own_the_released_ensemble_is_meant(bundle: Path) -> None:
    assert weights_in(bundle) == BundleWeights(size="ensemble", path=bundle / "models" / "released.pt")
    assert weights_in(bundle, "student").path == bundle / "models" / "student.pt"
    assert record_in(bundle) == bundle / "models" / "released.json"


def test_weights_of_ones_own_come_first_and_released_ones_can_still_be_asked_for(bundle: Path) -> None:
    (bundle / "models" / "model.pt").write_bytes(b"mine")
    assert weights_in(bundle) == BundleWeights(size="trained", path=bundle / "models" / "model.pt")
    assert weights_in(bundle, "ensemble").path == bundle / "models" / "released.pt"
    assert record_in(bundle) == record_in(bundle, "trained") == bundle / "models" / "training.json"
    assert record_in(bundle, "ensemble") == record_in(bundle, "student") == bundle / "models" / "released.json"


@pytest.mark.parametrize("size", FILES)
def test_a_released_file_with_one_other_byte_is_refused(bundle: Path, size: str) -> None:
    (bundle / FILES[size]).write_bytes(size.encode() + b"\0")
    with pytest.raises(CheckpointRefusal, match=f"{FILES[size]}: SHA-256 .*; allowed: .*metadata.json"):
        weights_in(bundle, size)


@pytest.mark.parametrize(
    ("spoil", "size", "words"),
    [
        (lambda bundle: (bundle / FILES["ensemble"]).unlink(), None, "released.pt does not exist"),
        (lambda bundle: None, "trained", "model.pt does not exist"),
        (lambda bundle: (bundle / "configs" / "metadata.json").write_text("{}"), None, "model.pt does not exist"),
        (lambda bundle: (bundle / "configs" / "metadata.json").unlink(), "student", "model.pt does not exist"),
        (lambda bundle: (bundle / "configs" / "metadata.json").write_text("{"), None, "metadata.json: "),
    ],
)
def test_what_is_not_there_is_refused(bundle: Path, spoil: object, size: str | None, words: str) -> None:
    spoil(bundle)  # type: ignore[operator]
    with pytest.raises(CheckpointRefusal, match=words):
        weights_in(bundle, size)


def test_a_size_that_does_not_exist_is_refused(bundle: Path) -> None:
    with pytest.raises(ConfigRefusal, match="allowed: trained, ensemble, student"):
        weights_in(bundle, "huge")


def test_the_least_tile_of_what_is_released_is_said() -> None:
    root = Path(__file__).parents[1]
    for size in FILES:
        network = DenoisingNetwork.from_file(weights_in(root / "bundles" / "iscl", size).path)
        least = least_tile_px(network.reach_px, network.stride_px)
        with pytest.raises(ConfigRefusal, match=f"tiles of {least - 1} pixels; allowed: {least} or more"):
            Denoiser.from_bundle(root / "bundles" / "iscl", weights=size, device="cpu", tile_px=least - 1)
        for place in ("docs/how-to/weights.md", "bundles/iscl/docs/README.md", "iscl_monai/cli/denoise.py"):
            assert f"{least} or more" in " ".join((root / place).read_text(encoding="utf-8").split()), place
