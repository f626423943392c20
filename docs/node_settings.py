"""Writes ``docs/reference/node-settings.md`` from the settings of the node: ``python docs/node_settings.py``.

A key's type, default and allowed values are those that the node checks by; its description is the line of its class's
docstring. ``tests/test_docs.py`` checks that the page is current.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from iscl_monai.service.rules import RULE_TAGS
from iscl_monai.service.settings import Settings

PAGE = Path(__file__).parent / "reference" / "node-settings.md"
HEAD = f"""# Settings of the node

Every key of the TOML file that `iscl-monai serve --config` reads. An unknown key, a wrong type and a value that is not
allowed are refused, with the line that is wrong. An example with comments:
[`deploy/node.toml`](../../deploy/node.toml); what the keys are for: [run the node beside a PACS](../how-to/pacs.md).

Tags that `when` of a rule may test: {", ".join(f"`{tag}`" for tag in RULE_TAGS)}.

This page is made from the code by `python docs/node_settings.py`.
"""
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *_table("The file itself", Settings)])


def _table(heading: str, model: type[BaseModel]) -> Iterator[str]:
    """The keys of one table of the file, and the tables within it."""
    described = descriptions(model)
    keys = {name: field for name, field in model.model_fields.items() if _model_of(field.annotation) is None}
    yield f"## {heading}\n\n{_summary(model)}\n"
    yield "| key | type | default | allowed | meaning |\n|---|---|---|---|---|"
    for name, field in keys.items():
        cells = (f"`{name}`", _type(field.annotation), _default(field), _allowed(field), described[name])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is not None:
            place = name if model is Settings else f"{heading.strip('[]`')}.{name}"
            yield from _table(f"`[[{place}]]`" if get_origin(field.annotation) is tuple else f"`[{place}]`", inner)


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a class says of each of its keys."""
    text = inspect.cleandoc(model.__doc__ or "").partition("Args:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8,}.+)*)", text, re.MULTILINE)
    return {name: _as_markdown(re.sub(r"\s+", " ", words)) for name, words in entries}


def _summary(model: type[BaseModel]) -> str:
    return _as_markdown(inspect.cleandoc(model.__doc__ or "").splitlines()[0])


def _as_markdown(text: str) -> str:
    return re.sub(r":class:`(\w+)`", r"\1", text).replace("``", "`")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The class of a table within a table; None of a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = get_args(annotation) if get_origin(annotation) in (tuple, Union, UnionType) else ()
    return next((found for one in inner if (found := _model_of(one)) is not None), None)


def _type(annotation: Any) -> str:
    """In the words of TOML."""
    words = {str: "text", Path: "path", bool: "true or false", int: "whole number", float: "number"}
    if annotation in words:
        return words[annotation]
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if get_origin(annotation) is Literal:
        return "text"
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "table"
    return " or ".join(dict.fromkeys(_type(one) for one in get_args(annotation) if one is not type(None)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    """Bounds, patterns and words that the value is checked by."""
    found = [*_choices(field.annotation)]
    for rule in _rules(field):
        found += [f"{sign} {getattr(rule, name)}" for name, sign in BOUNDS.items() if hasattr(rule, name)]
        if getattr(rule, "pattern", None):
            found.append(f"`{rule.pattern}`")
        if isinstance(rule, AfterValidator):
            found.append("1 to 16 ASCII characters, no backslash")
        if getattr(rule, "min_length", None) is not None:
            found.append(f"at least {rule.min_length}")
        if getattr(rule, "max_length", None) is not None:
            found.append(f"at most {rule.max_length} characters")
    return ", ".join(found)


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield " or ".join(f'`"{one}"`' for one in get_args(annotation))
    elif get_origin(annotation) is dict:
        yield from (f"values: {words}" for words in _choices(get_args(annotation)[1]))


def _rules(field: FieldInfo) -> Iterator[Any]:
    """What pydantic checks a value by, also of optional and listed ones."""
    pending = [*field.metadata, *_metadata(field.annotation)]
    for rule in pending:
        if isinstance(rule, FieldInfo):
            yield from rule.metadata
        else:
            yield rule


def _metadata(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for one in get_args(annotation):
        if get_origin(annotation) is not Literal:
            yield from _metadata(one)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
