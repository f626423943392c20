"""Which bundle a config that is being evaluated belongs to: MONAI hands configs no path of their own."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from monai.bundle import ConfigWorkflow

from iscl_monai.bundle import METADATA

PACKAGE = "iscl-monai"
"""Whose bundles are looked for: those whose metadata.json requires it."""


def own_bundle() -> Path | None:
    """The bundle whose config is being evaluated, as far as MONAI knows it; None: it does not.

    The commands of ``monai.bundle`` (``run``, ``ckpt_export`` ...) and ``ConfigWorkflow`` hold the path of a config;
    MONAI Deploy puts the bundle on Python's path before it evaluates anything. A bare ``ConfigParser`` holds nothing.
    """
    for file in (*_configs_in_use(), *(Path(entry) / METADATA for entry in sys.path)):
        folder = file.parent
        root = folder.parent if folder.name == "configs" else Path(os.path.abspath(folder)).parent
        if is_own_bundle(root):
            return root
    return None


def is_own_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle of this package."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        return PACKAGE in metadata["required_packages_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _configs_in_use() -> Iterator[Path]:
    """The first config of each function of ``monai.bundle`` further up the stack, the nearest first."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("monai.bundle"):
            yield from _configs_of(frame.f_locals)
        frame = frame.f_back


def _configs_of(local: dict[str, Any]) -> Iterator[Path]:
    owner = local.get("self")
    if isinstance(owner, ConfigWorkflow) and "config_root_path" in vars(owner):
        yield Path(owner.config_root_path) / METADATA.name
    for name in ("config_file_", "config_file"):  # of the commands, before and after they read their arguments
        files = local.get(name)
        first = files[0] if isinstance(files, (list, tuple)) and files else files
        if isinstance(first, (str, os.PathLike)):
            yield Path(first)
