"""The SQLite file of the ledger: its tables, and how a change becomes durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iscl_monai.errors import OutputRefusal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folders (path BLOB PRIMARY KEY, fingerprint TEXT NOT NULL, series_uids TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS units (fingerprint TEXT PRIMARY KEY, skipped TEXT NOT NULL, damaged TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (key TEXT PRIMARY KEY, series_uid TEXT NOT NULL, unit TEXT NOT NULL,
  title TEXT NOT NULL, slices INTEGER NOT NULL, result BLOB NOT NULL, fingerprint TEXT NOT NULL,
  digest TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'refused')), reason TEXT NOT NULL DEFAULT '',
  unlike TEXT NOT NULL DEFAULT '', tries INTEGER NOT NULL DEFAULT 0,
  wall_s REAL NOT NULL DEFAULT 0, cpu_s REAL NOT NULL DEFAULT 0, result_bytes INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_unit ON series (unit, state);
CREATE INDEX IF NOT EXISTS by_uid ON series (series_uid);
CREATE TABLE IF NOT EXISTS attempts (key TEXT NOT NULL, number INTEGER NOT NULL, worker TEXT NOT NULL,
  began TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (key, number))
  WITHOUT ROWID;
"""


class Database:
    """A file that one process at a time has open.

    Args:
        path: of the file; its folder exists.

    Raises:
        OutputRefusal: another run has it open, it cannot be written, or is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = sqlite3.connect(path, timeout=1, isolation_level=None)
        self._base.row_factory = sqlite3.Row
        try:
            with self._in_one_line():
                self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._base.execute("PRAGMA journal_mode = DELETE")  # WAL wants memory that machines share
                self._base.execute("PRAGMA synchronous = EXTRA")  # flushed, and so is the folder
                self._base.executescript(f"BEGIN EXCLUSIVE;{_SCHEMA}COMMIT;")
        except BaseException:
            self._base.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def flush(self) -> None:
        """Make durable what was not committed at once."""
        if self._base.in_transaction:
            self._execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return self._base.execute(query, values).fetchall()

    def _each(self, query: str, *values: Any) -> Iterator[sqlite3.Row]:
        """The same one by one, for millions; nothing may be changed meanwhile."""
        yield from self._base.execute(query, values)

    def _execute(self, statement: str, *values: Any, **names: Any) -> None:
        with self._in_one_line():
            self._base.execute(statement, names or values)

    @contextmanager
    def _committed(self) -> Iterator[None]:
        self.flush()
        self._execute("BEGIN")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise OutputRefusal(
                    f"{self.path} is open in another run", allowed="one run at a time", cure="wait for it"
                ) from error
            raise OutputRefusal(
                f"{self.path} cannot be written ({error})",
                allowed="a ledger of this program, and space left on the disk",
                cure="make room and give the same command again; what was finished is kept",
            ) from error
