"""What an evaluation writes: ``metrics.json`` and ``report.html``, in one folder that appears whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iscl_monai.durable import whole_folder
from iscl_monai.errors import Refusal
from iscl_monai.evaluation.scores import DIGITS, NAMES, UNITS, Scores
from iscl_monai.quality.cohort import FEWEST_PATIENTS, INTERVAL
from iscl_monai.report.case import ReportCase
from iscl_monai.report.content import cases_content
from iscl_monai.report.numbers import NOT_GIVEN, counted
from iscl_monai.report.report_page import ShownCase
from iscl_monai.report.section import Section, Table
from iscl_monai.report.write import write_report

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
        estimates = [
            one.estimates[quantity].text(DIGITS[quantity], signed=name == "gain" or quantity == "mean_shift_hu")
            for name, one in cohorts.items()
        ]
        lines.append([NAMES[quantity] + unit, *estimates])
    excess = scores.excess_rmse_hu()
    if excess:
        lines.append(["Excess RMSE, HU", *(f"{excess[name]:.2f}" if name in excess else NOT_GIVEN for name in cohorts)])
    return heads, lines


def cohort_title(scores: Scores) -> str:
    """Protocol, patients and slices: what every table is headed with."""
    one = scores.cohorts()["denoised"]
    patients, slices = len(one.patients), one.slices
    size = f"{counted(patients, 'patient')}, {counted(slices, 'slice')}"
    if patients >= FEWEST_PATIENTS:
        interval = f"mean ({INTERVAL})"
    else:
        interval = f"no interval with fewer than {FEWEST_PATIENTS} patients"
    return f"Protocol {scores.protocol.identity}: {size}; {interval}"


def all_notices(scores: Scores, against_truth: Sequence[Scores]) -> list[str]:
    """What a reader must know of the numbers against references, then of those against truths, each once."""
    return list(dict.fromkeys(notice for one in (scores, *against_truth) for notice in one.notices()))


def write_scores(
    folder: Path,
    scores: Scores,
    *,
    against_truth: Sequence[Scores] = (),
    made_with: Mapping[str, str],
    checked: str = "",
) -> Path:
    """Write ``metrics.json`` and ``report.html``.

    Args:
        folder: to make; it must not exist, or be empty.
        scores: what was measured against references.
        against_truth: what was measured against truths, by their protocols.
        made_with: see :func:`iscl_monai.report.write.provenance`.
        checked: what is known of the patients that the weights were trained on.

    Raises:
        OutputRefusal: if the folder is taken or cannot be written.
    """
    content = {
        **scores.content(),
        "truth": {one.protocol.name: one.content() for one in against_truth},
        "trained_on": checked or None,
        "made_with": dict(made_with),
    }
    # Pictures of pairs against references alone: a report has one protocol for the numbers beside them.
    shown, total = len(scores.cases()), len(scores.pairs)
    some = f" Shown are the {shown} of {total} with the least gain." if shown < total else ""
    notices = [*all_notices(scores, against_truth), *([checked] if checked else [])]
    return write_outcome(
        folder,
        content,
        title="Evaluation against a reference",
        cases=scores.cases(),
        made_with=made_with,
        summary=f"{' '.join(_sentence(notice) for notice in notices)}{some}",
        sections=[_cohort_section(one) for one in (scores, *against_truth)],
    )


def write_outcome(
    folder: Path,
    content: Mapping[str, Any],
    *,
    title: str,
    cases: Sequence[ReportCase | ShownCase],
    made_with: Mapping[str, str],
    summary: str = "",
    sections: Sequence[Section] = (),
) -> Path:
    """Write both files of an evaluation; the folder appears whole or not at all.

    Args:
        folder: to make; it must not exist, or be empty.
        content: of ``metrics.json``, beside the tables of the cases.
        title: of the report.
        cases: see :func:`iscl_monai.report.write.write_report`.
        made_with: likewise.
        summary: likewise.
        sections: likewise.

    Raises:
        OutputRefusal: if the folder is taken or cannot be written.
        Refusal: if a number of two protocols would stand in one table.
    """
    try:
        text = json.dumps({**content, "cases": cases_content(cases)}, indent=2, allow_nan=False)
    except ValueError as error:
        raise Refusal(f"metrics: {error}", allowed="numbers or null", cure="report this") from error
    with whole_folder(folder) as made:
        (made / FILES[0]).write_text(text + "\n", encoding="utf-8")
        write_report(made / FILES[1], title=title, cases=cases, made_with=made_with, summary=summary, sections=sections)
    return folder


def _cohort_section(scores: Scores) -> Section:
    heads, lines = cohort_lines(scores)
    return Section(
        title=cohort_title(scores),
        table=Table(heads=heads, lines=lines),
        note="Slices are averaged to patients, patients to the cohort. Numbers of another protocol, even of the same "
        "name with another digest, must not be compared with these.",
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
