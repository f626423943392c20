"""The page of an archive from rows alone: everything is shown, escaped, and sorted by what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.valid_html import check_page

from data_prep.archive import page as module
from data_prep.archive.page import write_archive_page
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
