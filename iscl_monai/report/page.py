"""The pieces of a report's page: pictures, tables, style."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.report.case import MetricRow, ReportCase

DISCLAIMER = "AI-processed, derived, not for primary diagnosis"
DETAIL_PART = 4
NOT_GIVEN = "&ndash;"
MINUS = "&minus;"

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --quiet: #59636e; --line: #d1d9e0;
  --card: #f6f8fa; --warn: #fff4d6; --warn-ink: #6b4a00; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0f1318; --ink: #e6eaef; --quiet: #9aa5b1; --line: #303842; --card: #171c22;
    --warn: #3a2d08; --warn-ink: #ffdf8f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1840px; margin: 0 auto; padding: 1.5rem clamp(1rem, 2.5vw, 2.5rem) 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 0 0 .25rem; }
p { max-width: 75ch; margin: .25rem 0 .75rem; }
.warning { display: inline-block; background: var(--warn); color: var(--warn-ink);
  padding: .4rem .8rem; border-radius: 6px; }
section { border-top: 1px solid var(--line); padding-top: 1.25rem; margin-top: 1.75rem; }
.pictures { display: grid; gap: .75rem; margin: .75rem 0 1.25rem; }
.columns3 { grid-template-columns: repeat(3, minmax(0, 1fr)); max-width: 1440px; }
.columns4 { grid-template-columns: repeat(4, minmax(0, 1fr)); }
figure { margin: 0; }
.first { grid-column-start: 1; }
img { display: block; width: 100%; height: auto; background: #000; border-radius: 3px; }
.detail img { image-rendering: pixelated; }
figcaption { font-size: .875rem; color: var(--quiet); padding-top: .25rem; }
figcaption b { color: var(--ink); margin-right: .4em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .25rem 0 1rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
thead th { background: var(--card); vertical-align: bottom; white-space: normal; }
th:first-child, .word { text-align: left; }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
tbody th { font-weight: 500; }
th small { display: block; font-weight: 400; color: var(--quiet); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 700px) { .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media print { section { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class View:
    """A named Hounsfield window for pictures, level/width."""

    name: str
    window: HUWindow


SOFT_TISSUE = View("soft tissue 40/400", HUWindow(-160, 240))
LUNG = View("lung -600/1500", HUWindow(-1350, 150))
REMOVED = View("before minus after, ±100 HU", HUWindow(-100, 100))
REMOVED_CLOSE = View("before minus after, ±50 HU", HUWindow(-50, 50))
ERROR_LEFT = View("after minus reference, ±100 HU", HUWindow(-100, 100))


@dataclass(frozen=True)
class PictureRow:
    """One row of a case's pictures.

    Args:
        view: window of before, after and reference.
        difference: window of the last picture.
        detail: a magnified square round the middle of the body instead of the whole slice.
    """

    view: View
    difference: View
    detail: bool = False


DETAIL = PictureRow(View(f"{SOFT_TISSUE.name}, detail", SOFT_TISSUE.window), REMOVED, detail=True)
WITHOUT_REFERENCE = (PictureRow(SOFT_TISSUE, REMOVED), DETAIL, PictureRow(LUNG, REMOVED_CLOSE))
WITH_REFERENCE = (PictureRow(SOFT_TISSUE, REMOVED), DETAIL, PictureRow(LUNG, ERROR_LEFT))


def page_html(title: str, body: str) -> str:
    """The whole page round ``body``, which is HTML already; ``title`` is plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def overview_html(cases: Sequence[ReportCase]) -> str:
    """The cases in one table: input → output for each quantity."""
    heads = list(dict.fromkeys((row.name, row.unit, row.protocol) for case in cases for row in case.rows))
    if not heads:
        return ""
    cells = "".join(
        f"<th>{escape(name)}<small>{escape(', '.join(filter(None, (unit, protocol))))}</small></th>"
        for name, unit, protocol in heads
    )
    lines = []
    for case in cases:
        by_name = {row.name: row for row in case.rows}
        told = "".join(f"<td>{_change(by_name.get(name))}</td>" for name, _, _ in heads)
        lines.append(f'<tr><th scope="row">{escape(case.name)}</th>{told}</tr>')
    return (
        "<h2>Cases shown</h2>\n<p>Each cell: noisy input → denoised. A dash: not measured.</p>\n"
        f'<div class="wide"><table><thead><tr><th>Case</th>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _change(row: MetricRow | None) -> str:
    if row is None:
        return NOT_GIVEN
    after = _number(row.denoised, row.digits)
    return after if row.noisy is None else f"{_number(row.noisy, row.digits)} → <strong>{after}</strong>"


def case_html(case: ReportCase, rows: Sequence[PictureRow] = ()) -> str:
    """One case: heading, pictures, table.

    Args:
        case: what to show.
        rows: which pictures; default: whole slice, detail, lung window.
    """
    note = f"<p>{escape(case.note)}</p>" if case.note else ""
    parts = (f"<h2>{escape(case.name)}</h2>", note, _pictures(case, rows), _table(case.rows))
    return "\n".join(("<section>", *filter(None, parts), "</section>"))


def _pictures(case: ReportCase, rows: Sequence[PictureRow]) -> str:
    """Rows of before | after | reference | difference."""
    rows = rows or (WITHOUT_REFERENCE if case.reference_hu is None else WITH_REFERENCE)
    columns = 4 if case.noisy_hu is not None and case.reference_hu is not None else 3
    return f'<div class="pictures columns{columns}">\n{"".join(_picture_row(case, row) for row in rows)}</div>'


def _picture_row(case: ReportCase, row: PictureRow) -> str:
    whole = case.denoised_hu if case.noisy_hu is None else case.noisy_hu
    part = detail_of(whole) if row.detail else (slice(None), slice(None))
    noisy, denoised, reference = (
        None if hu is None else np.asarray(hu, dtype=np.float32)[part]
        for hu in (case.noisy_hu, case.denoised_hu, case.reference_hu)
    )
    assert denoised is not None  # only the other two may be missing
    named = (("Before", noisy), ("After", denoised), ("Reference", reference))
    shown = [(label, row.view, picture) for label, picture in named if picture is not None]
    if noisy is not None and (reference is None or row.difference is not ERROR_LEFT):
        shown.append(("Removed", row.difference, noisy - denoised))
    elif reference is not None:
        shown.append(("Error left", ERROR_LEFT, denoised - reference))
    # A detail is magnified: show its pixels, do not smooth what is to be judged.
    kind = "detail" if row.detail else "whole"
    return "".join(
        f'<figure class="{kind if place else f"{kind} first"}">'
        f'<img src="{png_address(picture, window)}" alt="{escape(f"{case.name}: {label}")}">'
        f"<figcaption><b>{label}</b> {escape(window.name)}</figcaption></figure>\n"
        for place, (label, window, picture) in enumerate(shown)
    )


def detail_of(image_hu: NDArray[Any]) -> tuple[slice, slice]:
    """A quarter of the slice each way, round the middle of the body: pixels a report's width can show."""
    places = np.argwhere(body_mask(image_hu)[0])
    rows, columns = np.shape(image_hu)
    middle = places.mean(axis=0) if len(places) else np.array([rows / 2, columns / 2])
    size = max(1, min(rows, columns) // DETAIL_PART)
    top, left = (
        int(min(max(0, centre - size / 2), length - size))
        for centre, length in zip(middle, (rows, columns), strict=True)
    )
    return slice(top, top + size), slice(left, left + size)


def png_address(image_hu: NDArray[np.float32], view: View) -> str:
    """A grey PNG of the window as a ``data:`` address."""
    grey = np.rint((view.window.to_network(image_hu) + 1) * 127.5).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(grey).save(held, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"


def _table(rows: Sequence[MetricRow]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        before, after = _number(row.noisy, row.digits), _number(row.denoised, row.digits)
        words = "".join(f'<td class="word">{escape(word)}</td>' for word in (row.unit, row.better, row.protocol))
        lines.append(
            f'<tr><th scope="row">{escape(row.name)}</th><td>{before}</td><td><strong>{after}</strong></td>{words}</tr>'
        )
    return (
        '<div class="wide"><table><thead><tr><th>Quantity</th><th>Noisy input</th><th>Denoised</th>'
        '<th class="word">Unit</th><th class="word">Better</th><th class="word">Protocol</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return NOT_GIVEN
    if not math.isfinite(value):
        return "not measurable" if math.isnan(value) else "∞ (exact)"
    return f"{value:.{digits}f}".replace("-", MINUS)


def provenance_html(made_with: Mapping[str, str]) -> str:
    """What made the report, and the disclaimer once more where the page ends."""
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in made_with.items())
    return f"<section>\n<h2>Made with</h2>\n<dl>{lines}</dl>\n<p>{DISCLAIMER}.</p>\n</section>"
