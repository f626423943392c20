"""The database: what was acknowledged is in it before the acknowledgement is sent.

SQLite in WAL mode with ``synchronous=FULL``: a commit is on the disk, or did not happen. One writer at a time, by a
lock within a process and ``BEGIN IMMEDIATE`` between processes; readers never wait.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, Table, create_engine, event, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database import tables
from iscl_monai.service.database.prepared import driver
from iscl_monai.service.database.states import MACHINES, State
from iscl_monai.service.log import log

DATABASE = "node.sqlite"
WAIT_MS = 10_000  # for a lock that another process holds

Row = TypeVar("Row")


@dataclass(frozen=True)
class Move:
    """A row that changed its state.

    Args:
        table: its table.
        row: its id.
        before: the state it left; None for a new row.
        after: the state it is in.
    """

    table: str
    row: int
    before: State | None
    after: State


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

    def read(self, kind: type[Row], statement: Executable) -> list[Row]:
        """Rows, as :meth:`Store.read` gives them."""
        return _read(self.connection, kind, statement)

    def add(self, table: Table, **values: Any) -> int:
        """Insert a row; its id."""
        (row,) = self.connection.execute(insert(table).values(**values)).inserted_primary_key or (0,)
        if "state" in values:
            self._notify(Move(table.name, row, None, values["state"]))
        return int(row)

    def move(self, table: Table, row: int, after: State, *, held_by: str | None = None, **values: Any) -> State:
        """Bring a row into another state.

        Args:
            table: one with a state.
            row: id.
            after: the state.
            held_by: the claim of the worker that does this, which must still hold the job.
            values: other columns to set at once.

        Returns:
            The state it was in.

        Raises:
            NotAllowedNow: there is no such way from the state it is in
                (:data:`iscl_monai.service.database.states.MACHINES`), or another worker has it.
        """
        columns = [column for column in table.columns if column.name in ("state", "claim")]  # others may be unreadable
        found = self.connection.execute(select(*columns).where(table.c.id == row)).mappings().one_or_none()
        before: State | None = found["state"] if found else None
        held = held_by is None or (found is not None and found["claim"] == held_by)
        machine = MACHINES[table.name]
        if before is None or not held or not machine.allows(before, after):
            elsewhere = "" if held else ", with another worker"
            ways = ", ".join(sorted(machine.ways.get(before, ()))) or "nothing, it is an end"
            raise NotAllowedNow(
                f"{table.name} {row} is {before or 'absent'}{elsewhere}, not to become {after}",
                allowed=f"from there: {ways}",
                cure="look at it again: it has changed meanwhile",
            )
        stamp = {"updated_at": now()} if "updated_at" in table.c else {}
        self.connection.execute(update(table).where(table.c.id == row).values(state=after, **stamp, **values))
        self._notify(Move(table.name, row, before, after))
        return before

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that leaves no trace when its block fails; the rest of it goes on.

        Raises:
            sqlite3.OperationalError: SQLite has undone the whole transaction, as it does when the disk is full.
        """
        connection, moves = driver(self.connection), len(self.moves)
        connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            del self.moves[moves:]
            connection.execute("ROLLBACK TO part")  # fails if there is no transaction any more: nothing of it is kept
            connection.execute("RELEASE part")
            raise
        connection.execute("RELEASE part")

    def note(self, who: str, action: str, what: str, detail: str = "") -> None:
        """Add a line to the audit log."""
        self.add(tables.audit, at=now(), who=who[:64], action=action[:64], object=what[:128], detail=detail[:2000])

    def _notify(self, move: Move) -> None:
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
        """Call an observer with every move: once before it is committed (False), and again after that (True)."""
        self._observers.append(observer)

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """A transaction that writes.

        Raises:
            StoreUnavailable: the database is locked by another process for too long, or its disk is full; nothing has
                been changed.
        """
        with self._one_writer:
            try:
                with self._writer.begin() as connection:
                    change = Change(connection, tuple(self._observers))
                    yield change
            except (DatabaseError, sqlite3.Error) as error:
                if not is_about_the_database(error):
                    raise
                raise StoreUnavailable(
                    f"{self.data / DATABASE}: {getattr(error, 'orig', error)}",
                    allowed="a database that can be written",
                    cure="make room on its disk, or end what holds it",
                ) from error
        self._tell_committed(change.moves)

    def _tell_committed(self, moves: list[Move]) -> None:
        """An observer that fails must not make a change look as if it had failed."""
        for move in moves:
            for observer in self._observers:
                with _logged(move):
                    observer(move, True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database, whatever is written meanwhile."""
        try:
            with self._reader.begin() as connection:
                yield connection
        except DatabaseError as error:
            if not is_about_the_database(error):
                raise
            raise StoreUnavailable(
                f"{self.data / DATABASE}: {error.orig}",
                allowed="a database that can be read",
                cure="look at its disk",
            ) from error

    def read(self, kind: type[Row], statement: Executable) -> list[Row]:
        """Rows of a statement as objects.

        Args:
            kind: a dataclass whose fields are the columns that the statement selects, such as those of
                :mod:`iscl_monai.service.database.rows`.
            statement: a selection.
        """
        with self.reading() as connection:
            return _read(connection, kind, statement)

    def tuples(self, statement: Executable) -> list[tuple[Any, ...]]:
        """Rows of a statement as tuples, in the order of its columns; for counts and single columns."""
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def values(self, statement: Executable) -> list[Any]:
        """The first column of a statement."""
        return [row[0] for row in self.tuples(statement)]

    def prove_writable(self) -> None:
        """Write a row, commit it, and read it back on another connection.

        Raises:
            StoreUnavailable: that cannot be done; its text says why.
        """
        token = secrets.token_hex(16)
        with self.writing() as change:
            change.execute(tables.probe.delete())
            change.execute(tables.probe.insert().values(id=1, token=token))
        if self.values(select(tables.probe.c.token)) != [token]:
            raise StoreUnavailable(
                f"{self.data / DATABASE}: what was committed is not there",
                allowed="a database that keeps what is written",
                cure="look at its disk, and at what else uses it",
            )

    def close(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._reader.dispose()


@contextmanager
def _logged(move: Move) -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("store.observer", table=move.table, row=move.row)


def is_about_the_database(error: Exception) -> bool:
    """Whether it is locked, full, read-only or damaged; else it is about one statement, and a fault of ours."""
    return isinstance(error, (OperationalError, sqlite3.OperationalError)) or type(error) in (
        DatabaseError,
        sqlite3.DatabaseError,
    )


def _read(connection: Connection, kind: type[Row], statement: Executable) -> list[Row]:
    return [kind(**row) for row in connection.execute(statement).mappings()]


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
