"""What an evaluation leaves: ``metrics.json`` and ``report.html``, in one folder that appears whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from iscl_monai.durable import whole_folder
from iscl_monai.errors import Refusal
from iscl_monai.evaluation.scores import DIGITS, NAMES, UNITS, Scores
from iscl_monai.quality.cohort import FEWEST_PATIENTS
from iscl_monai.report.page import MINUS
from iscl_monai.report.write import ReportCase, write_report

COLUMNS = {"noisy": "Noisy input", "denoised": "Denoised", "gain": "Denoised minus noisy, same patients"}
FILES = ("metrics.json", "report.html")


def cohort_lines(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """The table of the cohort in words.

    Returns:
        Headings; and for each quantity its name with unit, and mean with interval of each column.
    """
    cohorts = scores.cohorts()
    heads = ["Quantity", *(COLUMNS[name] for name in cohorts)]
    lines = []
    for quantity in scores.protocol.quantities:
        unit = f", {UNITS[quantity]}" if UNITS[quantity] else ""
        told = [
            one.estimates[quantity].formatted(DIGITS[quantity], signed=name == "gain" or quantity == "mean_shift_hu")
            for name, one in cohorts.items()
        ]
        lines.append([NAMES[quantity] + unit, *told])
    return heads, lines


def cohort_title(scores: Scores) -> str:
    """Protocol, patients and slices: what every table is headed with."""
    one = scores.cohorts()["denoised"]
    patients, slices = len(one.patients), one.slices
    told = f"{_counted(patients, 'patient')}, {_counted(slices, 'slice')}"
    if patients >= FEWEST_PATIENTS:
        told += "; mean over patients (95 % bootstrap interval)"
    else:
        told += f"; no interval with fewer than {FEWEST_PATIENTS} patients"
    return f"Protocol {scores.protocol.identity}: {told}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def write_scores(folder: Path, scores: Scores, *, made_with: Mapping[str, str], checked: str = "") -> Path:
    """Write ``metrics.json`` and ``report.html``.

    Args:
        folder: to make; it must not exist, or be empty.
        scores: what was measured.
        made_with: see :func:`iscl_monai.report.write.provenance`.
        checked: what is known of the patients that the weights were trained on.

    Raises:
        OutputRefusal: if the folder is taken or cannot be written.
    """
    content = {**scores.content(), "trained_on": checked or None, "made_with": dict(made_with)}
    shown, total = len(scores.cases()), len(scores.pairs)
    some = f" Shown are the {shown} of {total} with the least gain." if shown < total else ""
    return write_outcome(
        folder,
        content,
        title="Evaluation against a reference",
        cases=scores.cases(),
        made_with=made_with,
        summary=f"{' '.join(_sentence(notice) for notice in (*scores.notices(), checked) if notice)}{some}",
        tables=_table_html(scores),
    )


def write_outcome(
    folder: Path,
    content: Mapping[str, Any],
    *,
    title: str,
    cases: Sequence[ReportCase],
    made_with: Mapping[str, str],
    summary: str = "",
    tables: str = "",
) -> Path:
    """Write both files of an evaluation; the folder appears whole or not at all.

    Args:
        folder: to make; it must not exist, or be empty.
        content: of ``metrics.json``.
        title: of the report.
        cases: see :func:`iscl_monai.report.write.write_report`.
        made_with: likewise.
        summary: likewise.
        tables: likewise.

    Raises:
        OutputRefusal: if the folder is taken or cannot be written.
        Refusal: if a number of two protocols would stand in one table.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False)
    except ValueError as error:
        raise Refusal(f"metrics: {error}", allowed="numbers or null", cure="report this") from error
    with whole_folder(folder) as made:
        (made / FILES[0]).write_text(text + "\n", encoding="utf-8")
        write_report(made / FILES[1], title=title, cases=cases, made_with=made_with, summary=summary, tables=tables)
    return folder


def _table_html(scores: Scores) -> str:
    heads, lines = cohort_lines(scores)
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(cell).replace('-', MINUS)}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    return (
        f"<section>\n<h2>{escape(cohort_title(scores))}</h2>\n"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
        "<p>Slices are averaged to patients, patients to the cohort. Numbers of another protocol, even of the same "
        "name with another digest, must not be compared with these.</p>\n</section>"
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
