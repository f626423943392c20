"""The page of an archive from rows alone: everything is shown, escaped, and sorted by what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.valid_html import check_page

from data_prep.archive import page as module
from data_prep.archive.page import write_archive_page
from data_prep.archive.stands_out import remarks
from data_prep.table import SeriesRow

HOSTILE = "<script>alert('&\"')</script>"
PIXEL = "iVBORw0KGgo="


def row(**facts: object) -> SeriesRow:
    known: dict[str, object] = {"series_uid": "1.2", "study_uid": "1", "path": "/archive/a", "patient": "p-1"}
    return SeriesRow(**{**known, "verdict": "fit", **facts})  # type: ignore[arg-type]


def text_of(folder: Path, *rows: SeriesRow, skipped: list[tuple[str, str]] | None = None) -> str:
    pictures = [PIXEL] * len(rows)
    path = write_archive_page(folder / "index.html", Path("/archive"), rows, pictures, skipped or [], files=9)
    return path.read_text(encoding="utf-8")


def test_whatever_a_header_says_is_text(tmp_path: Path) -> None:
    hostile = dict.fromkeys(("kernel", "model", "manufacturer", "body_part", "patient", "verdict"), HOSTILE)
    text = text_of(tmp_path, row(**hostile, path=f"/archive/{HOSTILE}"), skipped=[("/archive/x", HOSTILE)])
    found = check_page(text, scripts=1)
    shown = [element for element, words in found.texts if HOSTILE in words and element != "script"]
    # Verdict and its button, kernel, model with its maker below, body part, patient, folder, reason.
    assert sorted(shown) == sorted(["td", "button", "td", "td", "small", "td", "td", "td", "td"])


def test_what_is_not_known_is_a_dash_that_sorts_last(tmp_path: Path) -> None:
    text = text_of(tmp_path, row(noise_hu=None, kvp=120.0))
    assert '<td data-v="">\N{EN DASH}</td>' in text
    assert '<td data-v="120.0">120</td>' in text


def test_a_long_table_says_where_the_rest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    text = text_of(tmp_path, row(), row(), row(verdict="gap: 1 slice missing"))
    assert check_page(text, scripts=1).tags.count("tr") == 1 + 2
    assert "The first 2 of 3; series.csv holds all." in text
    assert "gap \N{MIDDLE DOT} 1" in text


def test_pictures_stop_where_the_page_would_grow_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_THUMBNAIL_BYTES", 2 * len(PIXEL))
    text = text_of(tmp_path, row(), row(), row())
    assert text.count("data:image/png") == 2
    assert check_page(text, scripts=1).tags.count("tr") == 1 + 3


def usual(count: int = 8, **facts: object) -> list[SeriesRow]:
    known = {"body_part": "CHEST", "field_of_view_mm": 360.0, "noise_hu": 20.0, "kernel": "B31f"}
    return [row(path=f"/archive/{number}", **{**known, **facts}) for number in range(count)]


@pytest.mark.parametrize(
    ("facts", "title"),
    [
        ({"model": "SYNTHETIC PHANTOM"}, "phantom"),
        ({"body_part": "PHANTOM"}, "phantom"),
        ({"path": "/archive/catphan 600/1"}, "phantom"),
        ({"field_of_view_mm": 130.0, "body_part": "HEAD"}, "small field of view"),
        ({"field_of_view_mm": 250.0}, "small field of view"),
        ({"reconstruction": "ASIR 40"}, "iterative reconstruction"),
        ({"noise_hu": 60.0}, "unusual noise"),
        ({"noise_hu": 7.0}, "unusual noise"),
    ],
)
def test_what_stands_out_is_told_with_its_reason(tmp_path: Path, facts: dict[str, object], title: str) -> None:
    rows = usual()
    assert remarks(rows, "/archive") == []
    rows.append(usual(1, **facts)[0] if "path" not in facts else row(**facts))
    assert [remark.title for remark in remarks(rows, "/archive")] == [title]
    ((index, words),) = remarks(rows, "/archive")[0].series
    assert index == 8
    text = text_of(tmp_path, *rows)
    assert check_page(text, scripts=1).texts.count(("h2", "What stands out")) == 1
    assert ("small", words) in check_page(text, scripts=1).texts


def test_a_rare_kernel_stands_out_and_a_series_that_is_not_fit_does_not() -> None:
    rows = [*usual(20), *usual(1, kernel="B80f")]
    assert [remark.title for remark in remarks(rows)] == ["rare kernel"]
    assert remarks([*usual(20), *usual(1, kernel="B80f", verdict="gap: 1 slice missing")]) == []
    assert remarks(usual(1, noise_hu=400.0)) == []  # of one nobody knows what is usual
    assert remarks(usual(1, field_of_view_mm=200.0, body_part="HEAD")) == []
