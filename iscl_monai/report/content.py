"""The numbers of a page for programs: the same ones, under the same names, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iscl_monai.durable import whole_file
from iscl_monai.report.case import MetricRow, ReportCase
from iscl_monai.report.report_page import ReportPage, ShownCase


def page_content(page: ReportPage) -> dict[str, Any]:
    """What a page of cases says, without its pictures."""
    return {
        "title": page.title,
        "summary": list(page.paragraphs),
        "cases": cases_content(page.cases),
        "skipped": [] if page.skipped is None or page.skipped.table is None else _lines(page.skipped.table.lines),
        "made_with": dict(page.made_with),
    }


def cases_content(cases: Sequence[ReportCase | ShownCase]) -> list[dict[str, Any]]:
    """The tables of cases: every row by the name that it has on the page, its numbers not rounded."""
    return [{"name": case.name, "note": case.note, "rows": [_row(row) for row in case.rows]} for case in cases]


def write_content(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON file; it appears whole or not at all.

    Args:
        path: the file to write.
        content: plain data without NaN.

    Returns:
        ``path``.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with whole_file(path) as file:
        file.write(f"{text}\n".encode("utf-8", "backslashreplace"))  # file names may hold what is no text
    return path


def _row(row: MetricRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "unit": row.unit,
        "noisy": _number(row.noisy),
        "denoised": _number(row.denoised),
        "better": row.better,
        "protocol": row.protocol,
        "verdict": {"words": row.verdict.words, "reason": row.verdict.reason, "tone": row.verdict.tone},
    }


def _number(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity: what could not be measured is null."""
    return None if value is None or not math.isfinite(value) else float(value)


def _lines(lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [{"files": int(files), "reason": reason, "such_as": examples} for files, reason, examples in lines]
