"""Every header of an archive, read once, by several processes, and kept for the next time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from data_prep.archive.pool import spread
from data_prep.archive.pseudonym import Pseudonyms
from data_prep.archive.record import FileRecord, look_at_all
from data_prep.archive.store import FileState, Store
from iscl_monai.dicom.examine import Skipped
from iscl_monai.dicom.find import walk_files
from iscl_monai.errors import OutputRefusal

CHUNK = 100
CRASHED = FileRecord(Path(), "reading it ended the process", damaged=True)


def read_archive(
    archive: Path,
    store: Store,
    *,
    pseudonyms: Pseudonyms,
    workers: int = 1,
    avoid: Path | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Bring a store up to date with an archive. Time is linear in the number of files, memory does not grow with it.

    Args:
        archive: a folder.
        store: gets one record for each file; those of files that are gone are dropped.
        pseudonyms: what patients are called.
        workers: processes that read.
        avoid: the folder of results, which no link in the archive may lead to.
        progress: called with the number of files done since the last call.

    Raises:
        OutputRefusal: when a link leads to ``avoid``.
    """
    unopened: list[Skipped] = []

    chunks = _unread(_outside(walk_files(archive, unopened), avoid), store, progress)
    for chunk, found in spread(partial(_look, pseudonyms=pseudonyms), chunks, workers):
        # One of a chunk was too much for its process; nobody knows which.
        each = found or [
            one[0] if one else _line(CRASHED)
            for _, one in spread(partial(_look, pseudonyms=pseudonyms), [[state] for state in chunk], workers)
        ]
        store.add(zip(chunk, each, strict=True))
        progress(len(chunk))
    folders = [FileRecord(skipped.path, skipped.reason, damaged=True) for skipped in unopened]
    store.add((FileState(record.path, -1, 0), _line(record)) for record in folders)
    store.forget_absent()


def _unread(paths: Iterator[Path], store: Store, progress: Callable[[int], object]) -> Iterator[list[FileState]]:
    """Files that the store does not know, in chunks; the others are done already."""
    states = map(_state, paths)
    while chunk := list(itertools.islice(states, CHUNK)):
        unread = store.unread(chunk)
        progress(len(chunk) - len(unread))
        if unread:
            yield unread


def _look(states: list[FileState], pseudonyms: Pseudonyms) -> list[tuple[bytes | None, bool, str]]:
    return look_at_all([state.path for state in states], pseudonyms)


def _line(record: FileRecord) -> tuple[bytes | None, bool, str]:
    return record.key(), record.damaged, record.to_json()


def _state(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:
        return FileState(path, -1, 0)
    return FileState(path, found.st_size, found.st_mtime_ns)


def _outside(paths: Iterator[Path], avoid: Path | None) -> Iterator[Path]:
    """The same paths, with one look at each folder: a scan that read its own results would never settle."""
    seen = None
    forbidden = None if avoid is None else os.path.realpath(avoid)
    for path in paths:
        if path.parent != seen:
            seen = path.parent
            if forbidden is not None and Path(os.path.realpath(seen)).is_relative_to(forbidden):
                raise OutputRefusal(
                    f"{seen} in the archive leads to the results in {avoid}",
                    allowed="results outside of the archive",
                    cure="give another folder for the results, or remove the link",
                )
        yield path
