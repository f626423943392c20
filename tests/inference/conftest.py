"""A denoiser for every test of inference: tiny, untrained, the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from inference.tiny import make_bundle

from iscl_monai.inference.denoiser import Denoiser


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``models/model.pt`` and ``configs/metadata.json``."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def denoiser(bundle: Path) -> Denoiser:
    """The bundle's denoiser on the CPU."""
    return Denoiser.from_bundle(bundle, device="cpu")
