from __future__ import annotations

import inspect
import re
from typing import TypeVar

import pytest

from iscl_monai import errors
from iscl_monai.errors import DicomRefusal, IsclError, Refusal, TrainingStopped

Kind = TypeVar("Kind", bound=IsclError)

NODE = re.compile(r"^    (?P<bars>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}.*)?$")


def drawn() -> dict[str, str | None]:
    """Class to parent, as the docstring of the module draws them."""
    parents: dict[str, str | None] = {}
    branch: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        if (node := NODE.match(line)) is None:
            continue
        depth = len(node["bars"]) // 4
        branch[depth:] = [node["name"]]
        parents[node["name"]] = branch[depth - 1] if depth else None
    return parents


def real() -> dict[str, str | None]:
    classes = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__
    }
    return {
        name: None if kind is IsclError else ", ".join(base.__name__ for base in kind.__bases__)
        for name, kind in classes.items()
    }


def subclasses(kind: type[Kind]) -> set[type[Kind]]:
    return {kind, *(below for child in kind.__subclasses__() for below in subclasses(child))}


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    assert drawn() == real()
    assert IsclError.__bases__ == (Exception,)


@pytest.mark.parametrize("kind", sorted(subclasses(Refusal) - {DicomRefusal}, key=str))
def test_a_refusal_is_one_line_with_what_came_what_is_allowed_and_what_to_do(kind: type[Refusal]) -> None:
    refusal = kind("blend=2\r\n of a  file", allowed="0 to\n1", cure="give\t0.5")
    assert str(refusal) == "blend=2 of a file; allowed: 0 to 1; do: give 0.5"
    assert (refusal.came, refusal.allowed, refusal.cure) == ("blend=2\r\n of a  file", "0 to\n1", "give\t0.5")
    assert refusal.exit_code == 2


def test_a_refused_dicom_file_names_file_tag_and_value() -> None:
    refusal = DicomRefusal("a/b.dcm", tag="RescaleType", found="'US'", needed="'HU'", cure="export it again")
    assert str(refusal) == "a/b.dcm: RescaleType is 'US'; allowed: 'HU'; do: export it again"
    assert (refusal.file, refusal.tag, refusal.found) == ("a/b.dcm", "RescaleType", "'US'")
    assert refusal.exit_code == 2


def test_every_part_must_be_told() -> None:
    for missing in ("allowed", "cure"):
        parts = {"allowed": "a", "cure": "c"}
        del parts[missing]
        with pytest.raises(TypeError, match=missing):
            Refusal("came", **parts)


def test_a_stopped_training_is_no_refusal() -> None:
    assert not any(issubclass(kind, Refusal) for kind in subclasses(TrainingStopped))
    assert not hasattr(TrainingStopped, "exit_code")
