"""One file of an archive, reduced to what the table is made of: short, typed, and free of names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from data_prep.archive.facts import MORE_KEYWORDS, Facts, facts_of
from data_prep.archive.pseudonym import Pseudonyms
from iscl_monai.dicom.examine import Skipped, examine
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header_and
from iscl_monai.dicom.pixels import without_warnings

LACKING = "damaged pixels (absent, ending early or of another length)"
_CODED = re.compile(r"(Modality|ImageType value 3 is) (.*?)( \((.*)\))?, not (CT|AXIAL)", re.DOTALL)
_CODE = re.compile(r"[A-Z0-9 _]{1,16}|absent")
_OF_CLASS = re.compile(r"(multi-frame )?(.*), not (CT Image Storage|Enhanced CT)", re.DOTALL)
_CLASSES = frozenset(("unknown object", *(name for name, *_ in UID_dictionary.values())))


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What one file is.

    Attributes:
        path: the file.
        reason: why it belongs to no series; ``""`` when it does.
        damaged: it may be a lost slice.
        kind: of a file that is no DICOM, what it plainly is.
        maybe_of: SeriesInstanceUID of a file that contradicts itself, and may be a slice of that series.
        header: of a slice; patient ID made a pseudonym, description blanked.
        facts: of a slice.
    """

    path: Path
    reason: str = ""
    damaged: bool = False
    kind: str = ""
    maybe_of: str = ""
    header: SliceHeader | None = None
    facts: Facts | None = None

    def key(self) -> bytes | None:
        """What all files of one series have in common and no other file has; None for a skipped file."""
        if self.header is None:
            return None
        kind = b"M" if self.header.sop_class in MULTIFRAME_CT else b"S"
        uid = self.header.series_uid.encode("utf-8", "backslashreplace")
        # Without a UID nothing but the folder says what belongs together.
        return kind + b"U" + uid if uid else blank_key(self.path.parent, kind)

    def to_json(self) -> str:
        """Everything but the path and what serves only reading the file again, in ASCII."""
        if self.header is None or self.facts is None:
            return json.dumps([self.reason, [self.damaged, self.kind, self.maybe_of]])
        header = {name: value for name, value in vars(self.header).items() if name not in ("path", "head")}
        return json.dumps([header, asdict(self.facts)])


def blank_key(folder: Path, kind: bytes = b"S") -> bytes:
    """:meth:`FileRecord.key` of single-frame files without SeriesInstanceUID in a folder."""
    return kind + b"F" + os.fsencode(folder)


class DamagedRecordError(ValueError):
    """A text that :meth:`FileRecord.to_json` has not written."""


def record_from_json(path: Path, text: str) -> FileRecord:
    """The record that was written by :meth:`FileRecord.to_json`.

    Raises:
        DamagedRecordError: when it was not.
    """
    try:
        first, second = json.loads(text)
        if isinstance(first, str):
            damaged, kind, maybe_of = second
            return FileRecord(path, first, damaged, kind, maybe_of)
        header = SliceHeader(path=path, **{name: _tuple(value) for name, value in first.items()})
        return FileRecord(path, header=header, facts=Facts(**second))
    except (AttributeError, TypeError, ValueError) as error:
        raise DamagedRecordError(f"{path}: {error}") from error


def look_at(path: Path, pseudonyms: Pseudonyms) -> FileRecord:
    """Read the header of one file, whatever it is; nothing is raised.

    Args:
        path: the file.
        pseudonyms: what patients are called from here on.
    """
    seen: list[Dataset] = []

    def read(path: Path) -> SliceHeader:
        header, dataset = read_header_and(path, MORE_KEYWORDS)
        seen.append(dataset)
        return header

    with without_warnings():
        found = examine(path, read)
        if isinstance(found, Skipped):
            maybe_of = found.series_uid if found.contradictory else ""
            damaged = found.damaged or (found.contradictory and not maybe_of)
            return FileRecord(path, without_free_text(found.reason), damaged, found.kind, maybe_of)
        if found.lacking_pixels is not None:
            return FileRecord(path, LACKING, damaged=True)
        facts = facts_of(seen[0], found)
    return FileRecord(path, header=_nameless(found, pseudonyms), facts=facts)


def _nameless(header: SliceHeader, pseudonyms: Pseudonyms) -> SliceHeader:
    """Without free text: of elements that hold codes, what is none may be anything that somebody typed."""
    return replace(
        header,
        patient_id=pseudonyms.of(header.patient_id),
        description="",
        body_part="",  # facts say it, in words of our own
        image_type=tuple(value if _CODE.fullmatch(value) else "" for value in header.image_type),
        photometric=header.photometric if header.photometric in ("", "MONOCHROME2") else "another",
        rescale_type=header.rescale_type if header.rescale_type in ("", "HU") else "another",
    )


def look_at_all(paths: Sequence[Path], pseudonyms: Pseudonyms) -> list[tuple[bytes | None, bool, str]]:
    """:func:`look_at` for each path, as key, damaged and JSON: what travels between processes and to the cache."""
    records = [look_at(path, pseudonyms) for path in paths]
    return [(record.key(), record.damaged, record.to_json()) for record in records]


def without_free_text(reason: str) -> str:
    """A reason for skipping that quotes a header's value only where that is a DICOM code."""
    coded, of_class = _CODED.fullmatch(reason), _OF_CLASS.fullmatch(reason)
    if coded:
        known = _CODE.fullmatch(coded[2]) and (not coded[4] or _is_class(coded[4]))
        return reason if known else f"{coded[1]} another one, not {coded[5]}"
    if of_class and not _is_class(of_class[2]):
        return f"another object, not {of_class[3]}"
    return reason


def _is_class(name: str) -> bool:
    return name in _CLASSES or bool(re.fullmatch(r"[0-9.]{1,64}", name))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
