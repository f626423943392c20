"""The page that shows an archive at a glance; one file, works offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from data_prep.archive.columns import COLUMNS, VERDICT, Cell, Column
from data_prep.archive.counts import reason_counts, verdict_counts, verdict_group
from data_prep.archive.stands_out import Remark, remarks
from data_prep.table import FIT, SeriesRow
from iscl_monai.report.pages import write_page
from iscl_monai.report.section import Section, Table

MOST_ROWS = 2000
MOST_REASONS = 40
MOST_EXAMPLES = 3
MOST_THUMBNAIL_BYTES = 2_000_000
"""Words of 2000 series take the rest of a page of 5 MB."""
TITLE = "CT series of an archive"
COLOURS = {FIT: "fit", "single slice": "maybe"}
"""Style class of a verdict's group; all others are unfit."""


@dataclass(frozen=True, kw_only=True)
class VerdictChip:
    """A button that shows the series of one group of verdicts alone."""

    group: str
    colour: str
    count: int


@dataclass(frozen=True, kw_only=True)
class SeriesLine:
    """One series.

    Args:
        group: of its verdict.
        colour: likewise, as a style class.
        z_mm: of its lowest slice, which the pictures are sorted by; empty where it is not known.
        picture: a PNG in base 64; may be empty.
        verdict: in words, and below them what stands out.
        cells: one for each column.
        folder: below the archive.
    """

    group: str
    colour: str
    z_mm: str
    picture: str
    verdict: Cell
    cells: Sequence[Cell]
    folder: str


@dataclass(frozen=True, kw_only=True)
class ArchivePage:
    """What ``templates/archive.html`` shows, from top to bottom.

    Args:
        title: heading.
        folder: that was scanned.
        tiles: numbers, and what they count.
        stands_out: what to look at among the series that are fit; None if nothing stands out.
        chips: verdicts.
        series: how many there are.
        verdict: first column after the pictures.
        columns: the others.
        lines: the first :data:`MOST_ROWS` of the series.
        reasons: how many files were skipped for each, the most frequent ones.
        more_reasons: how many others there are.
    """

    title: str
    folder: str
    tiles: Sequence[tuple[int, str]]
    stands_out: Section | None
    chips: Sequence[VerdictChip]
    series: int
    verdict: Column
    columns: Sequence[Column]
    lines: Sequence[SeriesLine]
    reasons: Sequence[tuple[str, int]]
    more_reasons: int


def write_archive_page(
    path: Path,
    archive: Path,
    rows: Sequence[SeriesRow],
    thumbnails: Sequence[str],
    skipped: Sequence[tuple[str, str]],
    files: int,
) -> Path:
    """Write the page; it appears whole or not at all.

    Args:
        path: the file to write.
        archive: the folder that was scanned; paths are shown from there on.
        rows: of the table.
        thumbnails: a PNG in base 64 for each row, or ``""``.
        skipped: path and reason of the other files.
        files: how many there are in all.

    Returns:
        ``path``.
    """
    reasons = reason_counts(skipped)
    found = remarks(rows, str(archive))
    odd: dict[int, list[str]] = {}
    for remark in found:
        for index, words in remark.series:
            odd.setdefault(index, []).append(words)
    shown = list(zip(rows, _that_fit(thumbnails), strict=True))[:MOST_ROWS]
    page = ArchivePage(
        title=TITLE,
        folder=str(archive),
        tiles=_tiles(rows, len(skipped), files),
        stands_out=_stands_out(found, rows, archive),
        chips=[VerdictChip(group=group, colour=_colour(group), count=count) for group, count in verdict_counts(rows)],
        series=len(rows),
        verdict=VERDICT,
        columns=COLUMNS,
        lines=[_line(row, picture, archive, odd.get(index, ())) for index, (row, picture) in enumerate(shown)],
        reasons=reasons[:MOST_REASONS],
        more_reasons=max(0, len(reasons) - MOST_REASONS),
    )
    return write_page(path, "archive.html", page, package="data_prep")


def _that_fit(thumbnails: Sequence[str]) -> list[str]:
    """The first of them, as many as a page can hold; ``""`` for the others."""
    sizes = accumulate(map(len, thumbnails))
    return [picture if size <= MOST_THUMBNAIL_BYTES else "" for picture, size in zip(thumbnails, sizes, strict=True)]


def _tiles(rows: Sequence[SeriesRow], skipped: int, files: int) -> list[tuple[int, str]]:
    fit = [row for row in rows if row.fit]
    patients = {row.patient for row in fit} - {""}
    nameless = sum(not row.patient for row in fit)
    return [
        (len(fit), f"of {len(rows)} series are fit for training"),
        (sum(row.slices for row in fit), "slices in them"),
        (len(patients), "patients" + (f", and {nameless} series without Patient ID" if nameless else "")),
        (files - skipped, f"of {files} files belong to a series"),
        (skipped, "files were skipped"),
    ]


def _line(row: SeriesRow, picture: str, archive: Path, odd: Sequence[str]) -> SeriesLine:
    group = verdict_group(row.verdict)
    return SeriesLine(
        group=group,
        colour=_colour(group),
        z_mm="" if row.z_lowest_mm is None else str(row.z_lowest_mm),
        picture=picture,
        verdict=replace(VERDICT.cell(row), small="; ".join(odd)),
        cells=[column.cell(row) for column in COLUMNS],
        folder=_below(row, archive),
    )


def _stands_out(found: Sequence[Remark], rows: Sequence[SeriesRow], archive: Path) -> Section | None:
    """What to look at before training, one line for each kind."""
    if not found:
        return None
    lines = []
    for remark in found:
        examples = [f"{_below(rows[index], archive)} ({words})" for index, words in remark.series[:MOST_EXAMPLES]]
        more = len(remark.series) - len(examples)
        lines.append(
            [
                remark.title,
                str(len(remark.series)),
                "; ".join(examples) + (f"; and {more} more" if more else ""),
                remark.advice,
            ]
        )
    several = len({index for remark in found for index, _ in remark.series})
    return Section(
        title="What stands out",
        intro=f"{several} of the fit series may not be what you want to train on. "
        "Nothing was left out for it: the table has the reason below each "
        "verdict, and split --exclude-series leaves a series out.",
        table=Table(heads=("What", "Series", "Such as", "What it means"), lines=lines, words=(0, 2, 3)),
    )


def _below(row: SeriesRow, archive: Path) -> str:
    """The folder of a series below the archive."""
    return row.path.removeprefix(str(archive)).lstrip("/\\") or "."


def _colour(group: str) -> str:
    return COLOURS.get(group, "unfit")
