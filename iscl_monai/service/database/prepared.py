"""Statements that are compiled once, and run by the driver itself: for the few that run for every object that comes in.

SQLAlchemy takes more than a hundred times as long as SQLite to run one of them. The driver keeps them prepared.
"""

from __future__ import annotations

import sqlite3
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

DIALECT = SQLiteDialect_pysqlite(paramstyle="qmark")

Row = TypeVar("Row")


class Prepared:
    """A statement of the tables, with parameters by name (``bindparam``).

    Args:
        statement: whose parameters and columns are texts and integers, which the driver takes as they are.

    Raises:
        TypeError: one of its parameters would have to be converted.
    """

    def __init__(self, statement: ClauseElement) -> None:
        compiled = cast(SQLCompiler, statement.compile(dialect=DIALECT))
        self.text = str(compiled)
        self._parameters = tuple(compiled.positiontup or ())
        self._columns = tuple(str(column[0]) for column in compiled._result_columns)
        for name, parameter in compiled.binds.items():
            if parameter.type.dialect_impl(DIALECT).bind_processor(DIALECT) is not None:
                raise TypeError(f"{name} is {parameter.type!r}, which the driver cannot take as it is")

    def run(self, connection: Connection, **values: Any) -> sqlite3.Cursor:
        """Run it within the transaction of a connection.

        Raises:
            sqlite3.Error: as the driver raises it.
        """
        return driver(connection).execute(self.text, [values[name] for name in self._parameters])

    def read(self, connection: Connection, kind: type[Row], **values: Any) -> list[Row]:
        """Its rows, as :meth:`iscl_monai.service.database.store.Store.read` gives them."""
        return [kind(**dict(zip(self._columns, row, strict=True))) for row in self.run(connection, **values)]


def driver(connection: Connection) -> sqlite3.Connection:
    """The driver's connection below one of SQLAlchemy's."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)
