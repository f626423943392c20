"""Every verb is there, those of other packages too, and every program ends as it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from dicom.synthetic import Series

from data_prep.__main__ import app as data_prep_app
from data_prep.__main__ import main as data_prep
from iscl_monai.cli import app
from iscl_monai.console import run, with_exit_codes
from iscl_monai.errors import ConfigRefusal
from iscl_monai.version import __version__

ROOT = Path(__file__).parents[2]


def test_verbs_of_data_prep_are_verbs_of_the_command() -> None:
    theirs = typer.main.get_command(data_prep_app).commands  # type: ignore[attr-defined]
    ours = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {entry.name for entry in entry_points(group="iscl_monai.verbs")} == set(theirs)
    for name, verb in theirs.items():
        assert ours[name].help == verb.help
        assert [option.opts for option in ours[name].params] == [option.opts for option in verb.params]


def test_the_same_arguments_do_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["phantom", str(tmp_path / "made"), "--realisations", "3"]
    assert [run(app, words), data_prep(words)] == [2, 2]
    one, other = capsys.readouterr().err.splitlines()
    assert one == other
    assert "--realisations with --kind anthropomorphic" in one


@pytest.mark.parametrize("words", [["iscl-monai", "--version"], ["python", "-m", "data_prep", "--version"]], ids=str)
def test_version(words: list[str]) -> None:
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert __version__ in done.stdout


def test_the_card_is_the_bundles_and_says_what_it_is_not_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["card", "--bundle", str(ROOT / "bundles" / "iscl")]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines() == (ROOT / "bundles" / "iscl" / "docs" / "README.md").read_text().splitlines()
    assert "not for primary diagnosis" in " ".join(shown.split())
    assert run(app, ["card", "--bundle", "nowhere"]) == 2
    assert "docs/README.md does not exist; allowed: " in capsys.readouterr().err


@pytest.mark.parametrize("program", [app, data_prep_app], ids=["iscl-monai", "data_prep"])
@pytest.mark.parametrize("words", [["dose"], ["dosis"], ["--dose"], ["dose", "a", "b", "--fraction", "much"]], ids=str)
def test_a_wrong_argument_is_one_line(
    program: typer.Typer, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "; allowed: " in line
    assert line.endswith("--help")
    assert f"; do: {program.info.name}" in line


def test_how_a_verb_ends(capsys: pytest.CaptureFixture[str]) -> None:
    made = typer.Typer(name="program")

    @made.command()
    @with_exit_codes
    def refused() -> None:
        raise ConfigRefusal("b\x1b[2J", allowed="a", cure="give a")

    @made.command()
    @with_exit_codes
    def interrupted() -> None:
        raise KeyboardInterrupt

    @made.command()
    @with_exit_codes
    def broken() -> None:
        raise ZeroDivisionError

    assert [run(made, [verb]) for verb in ("refused", "interrupted", "broken")] == [2, 130, 1]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "ConfigRefusal: b\\x1b[2J; allowed: a; do: give a"
    assert lines[1].startswith("interrupted; ")
    assert lines[2].startswith("a fault of ours: ZeroDivisionError")
    log = Path(lines[2].rpartition(" ")[2])
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    log.unlink()


def test_once_a_verb_has_ended_a_signal_interrupts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a TERM while the interpreter shuts down is a traceback."""
    before = signal.getsignal(signal.SIGTERM)
    made = typer.Typer(name="program")

    @made.command()
    @with_exit_codes
    def seen() -> None:
        assert signal.getsignal(signal.SIGTERM) is not before

    assert run(made, []) == 0, capsys.readouterr()
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_loads_neither_torch_nor_pandas() -> None:
    script = "import sys; from iscl_monai.cli import app; from iscl_monai.console import run; run(app, ['--help'])"
    loaded = "print({'torch', 'monai', 'pandas', 'pydicom', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; {loaded}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("names", [("dl", "pylibjpeg"), ("DLFCN", "openjpeg")], ids=" ".join)
@pytest.mark.parametrize(
    "words",
    [
        ["-m", "iscl_monai.cli", "denoise", "scan", "out", "--dry-run"],
        ["-m", "data_prep", "scan", "scan", "out", "--no-pixels"],
        ["-c", "import iscl_monai.dicom.headers"],
    ],
)
def test_folders_in_the_working_folder_are_no_modules(tmp_path: Path, words: list[str], names: tuple[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    Series(rows=20, columns=18).write(tmp_path / "scan")
    command = [sys.executable, "-W", "ignore", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["dose", "a", "b", "--report"], ["denoise", "a", "b", "--series"]])
def test_an_option_without_its_value_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "requires an argument; allowed: " in line
