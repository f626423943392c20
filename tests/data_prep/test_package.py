from __future__ import annotations

from pathlib import Path

import data_prep


def test_the_package_is_not_this_folder() -> None:
    assert data_prep.__file__ is not None, "tests/data_prep stands in for the package: see pythonpath in pyproject"
    assert Path(data_prep.__file__).parent != Path(__file__).parent
