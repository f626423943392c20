"""The commands that help texts and documents show exist, with all of their options; the Python they show runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from data_prep.__main__ import app, main

ROOT = Path(__file__).parents[2]
PAGES = sorted({*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"})
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def shown(text: str) -> list[str]:
    """Command lines of a text, continued lines joined, comments and placeholders of options gone."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:\$ )?python -m data_prep (.+)$", joined, re.MULTILINE)
    return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]


def texts() -> dict[str, str]:
    found = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
    return {**found, **{f"{name} --help": command.help or "" for name, command in VERBS.items()}}


def test_every_command_that_is_shown_can_be_given() -> None:
    lines = [(place, line) for place, text in texts().items() for line in shown(text)]
    assert len(lines) > 15
    for place, line in lines:
        verb, *words = shlex.split(line)
        try:
            VERBS[verb].make_context(verb, words)
        except Exception as error:
            pytest.fail(f"{place}: python -m data_prep {line}: {error}")


def test_every_verb_shows_an_example() -> None:
    assert sorted(VERBS) == ["degrade", "dose", "mayo", "phantom", "scan", "split", "split-stack", "truth"]
    for name, command in VERBS.items():
        assert shown(command.help or ""), name


SMALLER = """
from iscl_monai.evaluation import qa
qa.QUICK = qa.Size(pixels=128, spacing_mm=2.6, realisations=6, doses=(1.0, 0.25))
"""
"""A phantom of a quarter of the pixels, to check a filter on: tests/evaluation/qa does it on whole ones."""


def test_python_in_the_how_tos_runs(tmp_path: Path) -> None:
    blocks = [
        (page.name, block)
        for page in (ROOT / "docs" / "how-to").glob("*.md")
        # These need scans, images, a bundle or a package of others: other tests run what can be run of them.
        if page.name not in ("evaluate.md", "micrographs.md", "own-method.md")
        for block in re.findall(r"```python\n(.+?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert blocks
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name, block in blocks:
        command = [sys.executable, "-c", SMALLER + block if "QUICK" in block else block]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{name}: {run.stderr}"


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dose"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    assert main(["dosis"]) == 2
    assert "dose" in capsys.readouterr().err


def test_help_does_not_load_torch() -> None:
    script = "import sys; from data_prep.__main__ import main; main(['--help']); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
