"""One HTML file that shows what a denoiser did: pictures before and after, what was removed, and numbers.

The file holds its pictures, can be read without script and network, and can be mailed.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from iscl_monai.errors import Refusal
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.report.case import MetricRow, ReportCase, metric_rows
from iscl_monai.report.pages import DISCLAIMER, write_page
from iscl_monai.report.report_page import ReportPage, ShownCase, overview, shown_case, with_room
from iscl_monai.report.section import Section
from iscl_monai.version import __version__

__all__ = ["DISCLAIMER", "MetricRow", "ReportCase", "made_by", "metric_rows", "provenance", "write_report"]

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


def made_by(denoiser: SliceDenoiser) -> dict[str, str]:
    """What made the pictures: :func:`provenance`, and the denoiser with all its settings."""
    identity = denoiser.identity
    named = {"model": f"{identity.name} {identity.version}", "weights": f"sha256 {identity.weights_digest}"}
    return provenance() | named | dict(denoiser.parameters)


def left_on_purpose(settings: Mapping[str, str]) -> float | None:
    """Noise in HU that a denoiser was to leave, by its settings; None: not known, or it was not told any."""
    left = settings.get("target_noise_hu")
    return None if left is None else float(left)


def write_report(
    path: Path,
    *,
    title: str,
    cases: Sequence[ReportCase | ShownCase],
    made_with: Mapping[str, str],
    summary: str = "",
    sections: Sequence[Section] = (),
) -> Path:
    """Write one self-contained HTML file; it appears whole or not at all.

    Args:
        path: the file to write; missing folders are made.
        title: heading.
        cases: what to show, at least one.
        made_with: see :func:`provenance`.
        summary: a paragraph under the heading.
        sections: under the summary, such as the numbers of a cohort.

    Returns:
        ``path``.

    Raises:
        Refusal: if there is no case, or one quantity was measured on several protocols.
    """
    if not cases:
        raise Refusal("a report without cases", allowed="at least one case", cure="denoise something first")
    _refuse_mixed_protocols(cases)
    page = ReportPage(
        title=title,
        paragraphs=[summary] if summary else [],
        sections=sections,
        overview=overview([case for case in cases if case.rows]),
        cases=with_room([shown_case(case) if isinstance(case, ReportCase) else case for case in cases]),
        made_with=made_with,
    )
    return write_page(path, "report.html", page)


def _refuse_mixed_protocols(cases: Sequence[ReportCase | ShownCase]) -> None:
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
