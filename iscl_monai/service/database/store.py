"""The database: what was acknowledged is in it before the acknowledgement leaves the house.

SQLite in WAL mode with ``synchronous=FULL``: a commit is on the disk, or did not happen. One writer at a time, by a
lock within a process and ``BEGIN IMMEDIATE`` between processes; readers never wait.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Executable, Table, create_engine, event, insert, select, update
from sqlalchemy.exc import OperationalError

from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database import tables
from iscl_monai.service.database.states import MACHINES

DATABASE = "node.sqlite"
WAIT_MS = 10_000  # for a lock that another process holds


@dataclass(frozen=True)
class Move:
    """A row that changed its state.

    Args:
        table: its table.
        row: its id.
        before: the state it left; ``""`` for a new row.
        after: the state it is in.
    """

    table: str
    row: int
    before: str
    after: str


Observer = Callable[[Move, bool], None]


def now() -> str:
    """UTC, for people to read; decisions are made by monotonic clocks."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass
class Change:
    """A transaction that writes. It is committed when its block ends well, and else leaves no trace."""

    connection: Connection
    observers: tuple[Observer, ...] = ()
    moves: list[Move] = field(default_factory=list)

    def execute(self, statement: Executable) -> CursorResult[Any]:
        """Run a statement that changes no state; states are :meth:`move`'s."""
        return self.connection.execute(statement)

    def add(self, table: Table, **values: Any) -> int:
        """Insert a row; its id."""
        (row,) = self.connection.execute(insert(table).values(**values)).inserted_primary_key or (0,)
        if "state" in values:
            self._tell(Move(table.name, row, "", values["state"]))
        return int(row)

    def move(self, table: Table, row: int, after: str, *, held_by: str | None = None, **values: Any) -> str:
        """Bring a row into another state.

        Args:
            table: one with a state.
            row: id.
            after: the state.
            held_by: the claim of the worker that asks, which must still hold the job.
            values: other columns to set at once.

        Returns:
            The state it was in.

        Raises:
            NotAllowedNow: there is no such way from the state it is in
                (:data:`iscl_monai.service.database.states.MACHINES`), or another worker has it.
        """
        found = self.connection.execute(select(table).where(table.c.id == row)).mappings().one_or_none()
        before = found["state"] if found else "absent"
        held = held_by is None or (found is not None and found["claim"] == held_by)
        if not held or not MACHINES[table.name].allows(before, after):
            ways = ", ".join(sorted(MACHINES[table.name].ways.get(before, ()))) or "nothing, it is an end"
            raise NotAllowedNow(
                f"{table.name} {row} is {before}{'' if held else ', with another worker'}, not to become {after}",
                allowed=f"from there: {ways}",
                cure="look at it again: it has changed meanwhile",
            )
        stamp = {"updated_at": now()} if "updated_at" in table.c else {}
        self.connection.execute(update(table).where(table.c.id == row).values(state=after, **stamp, **values))
        self._tell(Move(table.name, row, before, after))
        return str(before)

    def note(self, who: str, action: str, what: str, detail: str = "") -> None:
        """Add a line to the audit log."""
        self.add(tables.audit, at=now(), who=who[:64], action=action[:64], object=what[:128], detail=detail[:2000])

    def _tell(self, move: Move) -> None:
        self.moves.append(move)
        for observer in self.observers:
            observer(move, False)


class Store:
    """The database of a data folder, which has been migrated already (:mod:`iscl_monai.service.database.migrate`).

    Args:
        data: the folder.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._writer = engine(data / DATABASE, "BEGIN IMMEDIATE")
        self._reader = engine(data / DATABASE, "BEGIN")
        self._one_writer = threading.Lock()
        self._observers: list[Observer] = []

    def observe(self, observer: Observer) -> None:
        """Have every move told: once before it is committed (False), and again after that (True)."""
        self._observers.append(observer)

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """A transaction that writes.

        Raises:
            StoreUnavailable: the database is locked by somebody else for too long, or its disk is full; nothing has
                been changed.
        """
        with self._one_writer:
            try:
                with self._writer.begin() as connection:
                    change = Change(connection, tuple(self._observers))
                    yield change
            except OperationalError as error:
                raise StoreUnavailable(
                    f"{self.data / DATABASE}: {error.orig}",
                    allowed="a database that can be written",
                    cure="make room on its disk, or end what holds it",
                ) from error
        for move in change.moves:
            for observer in self._observers:
                observer(move, True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database, whatever is written meanwhile."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except OperationalError as error:
            raise StoreUnavailable(
                f"{self.data / DATABASE}: {error.orig}",
                allowed="a database that can be read",
                cure="look at its disk",
            ) from error

    def rows(self, statement: Executable) -> list[Mapping[str, Any]]:
        """All rows of a question."""
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def close(self) -> None:
        """Let go of the files."""
        self._writer.dispose()
        self._reader.dispose()


def engine(path: Path, begin: str) -> Engine:
    """Connections to a database file, durable as this module says.

    Args:
        path: the file; made if absent.
        begin: how transactions begin: ``BEGIN IMMEDIATE`` to write, ``BEGIN`` to read.
    """
    made = create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT_MS / 1000})

    @event.listens_for(made, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={WAIT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(made, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return made
