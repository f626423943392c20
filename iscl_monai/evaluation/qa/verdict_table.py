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
    "fail": ("fail", "✗"),
    "not measurable": ("open", "not measurable"),
    "not judged": ("quiet", ""),
}
"""Style class and mark of each status."""


@dataclass(frozen=True, kw_only=True)
class VerdictCell:
    """One verdict.

    Args:
        kind: style class; empty where nothing was judged.
        text: the value and its mark.
        columns: how many doses it is for.
    """

    kind: str = ""
    text: str = ""
    columns: int = 1


@dataclass(frozen=True, kw_only=True)
class VerdictLine:
    """One quantity against one limit."""

    quantity: str
    allowed: str
    cells: Sequence[VerdictCell]


@dataclass(frozen=True, kw_only=True)
class VerdictTable:
    """All verdicts.

    Args:
        counts: how many of each status.
        judged: how many there are.
        doses: heads of the columns.
        lines: in the order of the limits.
    """

    counts: Mapping[Status, int]
    judged: int
    doses: Sequence[str]
    lines: Sequence[VerdictLine]


def verdict_table(result: QaResult) -> VerdictTable:
    """The verdicts of a quality check, for its page."""
    counts = {status: sum(one.status == status for one in result.verdicts) for status in MARKS}
    order = list(result.limits)
    rows: dict[tuple[str, str], dict[float | None, Verdict]] = {}
    for verdict in sorted(result.verdicts, key=lambda one: order.index(one.limit)):
        quantity = verdict.quantity.partition(" (least")[0]
        rows.setdefault((quantity, verdict.allowed), {})[verdict.dose] = verdict
    doses = [one.dose for one in result.doses]
    return VerdictTable(
        counts=counts,
        judged=len(result.verdicts) - counts["not judged"],
        doses=[percent(dose) for dose in doses],
        lines=[
            VerdictLine(quantity=quantity, allowed=allowed, cells=_cells(found, doses))
            for (quantity, allowed), found in rows.items()
        ],
    )


def _cells(found: Mapping[float | None, Verdict], doses: Sequence[float]) -> list[VerdictCell]:
    """One for each dose, or a single one for a verdict that is the same at all doses."""
    if None in found:
        return [_cell(found[None], columns=len(doses))]
    return [_cell(found[dose]) if dose in found else VerdictCell() for dose in doses]


def _cell(verdict: Verdict, columns: int = 1) -> VerdictCell:
    kind, mark = MARKS[verdict.status]
    value = "" if math.isnan(verdict.value) else significant(verdict.value)
    return VerdictCell(kind=kind, text=" ".join(filter(None, (value, mark))), columns=columns)
