"""The whole of ``scan``: headers, verdicts, a look at the pixels, and the files that tell of it."""

from __future__ import annotations

import bisect
import csv
import errno
import io
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path

from data_prep.archive.facts import Facts
from data_prep.archive.look import Look, look_of, measure_looks
from data_prep.archive.measure import Measured
from data_prep.archive.page import write_archive_page
from data_prep.archive.pseudonym import Pseudonyms, secret_key
from data_prep.archive.record import DamagedRecordError, FileRecord, blank_key
from data_prep.archive.store import Store, no_space, store_refusal
from data_prep.archive.survey import read_archive
from data_prep.archive.verdict import UNPROVEN, copies_of, row_of
from data_prep.table import FIT, SeriesRow, write_table
from iscl_monai.dicom.examine import NOT_DICOM, Skipped
from iscl_monai.dicom.find import as_lost_slice
from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.dicom.other_files import Neighbours
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.durable import whole_file
from iscl_monai.errors import DicomRefusal, OutputRefusal

VERSION = "4"
"""To be raised when a record or measurement changes its meaning: caches of other versions are not used."""

AGAIN = "the same image again as"

Progress = Callable[[int], object]
"""Called with the number of those done since the last call."""


@dataclass(frozen=True)
class Scanned:
    """What a scan found and wrote.

    Attributes:
        rows: of all series, by path.
        skipped: path and reason of every other file, by path.
        files: how many there are in all.
        written: the results.
    """

    rows: tuple[SeriesRow, ...]
    skipped: tuple[tuple[str, str], ...]
    files: int
    written: tuple[Path, ...]


def scan_archive(
    archive: Path,
    out: Path,
    *,
    workers: int = 1,
    keep_patient_ids: bool = False,
    pixels: bool = True,
    on_file: Progress = lambda count: None,
    on_series: Progress = lambda count: None,
) -> Scanned:
    """Look through a folder of DICOM files and write a table of its series; a scan that was ended goes on.

    Args:
        archive: a folder; nothing in it is changed.
        out: folder for the results, outside the archive.
        workers: processes.
        keep_patient_ids: write Patient IDs themselves instead of pseudonyms.
        pixels: also decode a few slices of each series, for the noise and a picture.
        on_file: called with the number of files done since the last call.
        on_series: likewise of series looked at.

    Raises:
        DicomRefusal: when the archive is no folder.
        OutputRefusal: when the results lie inside the archive, cannot be written, or are being written by another.
    """
    archive, out = Path(os.path.abspath(archive)), Path(os.path.abspath(out))
    _check_folders(archive, out)
    cache, pseudonyms = _prepared(out, keep_patient_ids)
    base = cache / "headers.sqlite"
    store = Store(base, f"{_layout()} {pseudonyms.mark()}")
    read = partial(read_archive, archive, store, pseudonyms=pseudonyms, workers=workers, avoid=out)
    try:
        read(progress=on_file)
        try:
            series, skipped = _sorted_out(store, archive)
        except DamagedRecordError:
            store.drop_damaged()
            read()
            series, skipped = _sorted_out(store, archive)
        looks = measure_looks(store, [look for _, look in series], workers, on_series) if pixels else {}
        files = store.count()
    except sqlite3.Error as error:
        raise store_refusal(base, error) from error
    finally:
        store.close()
    found = [(_with_pixels(row, looks.get(look.mark)), looks.get(look.mark)) for row, look in series]
    try:
        return _write(archive, out, found, skipped, files)
    except OSError as error:
        raise _unwritten(out, error) from error


def _sorted_out(store: Store, archive: Path) -> tuple[list[tuple[SeriesRow, Look]], tuple[tuple[str, str], ...]]:
    """Series, and every other file with the reason why it is in none."""
    series, copies = _series(store, archive)
    skipped = sorted([*_with_lost_slices(store), *copies], key=lambda one: os.fsencode(one.path))
    return series, tuple((_shown(one.path), one.reason) for one in skipped)


def _with_lost_slices(store: Store) -> Iterator[Skipped]:
    """Files of no series; those that lie where a slice should lie are damaged."""

    @lru_cache(64)  # records come by path, so that a folder and those below it alternate
    def neighbours(folder: Path) -> Neighbours:
        return Neighbours(store.slices_in(folder))

    for record in store.skipped():
        one = Skipped(record.path, record.reason, damaged=record.damaged, kind=record.kind)
        yield as_lost_slice(one, neighbours(record.path.parent)) if one.reason == NOT_DICOM else one


def _prepared(out: Path, keep_patient_ids: bool) -> tuple[Path, Pseudonyms]:
    """The folder of the cache, and the names of patients."""
    cache = out / ".cache"
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cache, Pseudonyms(None if keep_patient_ids else secret_key(out))
    except OSError as error:
        raise _unwritten(out, error) from error


def _unwritten(out: Path, error: OSError) -> OutputRefusal:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(out, error)
    return OutputRefusal(
        f"{out} cannot be written ({error.strerror or error})",
        allowed="a folder of one's own",
        cure="give another folder",
    )


def _layout() -> str:
    """What records and measurements look like: those of another program version are not read."""
    names = [field.name for kind in (SliceHeader, Facts, Measured) for field in fields(kind)]
    return f"{VERSION} {' '.join(names)}"


def _check_folders(archive: Path, out: Path) -> None:
    if not archive.is_dir():
        raise DicomRefusal(
            archive,
            tag="path",
            found="a file" if archive.exists() else "absent",
            needed="a folder",
            cure="check the spelling of the path",
        )
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(archive)):
        raise OutputRefusal(
            f"{out} lies inside {archive}",
            allowed="a folder outside of the archive, which would else be scanned with it",
            cure="give another folder for the results",
        )


def _series(store: Store, archive: Path) -> tuple[list[tuple[SeriesRow, Look]], list[Skipped]]:
    """Rows by their path, each with the slices to look at; and the images that lie there twice."""
    damaged = sorted(os.fsencode(one.path) for one in _with_lost_slices(store) if one.damaged)

    contradictory = Counter(record.maybe_of for record in store.skipped() if record.maybe_of)

    def maybe_lost(folder: Path, series_uid: str) -> int:
        start = os.path.join(os.fsencode(folder), b"")
        # b"0" follows b"/": all paths below lie between them.
        below = bisect.bisect_left(damaged, start[:-1] + b"0") - bisect.bisect_left(damaged, start)
        return below + contradictory[series_uid]

    series, copies = [], []
    for records, states in store.series():
        with without_warnings():
            again = copies_of(records)
            copies += [
                Skipped(records[copy].path, f"{AGAIN} {records[first].path.name}") for copy, first in again.items()
            ]
            once = [index for index in range(len(records)) if index not in again]
            records, states = [records[index] for index in once], [states[index] for index in once]
            row, place = row_of(records, archive, maybe_lost)
        named = {record.header.reconstruction for record in records if record.header}
        row = replace(row, reconstruction=" / ".join(sorted(named - {""})))
        if row.verdict in (FIT, UNPROVEN) and (verdict := _nobody_knows(store, records)):
            row = replace(row, verdict=verdict)
        series.append((row, look_of(records, states, place.order)))
    return sorted(series, key=lambda one: (one[0].path, one[0].series_uid, one[0].verdict)), copies


def _nobody_knows(store: Store, records: Sequence[FileRecord]) -> str:
    """A verdict where files without SeriesInstanceUID and others are mixed: neither series is known to be whole."""
    key = records[0].key() or b""
    folders = sorted({record.path.parent for record in records})
    if key == blank_key(folders[0]):
        others = store.count_others(folders[0], key)
        return f"without SeriesInstanceUID among other series ({others} files)" if others else ""
    blank = sum(store.count_key(blank_key(folder)) for folder in folders)
    return f"files without SeriesInstanceUID beside it ({blank}): maybe its slices" if blank else ""


def _with_pixels(row: SeriesRow, measured: Measured | None) -> SeriesRow:
    if measured is None:
        return row
    verdict = FIT if row.verdict == UNPROVEN and measured.proven else row.verdict
    return replace(
        row,
        verdict=measured.problem if measured.problem and verdict == FIT else verdict,
        noise_hu=measured.noise_hu,
        noise_peak_per_mm=measured.noise_peak_per_mm,
    )


def _write(
    archive: Path,
    out: Path,
    found: Sequence[tuple[SeriesRow, Measured | None]],
    skipped: tuple[tuple[str, str], ...],
    files: int,
) -> Scanned:
    rows = tuple(row for row, _ in found)
    tables = write_table(list(rows), out / "series")
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerows([("path", "reason"), *skipped])
    with whole_file(out / "skipped.csv") as file:
        file.write(lines.getvalue().encode("utf-8"))
    pictures = [measured.thumbnail if measured else "" for _, measured in found]
    page = write_archive_page(out / "index.html", archive, rows, pictures, skipped, files)
    return Scanned(rows, skipped, files, (*tables, out / "skipped.csv", page))


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
