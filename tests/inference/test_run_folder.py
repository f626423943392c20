"""The folder of a training, which has weights and no configs, denoises as a bundle does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inference.tiny import METADATA, make_bundle

from iscl_monai.errors import CheckpointRefusal
from iscl_monai.evaluation.benchmark.methods import BUNDLE, IMAGES, submission
from iscl_monai.inference.denoiser import Denoiser


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What ``--output_dir run --ckpt_dir run/models`` leaves, as far as it counts here."""
    made = make_bundle(tmp_path / "run")
    shutil.rmtree(made / "configs")
    return made


def test_weights_have_the_version_of_the_bundle_that_trained_them(run: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    identity = Denoiser.from_bundle(run, device="cpu").identity
    assert identity.version == json.loads(METADATA.read_text())["version"]
    assert identity == Denoiser.from_bundle(bundle, device="cpu").identity


def test_a_folder_without_weights_is_refused(run: Path) -> None:
    (run / "models" / "model.pt").unlink()
    with pytest.raises(CheckpointRefusal, match=r"model\.pt does not exist"):
        Denoiser.from_bundle(run, device="cpu")


def test_a_benchmark_takes_it_for_a_bundle_and_not_for_denoised_scans(run: Path) -> None:
    assert submission(f"mine={run}").kind == BUNDLE
    shutil.rmtree(run / "models")
    assert submission(f"mine={run}").kind == IMAGES
