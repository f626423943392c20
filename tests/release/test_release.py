"""What a release is checked with: everything names one version, and the matrix reads its bounds from pyproject.toml."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from iscl_monai.version import __version__

HERE = Path(__file__).resolve().parent


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_everything_names_one_version(capsys: pytest.CaptureFixture[str]) -> None:
    check = script("check_release")
    assert set(check.named_versions().values()) == {__version__}
    assert check.main(f"v{__version__}") == 0
    assert check.main("v99.0.0") == 1
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(check.named_versions())


def test_the_matrix_asks_for_the_oldest_that_is_promised() -> None:
    matrix = script("matrix")
    assert matrix.requirement("torch", "oldest") == "torch==2.8.0"
    assert matrix.requirement("monai", "newest") == "monai"
    assert {row[0] for row in matrix.ROWS} == {"3.10", "3.11", "3.12", "3.13"}


def test_the_table_of_the_matrix_says_what_failed() -> None:
    rows = {
        "a": {"python": "3.11.7", "torch": "2.13.0", "monai": "1.6.1", "checks": {"doctor": "ok"}},
        "b": {"python": "3.14", "checks": {"interpreter": "no Python 3.14 here"}},
    }
    lines = script("matrix").table(rows).splitlines()
    assert lines[2] == "| 3.11.7 | 2.13.0 | 1.6.1 | - | - | all pass |"
    assert lines[3].endswith("| interpreter: no Python 3.14 here |")
