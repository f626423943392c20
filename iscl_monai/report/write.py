"""One HTML file that shows what a denoiser did: pictures before and after, what was removed, and numbers.

The file holds its pictures, needs no script and no network, and can be mailed.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib import metadata
from pathlib import Path

from iscl_monai.errors import Refusal
from iscl_monai.report.case import MetricRow, ReportCase, metric_rows
from iscl_monai.report.page import (
    DISCLAIMER,
    case_html,
    overview_html,
    page_html,
    provenance_html,
)
from iscl_monai.version import __version__

__all__ = ["DISCLAIMER", "MetricRow", "ReportCase", "metric_rows", "provenance", "write_report"]

LIBRARIES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "pydicom")


def provenance(*, weights: Path | None = None, seed: int | None = None, **more: object) -> dict[str, str]:
    """What made the pictures: versions, SHA-256 of the weights file, seed, and whatever else is given.

    Args:
        weights: the weights file.
        seed: the seed of the run.
        more: further entries; an underscore in the name becomes a space.
    """
    entries = {"iscl-monai": __version__, "Python": platform.python_version(), "machine": platform.machine()}
    entries |= {name: metadata.version(name) for name in LIBRARIES}
    if weights is not None:
        entries["weights"] = f"{weights.name}, sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()}"
    if seed is not None:
        entries["seed"] = str(seed)
    return entries | {name.replace("_", " "): str(value) for name, value in more.items()}


def write_report(
    path: Path,
    *,
    title: str,
    cases: Sequence[ReportCase],
    made_with: Mapping[str, str],
    summary: str = "",
    tables: str = "",
) -> Path:
    """Write one self-contained HTML file; it appears whole or not at all.

    Args:
        path: the file to write; missing folders are made.
        title: heading.
        cases: what to show, at least one.
        made_with: see :func:`provenance`.
        summary: a paragraph under the heading.
        tables: HTML under the summary, such as that of a cohort.

    Returns:
        ``path``.

    Raises:
        Refusal: if there is no case, or one quantity was measured on several protocols.
    """
    if not cases:
        raise Refusal("a report without cases", allowed="at least one case", cure="denoise something first")
    _refuse_mixed_protocols(cases)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="warning"><strong>{DISCLAIMER}.</strong></p>',
        f"<p>{escape(summary)}</p>" if summary else "",
        tables,
        overview_html([case for case in cases if case.rows]) if sum(bool(case.rows) for case in cases) > 1 else "",
        *(case_html(case) for case in cases),
        provenance_html(made_with),
    ]
    page = page_html(title, "\n".join(part for part in body if part))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, path)
    return path


def _refuse_mixed_protocols(cases: Sequence[ReportCase]) -> None:
    protocols: dict[str, str] = {}
    for case in cases:
        for row in case.rows:
            known = protocols.setdefault(row.name, row.protocol)
            if known != row.protocol:
                raise Refusal(
                    f"{row.name} measured on {known} and, in case {case.name}, on {row.protocol}",
                    allowed="one protocol per quantity in one report",
                    cure="measure all cases on one protocol, or write one report for each",
                )
