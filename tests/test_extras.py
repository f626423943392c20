from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from data_prep.__main__ import app as data_prep_app
from iscl_monai import extras
from iscl_monai.cli import app
from iscl_monai.errors import ConfigRefusal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """As if a package had not been installed."""
    absent: str = request.param

    def version_of(name: str) -> str:
        if name == absent:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(extras, "version", version_of)
    return absent


def test_every_extra_of_users_is_known() -> None:
    """But for those that are tried in environments of their own."""
    of_developers = {"test", "mutants", "dev", "docs"}
    elsewhere = {"ldct-bench", "mlflow", "napari"}
    assert set(extras.EXTRAS) == set(PROJECT["optional-dependencies"]) - of_developers - elsewhere


@pytest.mark.parametrize("extra", ["", *extras.EXTRAS])
def test_requirements_are_those_of_the_project_file(extra: str) -> None:
    written = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names = {canonicalize_name(Requirement(line).name) for line in written if "python_version" not in line}
    assert {canonicalize_name(one.name) for one in extras.requirements(extra)} == names


def test_nothing_is_missing_here() -> None:
    assert [extras.missing(extra) for extra in ("", *extras.EXTRAS)] == [()] * (1 + len(extras.EXTRAS))


@pytest.mark.parametrize("without", ["pandas"], indirect=True)
def test_what_is_missing_is_named_with_the_line_that_installs_it(without: str) -> None:
    with pytest.raises(ConfigRefusal, match=r'a table without pandas;.*pip install "iscl-monai\[data\]"'):
        extras.check_extra("data", "a table")
    extras.check_extra("serve", "a node")


def test_a_version_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "version", lambda name: "0.1" if name == "pyarrow" else version(name))
    assert extras.missing("data") == ("pyarrow 0.1 (>=15)",)


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ("pandas", ["scan", "ARCHIVE", "OUT"]),
        ("pyarrow", ["split", "OUT", "LIST"]),
        ("fastapi", ["serve", "--config", "node.toml", "--check"]),
        ("argon2-cffi", ["user", "add", "anna", "--config", "node.toml"]),
        ("ray", ["batch", "ARCHIVE", "OUT"]),
        ("scikit-image", ["benchmark", "--dataset", "D", "--out", "OUT", "--budget", "5steps"]),
    ],
    indirect=["without"],
)
def test_verbs_ask_before_they_work(without: str, words: list[str]) -> None:
    """No file of these words exists: what is missing is told before any of them is looked for."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert without in done.output
    assert "pip install" in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("without", ["pandas"], indirect=True)
def test_python_m_data_prep_asks_too(without: str) -> None:
    done = CliRunner().invoke(data_prep_app, ["scan", "ARCHIVE", "OUT"])
    assert without in str(done.output) + str(done.exception)
