"""The loader of templates: strict, escaped, everything inside, everything in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
import pytest
from report.valid_html import check_page

from iscl_monai.report import pages
from iscl_monai.report.case import MetricRow, ReportCase
from iscl_monai.report.curves import Axis, Curve, Level
from iscl_monai.report.numbers import MINUS
from iscl_monai.report.pages import render, write_page
from iscl_monai.report.plot import plot
from iscl_monai.report.report_page import ReportPage, overview, shown_case
from iscl_monai.report.section import Section, Table
from iscl_monai.report.verdict import Verdict

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert('&')</script>"


@dataclass(frozen=True)
class Minimal:
    title: str


def test_a_page_is_one_valid_file(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new" / "page.html", "base.html", Minimal("A & B"))
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    page = path.read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in page
    assert "prefers-color-scheme: dark" in page
    check_page(page)


def test_whatever_is_shown_is_escaped() -> None:
    page = check_page(render("base.html", page=Minimal(HOSTILE)))
    assert page.texts.count(("h1", HOSTILE)) == page.texts.count(("title", HOSTILE)) == 1


def test_every_text_of_a_report_is_escaped() -> None:
    row = MetricRow(HOSTILE, HOSTILE, 1.0, 2.0, HOSTILE, "lower", verdict=Verdict(HOSTILE, HOSTILE))
    image = np.zeros((4, 4), np.float32)
    cases = [ReportCase(HOSTILE, image, image, rows=[row], note=HOSTILE)] * 2
    table = Table(heads=[HOSTILE] * 3, lines=[[HOSTILE] * 3], words=[2])
    curve = Curve(name=HOSTILE, x=[1, 2], y=[1, 2])
    axis = Axis(label=HOSTILE)
    drawn = plot([curve], x=axis, y=axis, title=HOSTILE, levels=[Level(value=1, name=HOSTILE)])
    section = Section(title=HOSTILE, intro=HOSTILE, table=table, plots=[drawn], note=HOSTILE)
    page = ReportPage(
        title=HOSTILE,
        paragraphs=[HOSTILE],
        sections=[section],
        overview=overview(cases),
        cases=[shown_case(case) for case in cases],
        skipped=section,
        made_with={HOSTILE: HOSTILE},
    )
    found = check_page(render("report.html", page=page), scripts=1)
    texts = [text for tag, text in found.texts if "script" in text and tag not in {"script", "style"}]
    # Title twice, a paragraph, made with; 14 of each section; 4 of the overview; of each case name, note,
    # 3 cells, and 2 of its verdict.
    assert len(texts) == 2 + 1 + 2 + 2 * 14 + 4 + 2 * 7
    assert all(HOSTILE in text for text in texts)


def test_negative_numbers_have_a_minus_sign() -> None:
    table = Table(heads=["Method", "Gain, dB"], lines=[["x-1 - H", "-4.72 (-8.90 to -1.76)"]])
    page = ReportPage(title="t", paragraphs=[], sections=[Section(title="s", table=table)], made_with={})
    texts = check_page(render("report.html", page=page)).texts
    assert ("th", "x-1 - H") in texts
    assert ("td", "-4.72 (-8.90 to -1.76)".replace("-", MINUS)) in texts


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("base.html", page=object())


def test_file_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.html", "base.html", Minimal("scan\udcff"))
    assert "<h1>scan\\udcff</h1>" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", "base.html", Minimal("old"))
    with pytest.raises(jinja2.UndefinedError):
        write_page(path, "base.html", object())
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert "old" in path.read_text(encoding="utf-8")


def test_a_static_file_that_would_end_its_element_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "page.css").write_text("a { content: '</style><b>' }")
    monkeypatch.setattr(pages.resources, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"page\.css"):
        render("base.html", page=Minimal("x"))


def test_pages_take_no_markup_of_python() -> None:
    """Autoescape has no hole: no template marks a value as safe, and no module but the loader makes markup."""
    for package in ("iscl_monai.report", "data_prep"):
        for template in resources.files(package).joinpath("templates").iterdir():
            text = template.read_text(encoding="utf-8")
            assert "| safe" not in text
            assert "autoescape" not in text
