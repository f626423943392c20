"""An archive of four small series for every test, and a tiny bundle for all."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch.archives import Place, small
from inference.tiny import make_bundle

from iscl_monai.batch.worker import Settings

SERIES = 4


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See :func:`inference.tiny.make_bundle`."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def place(tmp_path: Path, bundle: Path) -> Place:
    """Series 0 to 3, each in a folder of its own."""
    for number in range(SERIES):
        small(number).write(tmp_path / "in" / f"patient{number}")
    return Place(tmp_path / "in", tmp_path / "out", Settings(bundle=bundle, device="cpu"))
