"""What has been measured is kept beside what it was measured on, and found again only for the very same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iscl_monai.durable import whole_file


def once(path: Path, identity: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Measured now, or found as it was measured before.

    Args:
        path: of the file that keeps it. A damaged one counts as none.
        identity: everything the numbers depend on, as JSON can hold it.
        measure: called when nothing of this identity is kept.

    Returns:
        What was measured; None stands for NaN.
    """
    identity = json.loads(json.dumps(dict(identity)))
    held = read(path)
    if held is not None and held.get("of") == identity and isinstance(held.get("measured"), dict):
        found: dict[str, Any] = held["measured"]
        return found
    measured = without_nan(measure())
    write(path, {"of": identity, "measured": measured})
    return measured


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object from its file; None if there is none, or it cannot be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(dict(content), indent=2, allow_nan=False) + "\n").encode())


def without_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in content.items()}


def with_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of :func:`without_nan`."""
    return {name: math.nan if value is None else value for name, value in content.items()}
