"""Reads the settings from their file, or refuses it in one line: where it is wrong, and what would be right."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.settings import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_settings(path: Path) -> Settings:
    """Read and check the file.

    Raises:
        ConfigRefusal: in one line, where it is wrong and what would be right.
    """
    return parse_settings(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a settings file.

    Raises:
        ConfigRefusal: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_toml(path, error) from error


def parse_settings(text: str, path: Path) -> Settings:
    """Check the text of a settings file.

    Args:
        text: its content.
        path: of the file, for refusals.

    Raises:
        ConfigRefusal: see :func:`read_settings`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(path, error) from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigRefusal(
            f"{path}: {_place(first['loc'])}: {first['msg'].removeprefix('Value error, ')}",
            allowed=_allowed(first),
            cure="change that line; deploy/node.toml shows every setting",
        ) from error


def _no_toml(path: Path, error: Exception) -> ConfigRefusal:
    return ConfigRefusal(f"{path}: {error}", allowed="a TOML file in UTF-8", cure="start from deploy/node.toml")


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(f"{part + 1}" if isinstance(part, int) else part for part in location) or "the file"


def _allowed(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return "see there"
    model: Any = Settings
    for part in error["loc"][:-1]:
        if isinstance(part, int):
            continue
        model = _model_of(model.model_fields[part].annotation)
    names = list(model.model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), names, 1)
    return f"did you mean {near[0]}" if near else ", ".join(names)


def _model_of(annotation: Any) -> Any:
    """The model inside of ``tuple[Model, ...]`` or ``Model | None``."""
    parts = [part for part in getattr(annotation, "__args__", ()) if isinstance(part, type)]
    return next((part for part in parts if issubclass(part, BaseModel)), annotation)
