"""What was read of an archive so far, on disk: a scan that was ended goes on from there.

A million headers are kept here and not in memory; series are then taken out one after the other.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.archive.record import DamagedRecordError, FileRecord, record_from_json
from iscl_monai.errors import OutputRefusal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, key BLOB,
  damaged INTEGER NOT NULL, record TEXT NOT NULL, run INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_key ON files (key, path);
CREATE TABLE IF NOT EXISTS measured (mark BLOB PRIMARY KEY, result TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from a changed one.

    Attributes:
        path: the file.
        size: in bytes, -1 when it cannot be asked.
        mtime_ns: when it was changed, in ns.
    """

    path: Path
    size: int
    mtime_ns: int


Read = tuple[FileState, "tuple[bytes | None, bool, str]"]


class Store:
    """The cache of one folder of results; one scan at a time may have it open.

    Args:
        path: of the database, in a folder that exists.
        mark: of everything that records depend on beside the files; a cache with another mark is emptied.

    Raises:
        OutputRefusal: when another scan has it open, or the disk is full.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        try:
            self._open(mark)
        except sqlite3.OperationalError as error:
            raise store_refusal(path, error) from error
        except sqlite3.DatabaseError:  # no database at all: it is a cache, and can be made again
            path.unlink()
            self._open(mark)

    def _open(self, mark: str) -> None:
        self._base = sqlite3.connect(self._path, timeout=1)
        self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._base.executescript("BEGIN EXCLUSIVE;" + _SCHEMA + "COMMIT;")
        if self._base.execute("SELECT mark FROM settings").fetchall() != [(mark,)]:
            for table in ("settings", "files", "measured"):
                self._base.execute(f"DELETE FROM {table}")
            self._base.execute("INSERT INTO settings VALUES (?)", (mark,))
        self._run = self._base.execute("SELECT coalesce(max(run), 0) + 1 FROM files").fetchone()[0]
        self._base.commit()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def unread(self, states: Sequence[FileState]) -> list[FileState]:
        """Those that have to be read; the others are marked as present.

        Damaged files are among them: what could not be opened may be open now, without any change to the file.
        """
        known = "UPDATE files SET run = ? WHERE path = ? AND size = ? AND mtime_ns = ? AND damaged = 0 AND size >= 0"
        missing = []
        for state in states:
            values = (self._run, os.fsencode(state.path), state.size, state.mtime_ns)
            if not self._base.execute(known, values).rowcount:
                missing.append(state)
        return missing

    def add(self, read: Iterable[Read]) -> None:
        """Keep what was read, for good."""
        self._base.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (os.fsencode(state.path), state.size, state.mtime_ns, key, damaged, text, self._run)
                for state, (key, damaged, text) in read
            ),
        )
        self._base.commit()

    def forget_absent(self) -> None:
        """Drop files that this run has not met."""
        self._base.execute("DELETE FROM files WHERE run != ?", (self._run,))
        self._base.commit()

    def series(self) -> Iterator[tuple[list[FileRecord], list[FileState]]]:
        """The records of one series after the other, with the states of their files; series by key, files by path."""
        found = self._base.execute(
            "SELECT key, path, size, mtime_ns, record FROM files WHERE key IS NOT NULL ORDER BY key, path"
        )
        for _, group in itertools.groupby(found, key=lambda line: line[0]):
            records, states = [], []
            for _, raw, size, mtime_ns, text in group:
                path = Path(os.fsdecode(raw))
                records.append(record_from_json(path, text))
                states.append(FileState(path, size, mtime_ns))
            yield records, states

    def skipped(self) -> Iterator[FileRecord]:
        """Files of no series, by path."""
        for raw, text in self._base.execute("SELECT path, record FROM files WHERE key IS NULL ORDER BY path"):
            yield record_from_json(Path(os.fsdecode(raw)), text)

    def slices_in(self, folder: Path) -> list[Path]:
        """CT images right in a folder, not below it."""
        inside = os.path.join(os.fsencode(folder), b"")
        found = self._base.execute(
            "SELECT path FROM files WHERE path > ? AND path < ? AND key IS NOT NULL", (inside, inside[:-1] + b"0")
        )
        return [Path(os.fsdecode(raw)) for (raw,) in found if b"/" not in raw[len(inside) :]]

    def drop_damaged(self) -> int:
        """Forget records that cannot be understood, so that their files are read again; how many there were."""
        every = self._base.execute("SELECT path, record FROM files")
        damaged = [(raw,) for raw, text in every if not _understood(text)]
        self._base.executemany("DELETE FROM files WHERE path = ?", damaged)
        self._base.commit()
        return len(damaged)

    def count_key(self, key: bytes) -> int:
        """How many files have a key."""
        return int(self._base.execute("SELECT count(*) FROM files WHERE key = ?", (key,)).fetchone()[0])

    def count_others(self, folder: Path, key: bytes) -> int:
        """How many single-frame CT images below a folder have another key than this one."""
        below = os.path.join(os.fsencode(folder), b"")
        # b"0" follows b"/": all paths below lie between them.
        counted = "SELECT count(*) FROM files WHERE path > ? AND path < ? AND key >= ? AND key != ?"
        return int(self._base.execute(counted, (below, below[:-1] + b"0", b"S", key)).fetchone()[0])

    def count(self) -> int:
        """How many files are known."""
        return int(self._base.execute("SELECT count(*) FROM files").fetchone()[0])

    def measured(self, mark: bytes) -> str | None:
        """What :meth:`keep_measured` got for the same mark."""
        found = self._base.execute("SELECT result FROM measured WHERE mark = ?", (mark,)).fetchone()
        return None if found is None else str(found[0])

    def keep_measured(self, mark: bytes, result: str) -> None:
        """Keep a measurement, for good."""
        self._base.execute("INSERT OR REPLACE INTO measured VALUES (?, ?)", (mark, result))
        self._base.commit()


_NO_SPACE_BYTES = 1 << 16


def _understood(text: str) -> bool:
    try:
        record_from_json(Path(), text)
    except DamagedRecordError:
        return False
    return True


def store_refusal(path: Path, error: sqlite3.Error) -> OutputRefusal:
    """What sqlite says about the cache, in one line.

    Args:
        path: of the database.
        error: raised by sqlite.
    """
    message = str(error)  # error codes are known from Python 3.11 on
    try:  # a full disk may also be told as an input or output error
        full = "is full" in message or shutil.disk_usage(path.parent).free < _NO_SPACE_BYTES
    except OSError:
        full = False
    if "locked" in message:
        return OutputRefusal(
            f"{path} cannot be opened ({error})", allowed="one scan at a time", cure="wait for the other one to end"
        )
    if full:
        return no_space(path.parent, error)
    if "malformed" in message or "not a database" in message:
        return OutputRefusal(f"{path} is damaged ({error})", allowed="a whole cache", cure="remove it, and scan again")
    return OutputRefusal(
        f"{path} cannot be used ({error})", allowed="a folder on a local disk to write in", cure="give another folder"
    )


def no_space(folder: Path, error: Exception) -> OutputRefusal:
    """A full disk, in one line."""
    return OutputRefusal(
        f"no space left for {folder} ({' '.join(str(error).split())})",
        allowed="a disk with room for the results",
        cure="make room and give the same command again: it goes on where it was",
    )
