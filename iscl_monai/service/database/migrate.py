"""Bring the database of a data folder to the form that this version of the program knows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import DATABASE, engine

MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(data: Path) -> str:
    """Create or upgrade the database; what was there is copied first.

    Args:
        data: the data folder; exists.

    Returns:
        The revision it has now.

    Raises:
        StoreUnavailable: it was made by a newer version, is damaged or cannot be written.
    """
    from alembic import command
    from sqlalchemy.exc import DatabaseError

    path = data / DATABASE
    config, scripts = _scripts()
    head = str(scripts.get_current_head())
    try:
        check_whole(path)
        present = revision_of(path)
        if present == head:
            return head
        if present:
            check_known(path)
        if present:
            _copy(path, path.with_name(f"{path.name}.before-{head}"))
        opened = engine(path, "BEGIN IMMEDIATE")  # so that tables are made all together or not at all
        with opened.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        opened.dispose()
        with closing(sqlite3.connect(path)) as database:
            # Once: the mode stays in the file, and setting it later would wait for writers.
            database.execute("PRAGMA journal_mode=WAL")
    except (DatabaseError, sqlite3.Error) as error:
        raise StoreUnavailable(
            f"{path}: {error}", allowed="a sound database", cure="restore the backup (docs/how-to/pacs.md)"
        ) from error
    return head


def check_known(path: Path) -> None:
    """Refuse a database that this version of the program does not know.

    Raises:
        StoreUnavailable: it was made by a newer version, or by none.
    """
    _, scripts = _scripts()
    present = revision_of(path)
    if present not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreUnavailable(
            f"{path} has the form {present or 'of no version'}, which this version does not know",
            allowed=f"up to {scripts.get_current_head()}",
            cure="run the version that made it, or a newer one; going back needs the copy made at the upgrade",
        )


def check_whole(path: Path, *, thoroughly: bool = False) -> None:
    """Refuse a database that is damaged; one that is absent is let pass.

    Args:
        path: the file.
        thoroughly: also whether every index fits its table, which takes a while.

    Raises:
        StoreUnavailable: SQLite finds a fault in it.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as connection:
            check = "integrity_check" if thoroughly else "quick_check"
            (answer,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer != "ok":
        raise StoreUnavailable(f"{path} is damaged ({answer})", allowed="a sound database", cure="restore the backup")


def revision_of(path: Path) -> str:
    """The revision of a database; "" if it is absent, or has none."""
    if not path.exists():
        return ""
    with closing(sqlite3.connect(path)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return str(found[0]) if found else ""


def _scripts() -> tuple[Any, Any]:
    """Alembic's configuration and scripts."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config, ScriptDirectory.from_config(config)


def _copy(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
