"""What the documentation names exists."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest

from iscl_monai.configuration import SETTINGS
from iscl_monai.service.rules import RULE_TAGS
from iscl_monai.version import __version__

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| .+ \| .+ \| `(?P<name>\w+)` \| `(?P<module>[\w.]+)` \|$", re.MULTILINE)


@pytest.mark.parametrize("page", ["notation", "glossary"])
def test_every_name_of_the_notation_and_the_glossary_is_in_its_module(page: str) -> None:
    rows = list(ROW.finditer((ROOT / f"docs/{page}.md").read_text(encoding="utf-8")))
    assert len(rows) > 20
    missing = [
        f"{row['module']}.{row['name']}"
        for row in rows
        if not re.search(rf"(\b|(?<=\w)){row['name']}\b", inspect.getsource(importlib.import_module(row["module"])))
    ]
    assert not missing


def test_every_setting_is_documented_and_no_other() -> None:
    documented = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert documented == set(SETTINGS)


def test_the_page_of_the_settings_of_the_node_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs/node_settings.py"))["page"]()
    written = (ROOT / "docs/reference/node-settings.md").read_text(encoding="utf-8")
    assert made == written, "do: python docs/node_settings.py"
    example = (ROOT / "deploy/node.toml").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| `(\w+)` \|", written, re.MULTILINE))
    assert len(keys) > 60
    assert keys >= set(re.findall(r"^(?:# )?(\w+) = ", example, re.MULTILINE)) - {"ImageType", *RULE_TAGS}


def test_citations_name_this_version_and_the_paper() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    page = (ROOT / "docs/cite.md").read_text(encoding="utf-8")
    assert f"version: {__version__}" in citation
    assert f"{{{__version__}}}" in page
    assert "10.1109/TMI.2021.3096142" in citation
    assert "10.1109/TMI.2021.3096142" in page


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_every_place_on_the_map_exists_and_every_room_is_on_it() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    places = {place for place in re.findall(r"`([\w./-]+)`", text) if "/" in place or place.endswith((".md", ".toml"))}
    places -= {"models/model.pt"}  # what a training writes
    assert len(places) > 80
    assert not sorted(place for place in places if not (ROOT / place).exists())
    rooms = {path.stem for path in (ROOT / "iscl_monai").iterdir() if path.suffix == ".py" or path.is_dir()}
    table = text[text.index("## Rooms") : text.index("## Who may import whom")]
    named = set(re.findall(r"`iscl_monai/(\w+)(?:\.py|/)`", table))
    assert rooms - {"__init__", "__pycache__", "py"} == named


def test_the_floors_on_the_map_are_the_contracts() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (entry["layers"] for entry in contracts if entry.get("containers") == ["iscl_monai"])
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawn = re.search(r"```\n(cli\n.+?)```", text, re.DOTALL)
    assert drawn is not None
    assert [re.sub(r"[()]", "", layer) for layer in layers] == drawn[1].splitlines()
