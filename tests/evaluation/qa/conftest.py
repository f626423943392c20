"""One small phantom for all quality checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.qa.denoisers import Oracle

from iscl_monai.evaluation.qa import QUICK, make_phantom
from iscl_monai.evaluation.qa.phantom import Phantom, read_phantom


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("qa") / "phantom", QUICK)


@pytest.fixture(scope="session")
def phantom(dataset: Path) -> Phantom:
    return read_phantom(dataset)


@pytest.fixture(scope="session")
def oracle(phantom: Phantom) -> Oracle:
    return Oracle(phantom)
