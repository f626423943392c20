"""Folders that have to be looked at together: those that share a series.

A series may lie in several folders, and what makes it incomplete beside it or elsewhere. Folders that no series joins
are planned apart, with the same answer as all at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.batch.prints import fingerprint_of
from iscl_monai.dicom.examine import Skipped, examine


@dataclass(frozen=True)
class Folder:
    """A folder whose files have been looked at, those below it left out.

    Attributes:
        path: of the folder.
        fingerprint: of its files (:func:`iscl_monai.batch.prints.fingerprint_of`).
        series_uids: of its CT images, and of damaged files that may be slices.
    """

    path: Path
    fingerprint: str
    series_uids: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """Folders that share series, and are planned together.

    Attributes:
        folders: sorted.
        fingerprint: changes with each file in them, and with their number.
        series_uids: of all of them.
    """

    folders: tuple[Path, ...]
    fingerprint: str
    series_uids: tuple[str, ...]


def files_of(folder: Path) -> list[Path]:
    """Whatever lies right in a folder and is no folder, by name."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.is_dir())


def look_at(path: Path, known: Folder | None = None) -> Folder:
    """Read the headers of a folder's files, unless they are as they were.

    Args:
        path: of the folder.
        known: what was seen there before.
    """
    files = files_of(path)
    fingerprint = fingerprint_of(files)
    if known is not None and known.fingerprint == fingerprint:
        return known
    uids = set()
    for file in files:
        seen = examine(file)
        if not isinstance(seen, Skipped) or seen.damaged or seen.contradictory:
            uids.add(seen.series_uid)
    return Folder(path, fingerprint, tuple(sorted(uids - {""})))


def units_of(folders: Iterable[Folder]) -> list[Unit]:
    """Join folders that share a series, directly or through others.

    Args:
        folders: each once.
    """
    groups: dict[int, list[Folder]] = {}
    group_of: dict[str, int] = {}
    for number, folder in enumerate(sorted(folders, key=lambda one: one.path)):
        joined = {group_of[uid] for uid in folder.series_uids if uid in group_of}
        largest = max(joined, key=lambda one: len(groups[one]), default=number)
        members = groups.setdefault(largest, [])
        for other in joined - {largest}:
            members += groups.pop(other)
        members.append(folder)
        changed = members if len(joined) > 1 else [folder]
        group_of.update((uid, largest) for one in changed for uid in one.series_uids)
    return sorted(map(_unit, groups.values()), key=lambda unit: unit.folders)


def _unit(members: Sequence[Folder]) -> Unit:
    ordered = sorted(members, key=lambda one: one.path)
    digest = hashlib.sha256()
    for one in ordered:
        digest.update(os.fsencode(one.path) + b"\0" + one.fingerprint.encode())
    uids = sorted({uid for one in ordered for uid in one.series_uids})
    return Unit(tuple(one.path for one in ordered), digest.hexdigest(), tuple(uids))
