"""What lies in a folder: the CT series that can be read, and everything else with the reason why not."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from iscl_monai.dicom.headers import CT_IMAGE_STORAGE, MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.dicom.other_files import Neighbours, kind_of_other_file, may_be_a_slice
from iscl_monai.errors import DicomRefusal

LOCALIZER = "localizer (scout)"
NOT_DICOM = "not a DICOM file"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
ReadHeader = Callable[[Path], SliceHeader]


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
class Skipped:
    """One file that is not part of any candidate series.

    Attributes:
        path: the file.
        reason: why, in words.
        series_uid: its SeriesInstanceUID, ``""`` when it has none.
        damaged: the file cannot be opened, claims to be DICOM with a broken header, or lies where a slice should lie:
            maybe a lost slice.
        kind: of a file that is no DICOM, what it plainly is (see :mod:`iscl_monai.dicom.other_files`).
        contradictory: it calls itself a CT image and something else, or nothing known: maybe a slice.
    """

    path: Path
    reason: str
    series_uid: str = ""
    damaged: bool = False
    kind: str = ""
    contradictory: bool = False


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
        """The reasons for skipping with the number of files, most frequent first, in one line."""
        counts = Counter(skipped.reason for skipped in self.skipped)
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
    groups: dict[tuple[str, str], list[SliceHeader]] = {}
    skipped: list[Skipped] = []
    multiframe: list[SliceHeader] = []
    for path in walk_files(root, skipped):
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


def select_series(path: Path | str, series_uid: str | None = None, read: ReadHeader = read_header) -> SeriesFiles:
    """The one candidate series under a path, or the one asked for.

    Args:
        path: a file or folder, see :func:`find_series`.
        series_uid: SeriesInstanceUID, needed when there are several candidates.
        read: see :func:`examine`.

    Returns:
        The series; its pixels are not looked at.

    Raises:
        DicomRefusal: no candidate, only multi-frame images, several candidates without a choice, no such UID, or
            damaged DICOM files nearby.
    """
    found = find_series(path, read, series_uid=series_uid)
    for skipped in found.skipped:
        if skipped.damaged:
            raise DicomRefusal(
                skipped.path,
                tag="header",
                found=skipped.reason,
                needed="a DICOM file that can be read to its end",
                cure="it may be a slice of the series: copy it again from the source, or remove it",
            )
    chosen = [one for one in found.series if series_uid is None or one.uid == series_uid]
    if len(chosen) > 1 and series_uid is None:
        chosen = [one for one in chosen if one.image_type[2:3] in ((), ("",), ("AXIAL",))] or chosen
    if len(chosen) == 1:
        return chosen[0]
    for header in found.multiframe:
        if header.series_uid == series_uid or not (found.series or series_uid):
            raise _multiframe_is_no_series(header)
    if not found.series:
        raise DicomRefusal(
            path,
            tag="SeriesInstanceUID",
            found=f"of no axial CT series (skipped: {found.reasons()})",
            needed="one series of single-frame axial CT images",
            cure="give the folder that holds the CT slices",
        )
    listed = "; ".join(f"{one.uid or one.files[0].parent} ({_title(one)})" for one in found.series)
    raise DicomRefusal(
        path,
        tag="SeriesInstanceUID",
        found=f"{series_uid or 'not chosen'} among {len(found.series)}: {listed}",
        needed="exactly one of these series",
        cure="give series_uid=<one of these UIDs>, or the folder or file of one series",
    )


def _multiframe_is_no_series(header: SliceHeader) -> DicomRefusal:
    return DicomRefusal(
        header.path,
        tag="SeriesInstanceUID",
        found=f"of a multi-frame image ({header.sop_class_name}, {header.frames} frames)",
        needed="one series of single-frame axial CT images",
        cure="open it with iscl_monai.dicom.enhanced.open_enhanced, or export it as single-frame CT",
    )


def _title(series: SeriesFiles) -> str:
    return f"{series.description or 'no description'}, {len(series.files)} files"


def walk_files(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Every file below, links followed, each folder once, in an order that is the same everywhere.

    Args:
        root: a file or folder.
        skipped: receives the folders that cannot be opened, as damaged.
    """
    if not root.is_dir():
        yield root
        return

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
        for name in sorted(names):
            yield Path(folder) / name


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


def examine(path: Path, read: ReadHeader = read_header, *, series_uid: str | None = None) -> SliceHeader | Skipped:
    """What one file is: a slice or multi-frame image that may belong to a CT series, or why it is none.

    Args:
        path: whatever lies there.
        read: how to read a header, for who wants more of the file than is in it; raises as :func:`read_header`.
        series_uid: SeriesInstanceUID that somebody asks for; reformations of this one may belong to a series.
    """
    if path.exists() and not path.is_file():
        return Skipped(path, "not a regular file")  # a pipe would wait for ever
    try:
        header = read(path)
    except InvalidDicomError:
        return _not_dicom(path)
    except OSError as error:
        return Skipped(path, f"cannot be opened ({error.strerror or error})", damaged=True)
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        if not _claims_dicom(path):
            return _not_dicom(path)
        return Skipped(path, f"damaged header ({type(error).__name__})", damaged=True)
    if _ends_early(header):
        return Skipped(path, "damaged header (it ends early)", header.series_uid, damaged=True)
    if header.sop_class and not re.fullmatch(r"[0-9.]{1,64}", header.sop_class):
        return Skipped(path, "damaged header (its SOP Class is no UID)", damaged=True)  # nor need other UIDs be its own
    reason = reason_to_skip(header, named=header.series_uid == series_uid)
    if reason:
        return Skipped(path, reason, header.series_uid, contradictory=_contradicts_itself(header))
    return header


def _contradicts_itself(header: SliceHeader) -> bool:
    """Whether a file that is no slice may be one with a damaged element: it says CT image too, or nothing known."""
    if header.sop_class == CT_IMAGE_STORAGE and header.modality in ("CT", ""):
        return header.frames > 1  # else it is a localizer or a reformation
    if not header.series_uid and not header.modality:
        return header.sop_class != MEDIA_STORAGE_DIRECTORY  # every object but an index has both
    known = UID(header.sop_class).type == "SOP Class"
    return not known or CT_IMAGE_STORAGE in (header.sop_class, header.media_sop_class)


def _not_dicom(path: Path) -> Skipped:
    try:
        return Skipped(path, NOT_DICOM, kind=kind_of_other_file(path))
    except OSError as error:
        return Skipped(path, f"cannot be opened ({error.strerror or error})", damaged=True)


def _ends_early(header: SliceHeader) -> bool:
    """A file cut short can parse: pydicom returns what is left, even half a value.

    Such a slice would be skipped as something else, and be missing at the end of the scan unnoticed.
    """
    if header.sop_class == CT_IMAGE_STORAGE or header.sop_class in MULTIFRAME_CT:
        return header.rows is None  # Rows follow whatever decides about skipping
    return not header.modality and UID(header.sop_class).name == header.sop_class


def _claims_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def reason_to_skip(header: SliceHeader, *, named: bool = False) -> str:
    """Why a readable DICOM file is no slice of an axial CT series; ``""`` when it may be one.

    Args:
        header: of the file.
        named: somebody asked for its series by UID; then a reformation may be one, too.
    """
    if header.sop_class == MEDIA_STORAGE_DIRECTORY:
        return "DICOMDIR, an index of other files"
    if header.modality not in ("CT", "") or (not header.modality and header.sop_class != CT_IMAGE_STORAGE):
        return f"Modality {header.modality or 'absent'} ({header.sop_class_name}), not CT"
    if header.sop_class in MULTIFRAME_CT:
        return LOCALIZER if header.flavour == "LOCALIZER" else ""
    if header.frames > 1:
        return f"multi-frame {header.sop_class_name}, not Enhanced CT"
    if header.sop_class not in (CT_IMAGE_STORAGE, ""):
        return f"{header.sop_class_name}, not CT Image Storage"
    if header.flavour == "LOCALIZER":
        return LOCALIZER
    if header.flavour not in ("AXIAL", "") and header.image_type[:1] == ("DERIVED",) and not named:
        return f"ImageType value 3 is {header.flavour}, not AXIAL"
    return ""
