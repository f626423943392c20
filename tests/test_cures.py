"""What a refusal tells people to do can be done: each command, option, extra and file that it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement

from data_prep.__main__ import app as data_prep
from iscl_monai.cli import app as iscl_monai
from iscl_monai.configuration import SETTINGS

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "iscl-monai": typer.main.get_command(iscl_monai),
    "python -m data_prep": typer.main.get_command(data_prep),
}
COMMAND = re.compile(r"(?<![\w/-])(iscl-monai|python -m data_prep)((?: [^\s;,:)`'\"]+)*)")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z_-]*)")
OF_OTHER_PROGRAMS = {
    "config_file",
    "help",
    "nproc_per_node",
    "index-url",
    "head",
    "include-dashboard",
    "disable-usage-stats",
}
"""Of `python -m monai.bundle`, `torchrun`, pip and `ray`, and the one that all have."""


def cures() -> Iterator[tuple[str, str]]:
    """Each cure in the sources with its place; what a run fills in is ``...``."""
    for path in sorted([*(ROOT / "iscl_monai").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "cure":
                yield f"{path.relative_to(ROOT)}:{node.value.lineno}", text_of(node.value)


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body)}; {text_of(node.orelse)}"
    return "..."


CURES = list(cures())


def options(command: object) -> set[str]:
    """All options of a program, of its verbs and of theirs."""
    own = {name.lstrip("-") for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return own.union(*(options(verb) for verb in getattr(command, "commands", {}).values()))


def test_the_sources_hold_cures() -> None:
    assert len(CURES) > 250
    assert sum(bool(COMMAND.search(text)) for _, text in CURES) > 10


def commands() -> list[tuple[str, str, list[str]]]:
    return [
        (place, match[1], match[2].split())
        for place, text in CURES
        for match in COMMAND.finditer(text.replace("...", "X"))
        if match[2].split()
    ]


@pytest.mark.parametrize(("place", "program", "words"), commands())
def test_a_command_has_a_verb_and_options_that_exist(place: str, program: str, words: list[str]) -> None:
    command = PROGRAMS[program]
    while words and getattr(command, "commands", None) and not words[0].startswith(("-", "X")):
        assert words[0] in command.commands, f"{place}: {program} has no {words[0]}"
        command = command.commands[words.pop(0)]
    if words:  # with the words that people are to put in, the whole command can be given
        try:
            command.make_context(program, words)
        except Exception as error:
            pytest.fail(f"{place}: {program} {' '.join(words)}: {error}")


def test_every_option_that_a_cure_names_is_one() -> None:
    known = set().union(*map(options, PROGRAMS.values())) | set(SETTINGS) | OF_OTHER_PROGRAMS
    unknown = [f"{place}: --{name}" for place, text in CURES for name in OPTION.findall(text) if name not in known]
    assert not unknown


def test_every_extra_that_is_to_be_installed_is_one() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for _, text in CURES for name in re.findall(r"(?:iscl-monai|\.)\[([\w-]+)\]", text)}
    assert extras <= set(settings["optional-dependencies"])
    wanted = {package for _, text in CURES for package in re.findall(r"pip install ([a-z][\w-]+)", text)}
    needed = [Requirement(one).name.lower() for one in settings["dependencies"]]
    needed += [
        Requirement(one).name.lower() for several in settings["optional-dependencies"].values() for one in several
    ]
    assert {name.lower() for name in wanted} <= {*needed, "iscl-monai"}


def test_every_file_that_a_cure_names_is_there() -> None:
    names = {name for _, text in CURES for name in re.findall(r"\b((?:docs|deploy|bundles)/[\w./-]*\w)", text)}
    assert names
    assert not sorted(name for name in names if not (ROOT / name).exists())
