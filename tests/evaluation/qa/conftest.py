"""One small phantom for all quality checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.qa.denoisers import Oracle

from iscl_monai.evaluation.qa.phantom import Phantom, read_phantom


@pytest.fixture(scope="session")
def dataset(test_objects: Path) -> Path:
    return test_objects


@pytest.fixture(scope="session")
def phantom(dataset: Path) -> Phantom:
    return read_phantom(dataset)


@pytest.fixture(scope="session")
def oracle(phantom: Phantom) -> Oracle:
    return Oracle(phantom)
