"""The page of denoised cases as plain data: what every report of before and after is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from iscl_monai.report.budget import within
from iscl_monai.report.case import MetricRow, ReportCase
from iscl_monai.report.explained import Explanation, explanations
from iscl_monai.report.section import Section
from iscl_monai.report.viewer import ViewedSlice, Viewer, Window, difference_pane, hu_pane, noise_pane, window_of_body

LEFT_OUT = "Its pictures are left out, so that this file stays small enough to be mailed"


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """One case: heading, pictures, table.

    Args:
        name: its heading.
        note: one line under the heading; may be empty.
        viewer: its pictures; None where the page has no room for them.
        rows: of the table; may be none.
    """

    name: str
    note: str
    viewer: Viewer | None
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

    @property
    def windows(self) -> Sequence[Window]:
        """Those of its pictures."""
        return list(dict.fromkeys(window for case in self.cases if case.viewer for window in case.viewer.windows))

    @property
    def explained(self) -> Sequence[Explanation]:
        """What is behind the verdicts on the page."""
        return explanations(row.verdict.topic for case in self.cases for row in case.rows)


def shown_case(case: ReportCase) -> ShownCase:
    """A case with pictures of its slice: before, after, reference, what was removed, and the error that is left."""
    viewer = Viewer(name=case.name, slices=[_viewed(case)], window=window_of_body([_first_of(case)]))
    return ShownCase(name=case.name, note=case.note, viewer=viewer, rows=case.rows)


def with_room(cases: Sequence[ShownCase]) -> list[ShownCase]:
    """The cases with as many of their slices as the page has room for; each is told where some are missing."""
    viewers = within([case.viewer for case in cases if case.viewer is not None])
    left = iter(viewers)
    found = []
    for case in cases:
        viewer = None if case.viewer is None else next(left)
        note = case.note if viewer is not None else f"{f'{case.note} ' if case.note else ''}{LEFT_OUT}."
        found.append(replace(case, viewer=viewer, note=note))
    return found


def overview(cases: Sequence[ReportCase | ShownCase]) -> Overview | None:
    """The cases in one table, input and output of each quantity; None for a single case, or without any number."""
    columns = list(dict.fromkeys((row.name, row.unit, row.protocol) for case in cases for row in case.rows))
    if len(cases) < 2 or not columns:
        return None
    by_name = [(case.name, {row.name: row for row in case.rows}) for case in cases]
    return Overview(
        heads=[(name, ", ".join(filter(None, (unit, protocol)))) for name, unit, protocol in columns],
        lines=[(case, [rows.get(name) for name, _, _ in columns]) for case, rows in by_name],
    )


def _viewed(case: ReportCase) -> ViewedSlice:
    denoised = np.asarray(case.denoised_hu, np.float32)
    noisy, reference = (
        None if image is None else np.asarray(image, np.float32) for image in (case.noisy_hu, case.reference_hu)
    )
    images = (("Before", noisy), ("After", denoised), ("Reference", reference))
    panes = [hu_pane(label, image) for label, image in images if image is not None]
    if noisy is not None:
        panes.append(difference_pane("Removed", noisy - denoised, "removed"))
    if reference is not None:
        panes.append(difference_pane("Error left", denoised - reference, "error left"))
    if noisy is not None:
        panes.append(noise_pane("Local noise before", noisy, "noise before"))
        panes.append(noise_pane("Local noise after", denoised, "noise after"))
    return ViewedSlice(name="", panes=panes)


def _first_of(case: ReportCase) -> np.ndarray:
    return np.asarray(case.denoised_hu if case.noisy_hu is None else case.noisy_hu, np.float32)
