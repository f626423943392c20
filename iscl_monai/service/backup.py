"""A copy of what cannot be made again (database, keys, settings), and the way back into an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iscl_monai.durable import check_free, finished_file, sync_folder, whole_folder
from iscl_monai.errors import OutputRefusal, StoreUnavailable
from iscl_monai.service.database.migrate import check_known, check_whole, revision_of
from iscl_monai.service.database.store import DATABASE, now
from iscl_monai.service.search_keys import KEY_FILE as SEARCH_KEY_FILE
from iscl_monai.service.settings_file import read_settings
from iscl_monai.service.web.sessions import KEY_FILE
from iscl_monai.version import __version__

MANIFEST = "backup.json"
SETTINGS = "node.toml"
COPIED = (
    KEY_FILE,
    SEARCH_KEY_FILE,
    DATABASE,
)  # of the data folder; the database last, as with it the folder is one in use


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself.

    Args:
        made_at: UTC.
        software: version that made it.
        revision: of the database.
        sha256: of each file, by name.
    """

    made_at: str
    software: str
    revision: str
    sha256: dict[str, str]


def back_up(data: Path, settings_file: Path, destination: Path) -> Backup:
    """Copy database, keys and settings into a new folder, also while the node runs.

    SQLite copies the database as it is at one moment, whatever is written meanwhile. The folder appears when all is
    there and has been read back.

    Args:
        data: the data folder.
        settings_file: of the node.
        destination: absent, or an empty folder.

    Raises:
        OutputRefusal: there is something at the destination, or it cannot be written.
        StoreUnavailable: the database is absent or damaged.
    """
    database = data / DATABASE
    if not database.is_file():
        raise StoreUnavailable(f"{database} does not exist", allowed="a data folder in use", cure="see `data`")
    with _readable_by_us_alone(), whole_folder(destination) as folder:
        _copy_database(database, folder / DATABASE)
        check_whole(folder / DATABASE, thoroughly=True)
        for name in (KEY_FILE, SEARCH_KEY_FILE):
            if (data / name).exists():
                shutil.copyfile(data / name, folder / name)
        shutil.copyfile(settings_file, folder / SETTINGS)
        digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        made = Backup(now(), __version__, revision_of(folder / DATABASE), digests)
        (folder / MANIFEST).write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
        _flush(folder)
    return made


def restore(backup: Path, settings_file: Path) -> Path:
    """Bring a backup into an empty data folder, after all of it has been checked.

    Args:
        backup: folder made by :func:`back_up`.
        settings_file: of the node; taken from the backup if absent.

    Returns:
        The data folder.

    Raises:
        OutputRefusal: the backup is not whole, or the data folder is not empty.
        StoreUnavailable: its database is damaged, or of a version that this program does not know.
        ConfigRefusal: the settings are none.
    """
    made = read_backup(backup)
    check_whole(backup / DATABASE, thoroughly=True)
    check_known(backup / DATABASE)
    lacks_settings = not settings_file.exists()
    data = read_settings(backup / SETTINGS if lacks_settings else settings_file).data
    check_free(data)
    names = [name for name in COPIED if name in made.sha256]
    with _readable_by_us_alone(), _refused_in_one_line(data):
        data.mkdir(parents=True, exist_ok=True)  # in place: it may be the root of a volume, which cannot be renamed
        for name in names:
            with finished_file(data / name) as unfinished:
                shutil.copyfile(backup / name, unfinished)
        _flush(data)
        _check_digests(data, {name: made.sha256[name] for name in names})
        if lacks_settings:
            shutil.copyfile(backup / SETTINGS, settings_file)
    return data


def read_backup(backup: Path) -> Backup:
    """What a backup says of itself, once its files have been found to be what it says.

    Raises:
        OutputRefusal: it is no backup, or a file is absent or another one.
    """
    try:
        made = Backup(**json.loads((backup / MANIFEST).read_text(encoding="utf-8")))
        names = set(made.sha256)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OutputRefusal(
            f"{backup} is no backup of a node ({type(error).__name__})",
            allowed="a folder made by `iscl-monai node backup`",
            cure="give that folder",
        ) from error
    if not {DATABASE, SETTINGS} <= names <= {*COPIED, SETTINGS}:
        raise OutputRefusal(f"{backup} holds other files", allowed="a whole backup", cure="take another backup")
    _check_digests(backup, made.sha256)
    return made


def _check_digests(folder: Path, digests: dict[str, str]) -> None:
    for name, digest in digests.items():
        path = folder / name
        found = _digest(path) if path.is_file() else "absent"
        if found != digest:
            raise OutputRefusal(
                f"{path} is {found if found == 'absent' else 'not what was written'}",
                allowed="the file whose SHA-256 is in the backup's list",
                cure="take another backup",
            )


def _copy_database(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as opened, closing(_new(target)) as copy:
            opened.backup(copy)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{source}: {error}", allowed="a sound database", cure="look at its disk") from error


def _new(target: Path) -> sqlite3.Connection:
    connection: Any = sqlite3.connect(target)
    connection.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it
    return connection  # type: ignore[no-any-return]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _flush(folder: Path) -> None:
    """Every file is the owner's alone, and on the disk."""
    for path in folder.iterdir():
        path.chmod(0o600)
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(folder)


@contextmanager
def _refused_in_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputRefusal(
            f"{folder}: {error.strerror or error}",
            allowed="a folder that can be written",
            cure="check space and rights",
        ) from error


@contextmanager
def _readable_by_us_alone() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
