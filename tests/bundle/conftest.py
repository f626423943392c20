"""One tiny phantom and one tiny training run, shared by all tests of the bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_once import made_once
from monai.bundle import ConfigWorkflow
from tracing import untraced_programs

from iscl_monai.phantom import make_dataset

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path("bundles/iscl/configs")
TINY = {
    "width": 2,
    "extractor_layers": 3,
    "residual_blocks": 1,
    "discriminator_width": 2,
    "patch_size": 64,
    "batch_size": 2,
    "epochs": 3,
    "steps_per_epoch": 5,
    "warm_up_steps": 2,
    "num_workers": 0,
    "validation_slices": 1,
}


@dataclass(frozen=True)
class Trained:
    """Where the finished run of three epochs left its files."""

    output_dir: Path
    ckpt_dir: Path


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At the repository's root, and the hooks that configs install taken back."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    path = list(sys.path)
    yield
    sys.path[:] = path  # MONAI puts the bundle's root there


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a phantom dataset: two patients per pool, two slices of 96x96 each; to be read only."""
    counts = {"noisy": 2, "clean": 2, "validation": 1, "test": 1}

    def make(folder: Path) -> None:
        make_dataset(folder, size=96, slices=2, spacing_mm=3.6, **counts)

    return made_once(tmp_path_factory, "phantom", make)


@pytest.fixture(scope="session")
def training_words(phantom: Path) -> Callable[..., list[str]]:
    """Arguments behind ``python -m`` of the tiny training: ``training_words(folder, *further configs)``."""

    def words(folder: Path, *configs: Path, **settings: Any) -> list[str]:
        files = [str(CONFIGS / "train.json"), *map(str, configs)]
        places = {"dataset_dir": phantom, "output_dir": folder / "out", "ckpt_dir": folder / "models"}
        pairs = {**places, **TINY, **settings}
        options = [word for name, value in pairs.items() for word in (f"--{name}", str(value))]
        return ["monai.bundle", "run", "training", "--config_file", str(files), *options]

    return words


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    training_words: Callable[..., list[str]],
) -> Trained:
    """The tiny training, run once by command line without interruption; a copy of what it left, for this worker."""

    def train(folder: Path) -> None:
        command = [sys.executable, "-m", *training_words(folder)]
        with untraced_programs():
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # so that sums do not depend on the machine
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(made_once(tmp_path_factory, "trained", train), folder, dirs_exist_ok=True)
    return Trained(folder / "out", folder / "models")


@pytest.fixture
def workflow() -> Callable[..., ConfigWorkflow]:
    """Makes an initialised workflow: ``workflow("train", "paper", type="train", **overrides)``."""

    def make(*names: str, type: str | None = None, **overrides: Any) -> ConfigWorkflow:  # noqa: A002
        made = ConfigWorkflow(
            config_file=[str(CONFIGS / f"{name}.json") for name in names],
            meta_file=str(CONFIGS / "metadata.json"),
            logging_file=False,
            workflow_type=type,
            **{name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()},
        )
        made.initialize()
        return made

    return make


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """All settings of the tiny training."""
    return dict(TINY)
