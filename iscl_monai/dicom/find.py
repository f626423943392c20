"""What lies in a folder: the CT series that can be read, and everything else with the reason why not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iscl_monai.dicom.examine import NOT_DICOM, ReadHeader, Skipped, examine
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.dicom.other_files import Neighbours, may_be_a_slice
from iscl_monai.errors import DicomRefusal


@dataclass(frozen=True)
class SeriesFiles:
    """One series of axial CT images: files that claim to belong together. Nothing is proved yet.

    Attributes:
        uid: SeriesInstanceUID; ``""`` when a de-identifier blanked it (then one folder is one series).
        description: SeriesDescription of the first file.
        modality: always ``CT`` unless the element is missing.
        image_type: ImageType of the first file.
        rows: Rows of the first file, 0 when missing.
        columns: Columns of the first file, 0 when missing.
        files: the paths, sorted by name; slice order is found when the series is read.
    """

    uid: str
    description: str
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    files: tuple[Path, ...]
    headers: tuple[SliceHeader, ...] = field(repr=False, compare=False)


@dataclass(frozen=True)
class FoundSeries:
    """Everything found under one path: every file is in exactly one of the three.

    Attributes:
        series: candidate series of single-frame images.
        skipped: files that are no CT images.
        multiframe: headers of Enhanced and Legacy Converted Enhanced CT files, each an image by itself
            (:mod:`iscl_monai.dicom.enhanced`). Nothing is proved yet.
    """

    series: tuple[SeriesFiles, ...]
    skipped: tuple[Skipped, ...]
    multiframe: tuple[SliceHeader, ...] = ()

    def reasons(self) -> str:
        """See :func:`reasons_of`."""
        return reasons_of(self.skipped)


def reasons_of(skipped: Iterable[Skipped]) -> str:
    """The reasons for skipping with the number of files, most frequent first, in one line."""
    counts = Counter(one.reason for one in skipped)
    return ", ".join(f"{count} x {reason}" for reason, count in counts.most_common()) or "no files at all"


def find_series(root: Path | str, read: ReadHeader = read_header, *, series_uid: str | None = None) -> FoundSeries:
    """Sort every file under a path into CT series and skipped files, reading headers only.

    Args:
        root: a file, or a folder with any mixture of sub-folders, series, scouts, reports and other files.
        read: see :func:`examine`.
        series_uid: see :func:`examine`.

    Returns:
        Candidate series (grouped by SeriesInstanceUID, localizers split off), multi-frame and skipped files.

    Raises:
        DicomRefusal: when the path does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise DicomRefusal(
            root,
            tag="path",
            found="absent",
            needed="a DICOM file or folder",
            cure="check the spelling of the path",
        )
    unopened: list[Skipped] = []
    found = sort_files(walk_files(root, unopened), read, series_uid=series_uid)
    return replace(found, skipped=(*unopened, *found.skipped))


def sort_files(paths: Iterable[Path], read: ReadHeader = read_header, *, series_uid: str | None = None) -> FoundSeries:
    """As :func:`find_series`, for files that are named one by one.

    Args:
        paths: of the files, each once.
        read: see :func:`examine`.
        series_uid: see :func:`examine`.
    """
    groups: dict[tuple[str, str], list[SliceHeader]] = {}
    skipped: list[Skipped] = []
    multiframe: list[SliceHeader] = []
    for path in paths:
        header = examine(path, read, series_uid=series_uid)
        if isinstance(header, Skipped):
            skipped.append(header)
        elif header.sop_class in MULTIFRAME_CT:
            multiframe.append(header)
        else:
            # Without a UID nothing but the folder says what belongs together.
            key = (header.series_uid, "" if header.series_uid else str(path.parent))
            groups.setdefault(key, []).append(header)
    slices = [header.path for group in groups.values() for header in group]
    skipped = lost_slices(skipped, [*slices, *(header.path for header in multiframe)])
    return FoundSeries(tuple(_as_series(group) for group in groups.values()), tuple(skipped), tuple(multiframe))


def lost_slices(skipped: Sequence[Skipped], slices: Sequence[Path]) -> list[Skipped]:
    """The same skipped files; those that are no DICOM and lie where a slice should lie are damaged.

    Args:
        skipped: as :func:`examine` gave them.
        slices: paths of what can be read.
    """
    folders: dict[Path, list[Path]] = {}
    for path in slices:
        folders.setdefault(path.parent, []).append(path)
    neighbours = {folder: Neighbours(paths) for folder, paths in folders.items()}
    nobody = Neighbours(())
    return [as_lost_slice(one, neighbours.get(one.path.parent, nobody)) for one in skipped]


def as_lost_slice(one: Skipped, neighbours: Neighbours) -> Skipped:
    """A skipped file, damaged if it is no DICOM and lies where a slice should lie."""
    if one.reason != NOT_DICOM or not may_be_a_slice(one.path, one.kind, neighbours):
        return one
    reason = f"{NOT_DICOM}: {one.kind or 'no known content'}, where a slice may have been"
    return replace(one, reason=reason, damaged=True)


def walk_files(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Every file below, links followed, each folder once, in an order that is the same everywhere.

    Args:
        root: a file or folder.
        skipped: receives the folders that cannot be opened, as damaged.
    """
    if not root.is_dir():
        yield root
        return
    for folder, names in walk_folders(root, skipped):
        yield from (folder / name for name in names)


def walk_folders(root: Path, skipped: list[Skipped]) -> Iterator[tuple[Path, list[str]]]:
    """As :func:`walk_files`: each folder once, with the names of the files in it."""

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename or root)
        skipped.append(Skipped(folder, f"cannot be opened ({error.strerror or error})", damaged=True))

    visited: set[str] = set()
    # Sorted, so that the same folder gives the same answer on every file system.
    for folder, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        yield Path(folder), sorted(names)


def _as_series(headers: list[SliceHeader]) -> SeriesFiles:
    first = headers[0]
    return SeriesFiles(
        uid=first.series_uid,
        description=first.description,
        modality=first.modality,
        image_type=first.image_type,
        rows=first.rows or 0,
        columns=first.columns or 0,
        files=tuple(header.path for header in headers),
        headers=tuple(headers),
    )
