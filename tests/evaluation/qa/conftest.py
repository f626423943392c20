"""One small phantom for all quality checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.qa.denoisers import Oracle
from made_once import made_once

from iscl_monai.evaluation.qa import Size, make_phantom
from iscl_monai.evaluation.qa.phantom import Phantom, read_phantom


@pytest.fixture(scope="session")
def dataset(test_objects: Path) -> Path:
    return test_objects


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the pixels, for what is said about figures and not the figures; to be read only."""
    size = Size(pixels=128, spacing_mm=2.6, realisations=6, doses=(1.0, 0.25))
    return made_once(tmp_path_factory, "small_test_objects", lambda folder: make_phantom(folder, size))


@pytest.fixture(scope="session")
def phantom(dataset: Path) -> Phantom:
    return read_phantom(dataset)


@pytest.fixture(scope="session")
def oracle(phantom: Phantom) -> Oracle:
    return Oracle(phantom)
