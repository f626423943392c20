"""``iscl-monai qa``: two files and a verdict; a failed limit is a finding; what makes no sense is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inference.tiny import make_bundle
from typer.testing import CliRunner, Result

from iscl_monai.cli import app
from iscl_monai.evaluation import qa as evaluation_qa
from iscl_monai.evaluation.qa import QUICK, Limits, QaResult, cache_folder, tissue


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Wide and colourless, with a cache of its own; and the handlers of signals put back."""
    settings = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in settings.items():
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


def test_an_untrained_bundle_fails_and_strict_says_so(bundle: Path, small_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--dataset", small_dataset, "--out", out, "--doses", "0.25", "--mode", "generator")
    done = run(bundle, *options, "--beside", "gaussian", "--strict")
    assert done.exit_code == 1, done.output
    assert "fault: noise reduction" in done.output
    assert "limits passed" in done.output
    result = json.loads((out / "qa.json").read_text(encoding="utf-8"))
    assert result["denoiser"]["mode"] == "generator"
    assert [one["dose"] for one in result["doses"]] == [1, 0.25]  # full dose comes along
    assert any(verdict["status"] == "fault" for verdict in result["verdicts"])
    (beside,) = result["beside"]
    assert beside["dose"] == 0.25
    assert any(line.startswith("border_steepness_min") and value < 1 for line, value in beside["values"].items())
    assert {one.name for one in out.iterdir()} == {"qa.json", "qa.html"}  # scans are not left lying
    assert "Verdicts" in (out / "qa.html").read_text(encoding="utf-8")
    again = run(bundle, "--dataset", small_dataset, "--out", out)
    assert again.exit_code == 2
    assert "exists" in again.output


def test_limits_are_written_for_editing(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    assert run("--write-limits", file).exit_code == 0
    assert Limits.read(file) == Limits.proposed()
    assert run("--write-limits", file).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--doses", "10,20"], "10 % is 0.1"),
        (["--doses", "many"], "10 % is 0.1"),
        (["--doses", "0.3"], "doses"),
        (["--mode", "all"], "ensemble"),
        (["--limits", "none.toml"], "--write-limits"),
        (["--seed", "3"], "a data set has its own seed"),
        (["--beside", "nlm,magic"], "such as nlm,tv"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, small_dataset: Path, tmp_path: Path, arguments: list[str], answer: str
) -> None:
    done = run(bundle, "--dataset", small_dataset, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert answer in done.output
    assert not (tmp_path / "out").exists()


def test_test_objects_are_kept_for_the_next_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(QUICK) == tmp_path / "iscl-monai" / "physics-256-6-1-0.25"


@pytest.fixture
def checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first check of a test is done, and its result given again."""
    results: list[QaResult] = []
    done = evaluation_qa.check

    def check(*arguments: Any, **options: Any) -> QaResult:
        if not results:
            results.append(done(*arguments, **options))
        return results[0]

    monkeypatch.setattr(evaluation_qa, "check", check)


@pytest.mark.usefixtures("checked_once")
def test_what_cannot_be_measured_is_no_pass(
    bundle: Path, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tissue, "FEWEST_PIXELS", 10**9)
    limits = tmp_path / "limits.toml"
    limits.write_text("bias_anatomy_hu_max = 4.0\n")
    options = ("--dataset", small_dataset, "--doses", "1", "--beside", "none", "--limits", limits)
    for code, strict in enumerate(([], ["--strict"])):
        done = run(bundle, *options, "--out", tmp_path / f"out{code}", *strict)
        assert done.exit_code == code, done.output
        assert "0 of 6 limits passed, 0 faults, 0 wishes missed, 6 not measurable" in done.output


@pytest.mark.usefixtures("checked_once")
def test_a_missed_wish_is_no_fault(bundle: Path, small_dataset: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("full_dose_psnr_db_min = 500.0\n")
    options = ("--dataset", small_dataset, "--doses", "1", "--beside", "none", "--limits", limits, "--strict")
    for code, wishes in enumerate(([], ["--wishes"])):
        done = run(bundle, *options, "--out", tmp_path / f"out{code}", *wishes)
        assert done.exit_code == code, done.output
        assert "0 of 1 limits passed, 0 faults, 1 wishes missed" in done.output
