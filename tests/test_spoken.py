"""Every verb answers in JSON of one shape, quietly, or in more words; cures that are commands work."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from dicom.synthetic import Series

from data_prep.__main__ import app as data_prep_app
from iscl_monai.cli import app
from iscl_monai.console import exit_codes, run, say
from iscl_monai.errors import ConfigRefusal
from iscl_monai.spoken import Verb, progress_console, progress_disabled, tell_program

SHAPE = ["verb", "exit_code", "refusal", "result", "lines"]


def program() -> typer.Typer:
    made = typer.Typer(name="program")

    @made.command(cls=Verb)
    def fine() -> None:
        with exit_codes():
            say("done")
            tell_program(noise=float("nan"), at=Path("x"), each=[1.5, float("inf")])

    @made.command(cls=Verb)
    def refused() -> None:
        with exit_codes():
            say("begun")
            raise ConfigRefusal("b", allowed="a", cure="give a")

    @made.command(cls=Verb)
    def faulty() -> None:
        with exit_codes():
            raise ZeroDivisionError

    @made.command(cls=Verb)
    def bars() -> None:
        say(f"{progress_console().quiet} {progress_disabled()}")

    return made


def answered(capsys: pytest.CaptureFixture[str], *words: str, program: typer.Typer = app) -> tuple[int, Any]:
    code = run(program, [*words, "--json"])
    content = json.loads(capsys.readouterr().out)
    assert list(content) == SHAPE
    assert content["exit_code"] == code
    return code, content


def test_one_shape_whatever_happens(capsys: pytest.CaptureFixture[str]) -> None:
    _, fine = answered(capsys, "fine", program=program())
    assert fine["lines"] == ["done"]
    assert fine["result"] == {"noise": None, "at": "x", "each": [1.5, None]}
    assert fine["refusal"] is None
    code, refused = answered(capsys, "refused", program=program())
    assert code == 2
    assert refused["refusal"] == {"kind": "ConfigRefusal", "came": "b", "allowed": "a", "cure": "give a"}
    assert refused["lines"] == ["begun"]
    assert refused["result"] == {}  # nothing of the verb before
    code, faulty = answered(capsys, "faulty", program=program())
    assert (code, faulty["refusal"]) == (1, None)


def test_quiet_says_what_goes_wrong_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(), ["fine", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(program(), ["refused", "-q"]) == 2
    assert capsys.readouterr() == ("", "ConfigRefusal: b; allowed: a; do: give a\n")
    assert run(program(), ["bars"]) == 0
    assert capsys.readouterr().out == "False None\n"
    assert run(program(), ["bars", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"] == ["True True"]


def test_verbose_shows_the_traceback_of_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program(), ["faulty"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert run(program(), ["faulty", "-v"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("made", [app, data_prep_app], ids=["iscl-monai", "data_prep"])
def test_every_verb_that_ends_has_the_options(made: typer.Typer) -> None:
    verbs = typer.main.get_command(made).commands  # type: ignore[attr-defined]
    for name, verb in verbs.items():
        options = [word for option in verb.params for word in option.opts]
        assert len(options) == len(set(options)), name
        assert {"--json", "-q", "-v"} <= set(options) or name in {"serve", "user", "node"}


def test_a_plan_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Series(rows=24, columns=20).write(tmp_path / "scan")
    (tmp_path / "scan" / "notes.txt").write_text("x")
    code, content = answered(capsys, "denoise", str(tmp_path / "scan"), str(tmp_path / "out"), "--dry-run")
    assert code == 0, content["refusal"]
    (series,) = content["result"]["would_denoise"]
    assert series["slices"] >= 1
    assert [Path(one["path"]).name for one in content["result"]["skipped"]] == ["notes.txt"]


CURES = [
    ["dosis"],  # no such verb
    ["denoise"],
    ["evaluate", "--no-such-option"],
    ["split", "table"],
    ["dose", "a", "b", "--fraction", "much"],
]


@pytest.mark.parametrize("words", CURES, ids=lambda words: words[0])
def test_cures_that_are_commands_work(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, words) == 2
    cure = capsys.readouterr().err.strip().rpartition("; do: ")[2]
    command = shlex.split(cure.replace(" VERB", ""))
    assert command[0] == "iscl-monai"
    assert run(app, command[1:]) == 0
    assert "Usage" in capsys.readouterr().out


def test_every_verb_tells_programs_what_it_made_or_found() -> None:
    silent = {"card"}  # a document: its lines are all there is
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    quiet = {
        name
        for name, command in commands.items()
        if isinstance(command, Verb)
        and "tell_program(" not in inspect.getsource(sys.modules[inspect.unwrap(command.callback).__module__])
    }
    assert quiet == silent


def test_what_was_made_is_in_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, content = answered(capsys, "bundle", str(tmp_path / "mine"))
    assert (code, content["result"]) == (0, {"written": [str(tmp_path / "mine")]})


def test_completion_knows_the_verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"COMPLETE": "complete_bash"}.items():
        monkeypatch.setenv(f"_ISCL_MONAI_{name}", value)
    monkeypatch.setenv("COMP_WORDS", "iscl-monai den")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run(app, []) == 0
    assert capsys.readouterr().out.strip() == "denoise"
