"""What a run is trained on: every scan by its place, its settings and the content of its files.

Names alone would take other data under the same names for the same run. Dates are no identity: a copy has new ones.
So every byte of every file is read; the training reads the same files next, then mostly from memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from iscl_monai.data.scan import OF_MICROGRAPHS, Entry

Identity = Mapping[str, Sequence[Mapping[str, Any]]]
"""Section -> scans in their order -> settings and files of each; plain values that JSON and a checkpoint can hold."""

TRAINED_ON = ("noisy", "clean", "validation")
"""Sections that decide weights: validation chooses which are kept, and the blend. ``test`` decides nothing."""
NOTES = ("dose", "kernel", "reconstruction")
"""Keys of a scan or pair that no training reads."""
SERIES_OF = {
    "image": "series_uid",
    "reference": "reference_series_uid",
    "noisy": "noisy_series_uid",
    "clean": "clean_series_uid",
    "truth": "truth_series_uid",
}
"""Which key of an entry says the series of a folder."""
BLOCK = 2**20


def identity_of(scans: Mapping[str, Sequence[Entry]], *, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything that a run on a datalist depends on.

    Args:
        scans: the entries of each section of ``TRAINED_ON``; their paths are absolute.
        folder: of the datalist. Paths count relative to it: it may be moved as a whole.

    Raises:
        OSError: a file that cannot be read.
    """
    paths = {value for rows in scans.values() for entry in rows for value in vars(entry).values()}
    files = {path: _files(path) for path in paths if isinstance(path, Path)}
    return {section: [_entry(entry, folder, files) for entry in rows] for section, rows in scans.items()}


def digest_of(identity: Identity) -> str:
    """16 hexadecimal digits that tell one identity from another."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _entry(entry: Entry, folder: Path, files: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for field in fields(entry):
        value = getattr(entry, field.name)
        if isinstance(value, Path):
            described[field.name] = {"path": Path(os.path.relpath(value, folder)).as_posix(), **files[value]}
        elif field.name not in NOTES and not (value is None and field.name in OF_MICROGRAPHS):
            described[field.name] = list(value) if isinstance(value, tuple) else value
    return described


def _files(path: Path) -> dict[str, Any]:
    """Number, size and content of the files at a path; a folder counts with everything below it."""
    found = list(_below(path))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing and reading let other threads run
        contents = list(threads.map(_content, (file for _, file in found)))
    whole = hashlib.sha256()
    for (name, _), (size, content) in zip(found, contents, strict=True):
        whole.update(json.dumps([name, size, content]).encode())
    return {"files": len(found), "bytes": sum(size for size, _ in contents), "sha256": whole.hexdigest()}


def _below(path: Path) -> Iterator[tuple[str, Path]]:
    """Each file's name as seen from the path, and where it is; in the order in which a series is looked for."""
    from iscl_monai.dicom.find import walk_files  # pydicom, which training on NIfTI does without

    for file in walk_files(path, []):
        yield file.relative_to(path).as_posix(), file


def _content(file: Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(BLOCK):
            size += len(block)
            digest.update(block)
    return size, digest.hexdigest()


class Shown(NamedTuple):
    """A scan, and where it stands.

    Attributes:
        section: of the datalist.
        patient: as there.
        path: likewise.
        series_uid: which DICOM series of the folder; None: the only one.
        content: what says that two are the same files.
    """

    section: str
    patient: str
    path: str
    series_uid: str | None
    content: str

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.path} of {self.patient!r} in {self.section!r}"

    def copies(self, other: Shown) -> bool:
        """Whether two of the same files are a leak: a folder may hold series of several patients."""
        series = {self.series_uid, other.series_uid} - {None}
        return self.section != other.section and self.patient != other.patient and len(series) < 2


def first_copy(scans: Iterable[Shown]) -> str:
    """The first scan of one section that another one has under another patient's name, in words; empty if none is."""
    seen: dict[str, list[Shown]] = {}
    for here in scans:
        same = seen.setdefault(here.content, [])
        for there in same:
            if here.copies(there):
                return f"{there.words} is {here.words}"
        same.append(here)
    return ""


def by_place(scans: Mapping[str, Sequence[Entry]], *, folder: Path) -> Iterator[Shown]:
    """Every scan, known by where it lies, links followed; nothing is read."""
    real: dict[Path, str] = {}
    for section, entries in scans.items():
        for entry in entries:
            values = vars(entry)
            for key, series in SERIES_OF.items():
                path = values.get(key)
                if path is not None:
                    place = real.get(path) or real.setdefault(path, os.path.realpath(path))
                    shown = Path(os.path.relpath(path, folder)).as_posix()
                    yield Shown(section, entry.patient, shown, values.get(series), place)


def by_content(identity: Identity) -> Iterator[Shown]:
    """Every scan, known by the bytes of its files; empty ones are none."""
    for section, rows in identity.items():
        for entry in rows:
            for key, series in SERIES_OF.items():
                files = entry.get(key)
                if files is not None and files["bytes"]:
                    yield Shown(section, str(entry["patient"]), files["path"], entry.get(series), files["sha256"])


def first_change(before: Identity, now: Identity) -> str:
    """The first difference between two identities in words; empty if there is none."""
    for section in TRAINED_ON:
        old, new = before.get(section, ()), now.get(section, ())
        if list(old) != list(new):
            return _section_change(section, old, new)
    return ""


def _section_change(section: str, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    before, now = ([_path(entry) for entry in rows] for rows in (old, new))
    for path in before:
        if before.count(path) > now.count(path):
            return f"{section} scan {path} is gone"
    for path in now:
        if now.count(path) > before.count(path):
            return f"{section} scan {path} is new"
    if before != now:
        return f"the {section} scans stand in another order"
    path, one, other = next((_path(a), a, b) for a, b in zip(old, new, strict=True) if a != b)
    key = next(key for key in (*one, *other) if one.get(key) != other.get(key))
    return f"{section} scan {path}: {_value_change(key, one.get(key), other.get(key))}"


def _path(entry: Mapping[str, Any]) -> str:
    """The path that a person knows the scan by, the first of its keys."""
    return str(next(value["path"] for value in entry.values() if isinstance(value, Mapping)))


def _value_change(key: str, before: Any, now: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        before, now = (value["path"] if isinstance(value, Mapping) else value for value in (before, now))
        return f"{key} was {before}, now it is {now}"
    if before["path"] != now["path"]:
        return f"{key} was {before['path']}, now it is {now['path']}"
    sizes = [f"{value['files']} files of {value['bytes']} bytes" for value in (before, now)]
    if sizes[0] != sizes[1]:
        return f"{key} had {sizes[0]}, now it has {sizes[1]}"
    return f"{key} has the same names and sizes, but another content"
