"""``iscl-monai qa``: two files and a verdict; a failed limit is a finding; what makes no sense is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from inference.tiny import make_bundle
from typer.testing import CliRunner, Result

from iscl_monai.cli import app
from iscl_monai.evaluation.qa import QUICK, Limits, cache_folder, tissue


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wide and colourless; and the handlers of signals put back."""
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["qa", *map(str, arguments)])


def test_an_untrained_bundle_fails_and_strict_says_so(bundle: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(bundle, "--dataset", dataset, "--out", out, "--doses", "0.25", "--strict", "--mode", "generator")
    assert done.exit_code == 1, done.output
    assert "fail: noise reduction" in done.output
    assert "limits passed" in done.output
    told = json.loads((out / "qa.json").read_text(encoding="utf-8"))
    assert told["denoiser"]["mode"] == "generator"
    assert [one["dose"] for one in told["doses"]] == [1, 0.25]  # full dose comes along
    assert any(verdict["status"] == "fail" for verdict in told["verdicts"])
    assert "Verdicts" in (out / "qa.html").read_text(encoding="utf-8")
    again = run(bundle, "--dataset", dataset, "--out", out)
    assert again.exit_code == 2
    assert "exists" in again.output


def test_limits_are_written_for_editing(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    assert run("--write-limits", file).exit_code == 0
    assert Limits.read(file) == Limits.proposed()
    assert run("--write-limits", file).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--doses", "10,20"], "10 % is 0.1"),
        (["--doses", "many"], "10 % is 0.1"),
        (["--doses", "0.3"], "doses"),
        (["--mode", "all"], "ensemble"),
        (["--limits", "none.toml"], "--write-limits"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, dataset: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run(bundle, "--dataset", dataset, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert not (tmp_path / "out").exists()


def test_test_objects_are_kept_for_the_next_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(QUICK) == tmp_path / "iscl-monai" / "physics-256-6-1-0.25"


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_what_cannot_be_measured_is_no_pass(
    bundle: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: list[str], code: int
) -> None:
    monkeypatch.setattr(tissue, "FEWEST_PIXELS", 10**9)
    limits = tmp_path / "limits.toml"
    limits.write_text("bias_anatomy_hu_max = 4.0\n")
    done = run(bundle, "--dataset", dataset, "--out", tmp_path / "out", "--doses", "1", "--limits", limits, *strict)
    assert done.exit_code == code, done.output
    assert "0 of 3 limits passed, 0 failed, 3 not measurable" in done.output
