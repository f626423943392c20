"""What ``denoise --report`` shows of DICOM series that pass slice by slice: no series is ever held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import Refusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import AIR_HU
from iscl_monai.quality.regions import REGIONS, RegionMeasurement, RegionResult
from iscl_monai.report.case import MetricRow, ReportCase
from iscl_monai.report.numbers import counted, with_minus_signs
from iscl_monai.report.pages import write_page
from iscl_monai.report.pictures import LUNG, REMOVED, REMOVED_CLOSE, PictureRow, View
from iscl_monai.report.report_page import ReportPage, overview, shown_case
from iscl_monai.report.skipped import skipped_section

PROTOCOL = "regions"
TITLE = "Before and after denoising"

ABDOMEN = View("abdomen 40/400", HUWindow(-160, 240))
BRAIN = View("brain 40/80", HUWindow(0, 80))
REMOVED_BRAIN = View("before minus after, ±20 HU", HUWindow(-20, 20))
VIEWS = (
    PictureRow(ABDOMEN, REMOVED_CLOSE),
    PictureRow(View(f"{ABDOMEN.name}, detail", ABDOMEN.window), REMOVED_CLOSE, detail=True),
    PictureRow(BRAIN, REMOVED_BRAIN),
    PictureRow(LUNG, REMOVED),
)
"""The same for every series, so that no scan is shown kinder than another; noise differs, so do the ranges."""


class SeriesReport:
    """Gathers one series as its slices pass: at most three pairs of pictures, and the regions of all slices.

    Args:
        name: heading; it is printed, so it must not tell who the patient is.
        count: how many slices the series has.
        note: one line under the heading.

    Raises:
        Refusal: if ``count`` is not positive.
    """

    def __init__(self, *, name: str, count: int, note: str = "") -> None:
        if count < 1:
            raise Refusal(
                f"a report of {count} slices in {name}", allowed="1 or more", cure="report series that have slices"
            )
        self.name, self.count, self.note = name, count, note
        self._shown = {count // 4, count // 2, 3 * count // 4}
        self._pictures: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
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
            self._pictures[index] = (_picture(before_hu, padded), _picture(after_hu, padded))

    def cases(self) -> list[ReportCase]:
        """The pictures in slice order; the first carries the note and the numbers of all slices seen."""
        rows = region_rows(self._regions.results())
        note = f"{self.note.rstrip('. ')}. " if self.note else ""
        note += f"The table below is over {sum(self._seen)} of {counted(self.count, 'slice')}."
        cases = [
            ReportCase(f"{self.name}, slice {index + 1} of {self.count}", *self._pictures[index])
            for index in sorted(self._pictures)
        ]
        return [replace(case, rows=rows, note=note) for case in cases[:1]] + cases[1:]


def _picture(image_hu: NDArray[Any], padded: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """A copy with padding in black: its value may be anything, and is no tissue."""
    copy = np.array(image_hu, dtype=np.float32)
    if padded is not None:
        copy[padded] = AIR_HU
    return copy


def region_rows(results: Sequence[RegionResult]) -> tuple[MetricRow, ...]:
    """Two lines for each region: local noise, which should fall, and mean, which should stay."""
    rows: list[MetricRow] = []
    for one in results:
        noise, mean = (one.sigma_before_hu, one.sigma_after_hu), (one.mean_before_hu, one.mean_after_hu)
        rows += [
            MetricRow(f"Local noise, {one.name}", "HU", *noise, PROTOCOL, "lower"),
            MetricRow(f"Mean, {one.name}", "HU", *mean, PROTOCOL, "unchanged"),
        ]
    return tuple(rows)


def write_series_report(
    path: Path,
    reports: Sequence[SeriesReport],
    *,
    made_with: Mapping[str, str],
    skipped: Sequence[tuple[str, str]] = (),
    summary: str = "",
) -> Path:
    """Write one self-contained HTML file of all series; it appears whole or not at all.

    Args:
        path: the file to write; missing folders are made.
        reports: one for each series; those that saw no slice to show are left out.
        made_with: see :func:`iscl_monai.report.write.provenance`.
        skipped: what was not denoised: file, and the reason; folders are not shown.
        summary: a paragraph under the heading.

    Returns:
        ``path``.

    Raises:
        Refusal: if there is neither a picture nor a skipped file to show.
    """
    shown = [(report, cases) for report in reports if (cases := report.cases())]
    if not shown and not skipped:
        raise Refusal("a report without slices", allowed="a series or a skipped file", cure="denoise something first")
    page = ReportPage(
        title=TITLE,
        paragraphs=[text for text in (summary, _how_regions_are_found() if shown else "") if text],
        overview=overview([_overview_case(*one) for one in shown]),
        cases=[shown_case(case, VIEWS) for _, cases in shown for case in cases],
        skipped=skipped_section(skipped),
        made_with=made_with,
    )
    return write_page(path, "report.html", page)


def _overview_case(report: SeriesReport, cases: Sequence[ReportCase]) -> ReportCase:
    """The noise that was measured: with the means too the table would be wider than a screen."""
    noise = [row for row in cases[0].rows if row.better == "lower" and not math.isnan(row.denoised or 0)]
    return replace(cases[0], name=report.name, rows=noise)


def _how_regions_are_found() -> str:
    classes = ", ".join(f"{region.name} {region.lowest_hu:g} to {region.highest_hu:g}" for region in REGIONS)
    return with_minus_signs(
        f"Regions are found in the image before denoising, by the mean HU of 9x9 pixels: {classes}. Air is that of "
        "the room too; where a scanner cuts it off (often at -1000 or -1024 HU), its noise looks smaller than it is. "
        "Local noise is the standard deviation within 9x9 pixels in the quietest tenth of a region; in lung and bone "
        "even that holds structure."
    )
