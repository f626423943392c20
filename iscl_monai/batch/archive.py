"""What shall be denoised: a tree of folders, or the series that a table names."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iscl_monai.batch.planning import PlannedSeries
from iscl_monai.dicom.examine import Skipped
from iscl_monai.dicom.find import walk_folders
from iscl_monai.errors import DatalistRefusal, DicomRefusal, Refusal
from iscl_monai.extras import check_extra

TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Asked:
    """A row of a table.

    Attributes:
        path: folder that holds the series' files, and maybe others'.
        series_uid: SeriesInstanceUID, ``""`` when it was blanked; then the folder is the series.
    """

    path: Path
    series_uid: str

    @property
    def name(self) -> str:
        """Of the series, as :func:`name_of` has it."""
        return self.series_uid or str(self.path)


@dataclass(frozen=True)
class Archive:
    """What is read.

    Attributes:
        source: as it was given, absolute.
        root: folder below which everything lies.
        asked: the rows of a table; None: whatever lies in a tree.
    """

    source: Path
    root: Path
    asked: tuple[Asked, ...] | None = None

    def folders(self) -> Iterator[Path]:
        """Every folder to look at, each once, links followed, in an order that is the same everywhere.

        Raises:
            DicomRefusal: a folder cannot be opened: what it hides may belong to any series.
        """
        tops = [self.root] if self.asked is None else sorted({one.path for one in self.asked})
        seen: set[str] = set()
        for top in tops:
            closed: list[Skipped] = []
            for folder, names in walk_folders(top, closed):
                _refuse_closed(closed)
                real = os.path.realpath(folder)
                if names and real not in seen:
                    seen.add(real)
                    yield folder
            _refuse_closed(closed)

    def names(self) -> Collection[str] | None:
        """Names (:func:`name_of`) of the series that were asked for; None: all."""
        return None if self.asked is None else {one.name for one in self.asked}


def name_of(series: PlannedSeries) -> str:
    """How a table calls a series."""
    return series.series_uid or str(series.folder)


def archive_of(source: Path) -> Archive:
    """The archive that a folder is, or that a table speaks of.

    Args:
        source: a folder, or a table ``.csv`` or ``.parquet`` as ``iscl-monai scan`` writes it; of its columns ``path``
            and ``series_uid`` are read.

    Raises:
        Refusal: it is neither.
        DatalistRefusal: a table that cannot be read, or a folder in it that does not exist.
    """
    source = Path(os.path.abspath(source))
    if source.is_dir():
        return Archive(source, source)
    if not source.is_file() or source.suffix not in TABLES:
        raise Refusal(
            f"{source} is no folder and no table",
            allowed="a folder of DICOM folders, or the table series.csv or series.parquet of iscl-monai scan",
            cure="give one of these; a single file is for iscl-monai denoise",
        )
    rows = _rows_of_csv(source) if source.suffix == ".csv" else _rows_of_parquet(source)
    asked = tuple(_row(source, number, row) for number, row in enumerate(rows, 1))
    if not asked:
        raise _unreadable(source, "no row")
    return Archive(source, Path(os.path.commonpath([one.path for one in asked])), asked)


def _row(source: Path, number: int, row: dict[str, Any]) -> Asked:
    path, uid = row.get("path"), row.get("series_uid")
    if not isinstance(path, str) or not path or not isinstance(uid, (str, type(None))):
        raise _unreadable(source, f"row {number} has path={path!r}, series_uid={uid!r}")
    if not os.path.isdir(path):
        raise _unreadable(source, f"row {number}: {path} is no folder")
    return Asked(Path(os.path.abspath(path)), uid or "")


def _rows_of_csv(source: Path) -> Sequence[dict[str, Any]]:
    try:
        with source.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(source, reader.fieldnames or ())
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(source, " ".join(str(error).split())) from error


def _rows_of_parquet(source: Path) -> Sequence[dict[str, Any]]:
    check_extra("data", "a table as parquet")
    import pandas

    try:
        frame = pandas.read_parquet(source)
        _check_columns(source, frame.columns)
        rows: Sequence[dict[str, Any]] = frame[["path", "series_uid"]].to_dict("records")
    except (OSError, ValueError) as error:
        raise _unreadable(source, " ".join(str(error).split())[:160]) from error
    return rows


def _check_columns(source: Path, names: Collection[str]) -> None:
    missing = {"path", "series_uid"} - set(names)
    if missing:
        raise _unreadable(source, f"without the column {' or '.join(sorted(missing))}")


def _unreadable(source: Path, why: str) -> DatalistRefusal:
    return DatalistRefusal(
        f"{source}: {why}",
        allowed="a table with the columns path (a folder that exists) and series_uid, such as iscl-monai scan writes",
        cure="make one: iscl-monai scan ARCHIVE TABLE",
    )


def _refuse_closed(closed: Sequence[Skipped]) -> None:
    for one in closed:
        raise DicomRefusal(
            one.path,
            tag="folder",
            found=one.reason,
            needed="folders that can be opened: it may hide slices of any series",
            cure="give the right to read it, or take it out of SOURCE",
        )
