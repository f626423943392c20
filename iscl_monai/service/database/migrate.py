"""Bring the database of a data folder to the form that this version of the program knows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

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
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy.exc import DatabaseError

    path = data / DATABASE
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    head = str(scripts.get_current_head())
    try:
        _check_whole(path)
        present = _revision(path)
        if present == head:
            return head
        if present and present not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreUnavailable(
                f"{path} has the form {present}, which this version does not know",
                allowed=f"up to {head}",
                cure="run the version that made it, or a newer one; going back needs the copy made at the upgrade",
            )
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


def _check_whole(path: Path) -> None:
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise StoreUnavailable(
                f"{path} is damaged ({answer})", allowed="a sound database", cure="restore the backup"
            )


def _revision(path: Path) -> str:
    if not path.exists():
        return ""
    with closing(sqlite3.connect(path)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return str(found[0]) if found else ""


def _copy(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
