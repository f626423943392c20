"""The page of denoised cases as plain data: what every report of before and after is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iscl_monai.report.case import MetricRow, ReportCase
from iscl_monai.report.pictures import Figure, PictureRow, case_figures
from iscl_monai.report.section import Section


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """One case: heading, pictures, table.

    Args:
        name: its heading.
        note: one line under the heading; may be empty.
        columns: pictures beside each other.
        figures: row by row.
        rows: of the table; may be none.
    """

    name: str
    note: str
    columns: int
    figures: Sequence[Figure]
    rows: Sequence[MetricRow]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """All cases in one table.

    Args:
        heads: of the columns: quantity, and its unit and protocol.
        lines: of each case its name, and its row of each column; None where it was not measured.
    """

    heads: Sequence[tuple[str, str]]
    lines: Sequence[tuple[str, Sequence[MetricRow | None]]]


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """What ``templates/report.html`` shows, from top to bottom.

    Args:
        title: heading.
        paragraphs: under it.
        sections: before the cases, such as the numbers of a cohort.
        overview: of the cases, where there are several.
        cases: what was denoised.
        skipped: what was not.
        made_with: see :func:`iscl_monai.report.write.provenance`.
    """

    title: str
    paragraphs: Sequence[str]
    sections: Sequence[Section] = ()
    overview: Overview | None = None
    cases: Sequence[ShownCase] = ()
    skipped: Section | None = None
    made_with: Mapping[str, str]


def shown_case(case: ReportCase, rows: Sequence[PictureRow] = ()) -> ShownCase:
    """A case with its pictures.

    Args:
        case: what to show.
        rows: which pictures, see :func:`iscl_monai.report.pictures.case_figures`.
    """
    return ShownCase(
        name=case.name,
        note=case.note,
        columns=4 if case.noisy_hu is not None and case.reference_hu is not None else 3,
        figures=case_figures(case, rows),
        rows=case.rows,
    )


def overview(cases: Sequence[ReportCase]) -> Overview | None:
    """The cases in one table, input and output of each quantity; None for a single case, or without any number."""
    columns = list(dict.fromkeys((row.name, row.unit, row.protocol) for case in cases for row in case.rows))
    if len(cases) < 2 or not columns:
        return None
    by_name = [(case.name, {row.name: row for row in case.rows}) for case in cases]
    return Overview(
        heads=[(name, ", ".join(filter(None, (unit, protocol)))) for name, unit, protocol in columns],
        lines=[(case, [rows.get(name) for name, _, _ in columns]) for case, rows in by_name],
    )
