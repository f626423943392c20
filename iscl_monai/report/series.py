"""What ``denoise --report`` shows of DICOM series that pass slice by slice: no series is ever held."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import Refusal
from iscl_monai.quality.fidelity import AIR_HU
from iscl_monai.quality.regions import REGIONS, RegionMeasurement
from iscl_monai.report.budget import spread
from iscl_monai.report.case import MetricRow, region_rows
from iscl_monai.report.content import page_content, write_content
from iscl_monai.report.numbers import counted, with_minus_signs
from iscl_monai.report.pages import write_page
from iscl_monai.report.report_page import ReportPage, ShownCase, overview, with_room
from iscl_monai.report.skipped import skipped_section
from iscl_monai.report.viewer import (
    WINDOWS,
    ViewedSlice,
    Viewer,
    Window,
    difference_pane,
    hu_pane,
    noise_pane,
    window_of_body,
)

TITLE = "Before and after denoising"
MOST_SLICES = 12
"""Pictured of a series, evenly spread; a page with many series keeps fewer."""


class SeriesReport:
    """Gathers one series as its slices pass: pictures of at most twelve, and the regions of all slices.

    Args:
        name: heading; it is printed, so it must not tell who the patient is.
        count: how many slices the series has.
        note: one line under the heading.
        target_noise_hu: noise that the weights leave on purpose; 0: none, or not known.

    Raises:
        Refusal: if ``count`` is not positive.
    """

    def __init__(self, *, name: str, count: int, note: str = "", target_noise_hu: float = 0.0) -> None:
        if count < 1:
            raise Refusal(
                f"a report of {count} slices in {name}", allowed="1 or more", cure="report series that have slices"
            )
        self.name, self.count, self.note = name, count, note
        self.target_noise_hu = target_noise_hu
        self._shown = set(spread(count, MOST_SLICES))
        self._pictures: dict[int, ViewedSlice] = {}
        self._windows: Counter[Window] = Counter()
        self._seen = bytearray(count)
        self._regions = RegionMeasurement()

    def add(
        self,
        index: int,
        before_hu: NDArray[Any],
        after_hu: NDArray[Any],
        padded: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take one slice, in any order, from one thread. The arrays may be used again afterwards.

        Args:
            index: its place in the series, from 0.
            before_hu: HU (row, column).
            after_hu: HU of the same shape.
            padded: bool of the same shape, True where a pixel is padding outside the scan; None: nowhere.

        Raises:
            Refusal: if the series has no such slice, or it came before.
            ImageRefusal: if the shapes differ, or values are not finite.
        """
        if not 0 <= index < self.count or self._seen[index]:
            raise Refusal(
                f"slice {index} of {self.name}, which has {self.count}, {sum(self._seen)} of them seen",
                allowed="each slice once, counted from 0",
                cure="report every slice where it is written",
            )
        self._regions.add(before_hu, after_hu, padded)
        self._seen[index] = 1
        if index in self._shown:
            self._add_pictures(index, _shown(before_hu, padded), _shown(after_hu, padded))

    def _add_pictures(self, index: int, before_hu: NDArray[np.float32], after_hu: NDArray[np.float32]) -> None:
        """Compressed at once: a page may show many series."""
        self._windows[window_of_body([before_hu])] += 1
        self._pictures[index] = ViewedSlice(
            name=f"slice {index + 1} of {self.count}",
            panes=[
                hu_pane("Before", before_hu),
                hu_pane("After", after_hu),
                difference_pane("Removed", before_hu - after_hu, "removed"),
                noise_pane("Local noise before", before_hu, "noise before"),
                noise_pane("Local noise after", after_hu, "noise after"),
            ],
        )

    def case(self, rows: Sequence[MetricRow] | None = None) -> ShownCase | None:
        """Pictures in slice order, and the numbers of all slices seen; None if none to show was seen.

        Args:
            rows: numbers instead of those of the regions.
        """
        if not self._pictures:
            return None
        note = f"{self.note.rstrip('. ')}. " if self.note else ""
        note += f"The table below is over {sum(self._seen)} of {counted(self.count, 'slice')}."
        viewer = Viewer(
            name=self.name,
            slices=[self._pictures[index] for index in sorted(self._pictures)],
            window=min(self._windows, key=lambda window: (-self._windows[window], WINDOWS.index(window))),
        )
        if rows is None:
            rows = region_rows(self._regions.results(), target_noise_hu=self.target_noise_hu)
        return ShownCase(name=self.name, note=note, viewer=viewer, rows=rows)


def _shown(image_hu: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """A copy with padding in black: its value may be anything, and is no tissue."""
    copy = np.array(image_hu, dtype=np.float32)
    if padded is not None:
        copy[padded] = AIR_HU
    return copy


def write_series_report(
    path: Path,
    reports: Sequence[SeriesReport],
    *,
    made_with: Mapping[str, str],
    skipped: Sequence[tuple[str, str]] = (),
    summary: str = "",
) -> Path:
    """Write one self-contained HTML file of all series, and beside it its numbers as JSON.

    Args:
        path: the HTML file to write; the other has its name and ends with ``.json``. Missing folders are made.
        reports: one for each series; those that saw no slice to show are left out.
        made_with: see :func:`iscl_monai.report.write.provenance`.
        skipped: what was not denoised: file, and the reason; folders are not shown.
        summary: a paragraph under the heading.

    Returns:
        ``path``.

    Raises:
        Refusal: if there is neither a picture nor a skipped file to show.
    """
    shown = [case for report in reports if (case := report.case()) is not None]
    if not shown and not skipped:
        raise Refusal("a report without slices", allowed="a series or a skipped file", cure="denoise something first")
    page = ReportPage(
        title=TITLE,
        paragraphs=[text for text in (summary, _how_regions_are_found() if shown else "") if text],
        overview=overview([_overview_case(case) for case in shown]),
        cases=with_room(shown),
        skipped=skipped_section(skipped),
        made_with=made_with,
    )
    write_content(path.with_suffix(".json"), page_content(page))
    return write_page(path, "report.html", page)


def _overview_case(case: ShownCase) -> ShownCase:
    """The noise that was measured: with the means too the table would be wider than a screen."""
    noise = [row for row in case.rows if row.better == "lower" and not math.isnan(row.denoised or 0)]
    return replace(case, rows=noise)


def _how_regions_are_found() -> str:
    classes = ", ".join(f"{region.name} {region.lowest_hu:g} to {region.highest_hu:g}" for region in REGIONS)
    return with_minus_signs(
        f"Regions are found in the image before denoising, by the mean HU of 9x9 pixels: {classes}. Air is that of "
        "the room too; where a scanner cuts it off (often at -1000 or -1024 HU), its noise looks smaller than it is. "
        "Local noise is the standard deviation within 9x9 pixels in the quietest tenth of a region; in lung and bone "
        "even that holds structure."
    )
