"""Files that a crash leaves behind, brought into line with the database before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import instances
from iscl_monai.service.log import log
from iscl_monai.service.receiving.intake import COMING
from iscl_monai.service.receiving.source_folders import SOURCES, file_prefix

MOST_UNCLAIMED = (
    1000  # a crash leaves one for each object that was just coming in; more of them: this is another database
)


@dataclass(frozen=True)
class FilesFound:
    """What was found.

    Args:
        unfinished: files that had not come in whole; removed.
        unclaimed: files without a row, never acknowledged; removed, unless there are implausibly many.
        kept: files without a row that were left alone, since there are so many.
        missing: rows whose file is gone.
        damaged: rows whose file has another size than it had.
    """

    unfinished: int = 0
    unclaimed: int = 0
    kept: int = 0
    missing: int = 0
    damaged: int = 0


@dataclass(frozen=True)
class _StoredFile:
    """The columns of ``instances`` that are compared with the disk."""

    id: int
    file: str
    size: int


def recover_files(store: Store, data: Path) -> FilesFound:
    """Bring the files of a data folder into line with its database. Nothing else may use them meanwhile.

    Args:
        store: the database.
        data: the folder.

    Returns:
        How many of each kind were found.

    Raises:
        StoreUnavailable: the database cannot be read or written.
    """
    unfinished = list(_files(data / COMING))
    for path in unfinished:
        _remove_file(path)
    columns = select(instances.c.id, instances.c.file, instances.c.size)  # of all files: there may be millions
    rows = store.read(_StoredFile, columns.where(instances.c.file.is_not(None)))
    sizes = dict(_sizes(data))
    claimed = {row.file for row in rows}
    removed = select(instances.c.sop_instance_uid).where(instances.c.file.is_(None))
    forgotten = {file_prefix(uid) for uid in store.values(removed)}
    unclaimed = []
    for name in sizes.keys() - claimed:
        if Path(name).name.partition("-")[0] in forgotten:  # a removal that was interrupted, of however many
            _remove(data / name)
        else:
            unclaimed.append(name)
    plausible = len(unclaimed) <= MOST_UNCLAIMED
    if plausible:
        for name in unclaimed:
            _remove(data / name)
    missing = [row for row in rows if row.file not in sizes]
    damaged = [row for row in rows if sizes.get(row.file, row.size) != row.size]
    found = FilesFound(
        len(unfinished),
        len(unclaimed) if plausible else 0,
        0 if plausible else len(unclaimed),
        len(missing),
        len(damaged),
    )
    _report(store, found, [(row, "missing") for row in missing] + [(row, "of another size") for row in damaged])
    return found


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield Path(root) / name


def _sizes(data: Path) -> Iterator[tuple[str, int]]:
    for path in _files(data / SOURCES):
        size = _size(path)
        if size is not None:
            yield str(path.relative_to(data)), size


def _size(path: Path) -> int | None:
    """Bytes of a file; None for a link that leads nowhere, or a disk that cannot read: to a row it is missing then."""
    try:
        return path.stat().st_size
    except OSError as error:
        log.error("recovery.unreadable", file=path.name, reason=error.strerror)
        return None


def _remove_file(path: Path) -> None:
    """Remove a file; one that cannot be removed does no harm, and keeps the node from starting no more than others."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.error("recovery.not_removed", file=path.name, reason=error.strerror)


def _remove(path: Path) -> None:
    _remove_file(path)
    with suppress(OSError):
        path.parent.rmdir()  # if it was the only one


def _report(store: Store, found: FilesFound, lost: list[tuple[_StoredFile, str]]) -> None:
    log.info("recovery.files", **vars(found))
    if not lost and not found.kept:
        return
    with store.writing() as change:
        for row, how in lost:
            change.note("node", "file lost", f"instance {row.id}", f"{row.file} is {how}")
        if found.kept:
            detail = f"{found.kept} files below {SOURCES} are not in the database; is it an older copy? They are left"
            change.note("node", "files unclaimed", SOURCES, detail)
    for row, how in lost:
        log.error("recovery.file_lost", instance=row.id, how=how)
    if found.kept:
        log.error("recovery.unclaimed", files=found.kept)
