"""What the documentation names exists."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

from iscl_monai.configuration import SETTINGS

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| .+ \| .+ \| `(?P<name>\w+)` \| `(?P<module>[\w.]+)` \|$", re.MULTILINE)


def test_every_name_of_the_notation_is_in_its_module() -> None:
    rows = list(ROW.finditer((ROOT / "docs/notation.md").read_text(encoding="utf-8")))
    assert len(rows) > 20
    missing = [
        f"{row['module']}.{row['name']}"
        for row in rows
        if not re.search(rf"\b{row['name']}\b", inspect.getsource(importlib.import_module(row["module"])))
    ]
    assert not missing


def test_every_setting_is_documented_and_no_other() -> None:
    documented = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert documented == set(SETTINGS)


def test_links_between_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken
