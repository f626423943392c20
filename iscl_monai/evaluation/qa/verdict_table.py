"""Verdicts as a table for the page: one line for each quantity, one column for each dose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iscl_monai.evaluation.qa.by_dose import percent
from iscl_monai.evaluation.qa.result import QaResult, Status, Verdict
from iscl_monai.report.numbers import significant

MARKS: Mapping[Status, tuple[str, str]] = {
    "pass": ("pass", "✓"),
    "fault": ("fail", "✗ fault"),
    "wish missed": ("wish", "✗ wish"),
    "not measurable": ("open", "not measurable"),
    "not judged": ("quiet", ""),
}
"""Style class and mark of each status."""

LEAST = " (least: "
"""In a quantity's words, before the place with the least."""


@dataclass(frozen=True, kw_only=True)
class VerdictCell:
    """One verdict.

    Args:
        kind: style class; empty where nothing was judged.
        text: the value and its mark.
        place: where the value is from, if it is the worst of several places.
        columns: how many doses it is for.
    """

    kind: str = ""
    text: str = ""
    place: str = ""
    columns: int = 1


@dataclass(frozen=True, kw_only=True)
class VerdictLine:
    """One quantity against one limit.

    Args:
        limit: its name in the limits file, by which its reason is found.
        quantity: in words.
        kind: of the limit.
        reason: of the limit.
        allowed: the limit.
        cells: by dose.
        beside: what other denoisers reach.
    """

    limit: str
    quantity: str
    kind: str
    reason: str
    allowed: str
    cells: Sequence[VerdictCell]
    beside: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class VerdictTable:
    """All verdicts.

    Args:
        counts: how many of each status.
        judged: how many there are.
        doses: heads of the columns.
        beside: heads of the columns of other denoisers.
        lines: in the order of the limits.
    """

    counts: Mapping[Status, int]
    judged: int
    doses: Sequence[str]
    beside: Sequence[str]
    lines: Sequence[VerdictLine]


def verdict_table(result: QaResult) -> VerdictTable:
    """The verdicts of a quality check, for its page."""
    counts = {status: sum(one.status == status for one in result.verdicts) for status in MARKS}
    order = list(result.limits)
    rows: dict[str, dict[float | None, Verdict]] = {}
    for verdict in sorted(result.verdicts, key=lambda one: order.index(one.limit)):
        rows.setdefault(verdict.line, {})[verdict.dose] = verdict
    doses = [one.dose for one in result.doses]
    return VerdictTable(
        counts=counts,
        judged=len(result.verdicts) - counts["not judged"],
        doses=[percent(dose) for dose in doses],
        beside=[f"{one.name}, {percent(one.dose)}" for one in result.beside],
        lines=[_line(result, line, found, doses) for line, found in rows.items()],
    )


def _line(result: QaResult, line: str, found: Mapping[float | None, Verdict], doses: Sequence[float]) -> VerdictLine:
    first = next(iter(found.values()))
    reason = result.reasons.get(first.limit)
    return VerdictLine(
        limit=first.limit,
        quantity=first.quantity.partition(LEAST)[0],
        kind=first.kind,
        reason="" if reason is None else reason.reason,
        allowed=first.allowed,
        cells=_cells(found, doses),
        beside=[significant(value) if (value := one.values.get(line)) is not None else "" for one in result.beside],
    )


def _cells(found: Mapping[float | None, Verdict], doses: Sequence[float]) -> list[VerdictCell]:
    """One for each dose, or a single one for a verdict that is the same at all doses."""
    if None in found:
        return [_cell(found[None], columns=len(doses))]
    return [_cell(found[dose]) if dose in found else VerdictCell() for dose in doses]


def _cell(verdict: Verdict, columns: int = 1) -> VerdictCell:
    kind, mark = MARKS[verdict.status]
    value = "" if math.isnan(verdict.value) else significant(verdict.value)
    place = verdict.quantity.partition(LEAST)[2].removesuffix(")")
    return VerdictCell(kind=kind, text=" ".join(filter(None, (value, mark))), place=place, columns=columns)
