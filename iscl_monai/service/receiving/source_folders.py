"""Where received objects lie: a folder for each series, whose names are digests, as no UID becomes part of a path."""

from __future__ import annotations

import hashlib
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from iscl_monai.durable import sync_folder

SOURCES = "sources"


class SourceFolders:
    """The folders of series below a data folder.

    Args:
        data: the data folder.
    """

    def __init__(self, data: Path) -> None:
        self.root = data / SOURCES
        self.root.mkdir(exist_ok=True)
        sync_folder(self.root)  # a process that died may have made folders whose names are not on the disk yet
        self._made = 0
        self._not_durable: dict[Path, int] = {}  # made, and not on the disk yet as far as is known: how many-th it was
        self._lock = threading.Lock()

    def move_in(self, part: Path, series: tuple[str, str], sop_instance_uid: str) -> Path:
        """Move a complete file to its place; a token in its name keeps two senders of one object apart.

        Args:
            part: the file.
            series: Study and Series Instance UID.
            sop_instance_uid: of the object.

        Returns:
            Where it is now, which is durable after :meth:`sync`.

        Raises:
            OSError: it could not be moved.
        """
        folder = self.root / _short_digest("|".join(series))
        path = folder / f"{file_prefix(sop_instance_uid)}-{secrets.token_hex(4)}.dcm"
        self._make(folder)
        try:
            part.rename(path)
        except FileNotFoundError:  # retention has just removed the folder, which was empty
            self._make(folder)
            part.rename(path)
        return path

    def sync(self, folder: Path) -> None:
        """Make the names in a series' folder durable, and the folder's own."""
        sync_folder(folder)
        with self._lock:
            made = self._not_durable.get(folder)
        if made is not None:
            sync_folder(self.root)
            with self._lock:
                if self._not_durable.get(folder) == made:  # else it was removed and made again meanwhile
                    del self._not_durable[folder]

    def _make(self, folder: Path) -> None:
        with self._lock, suppress(FileExistsError):  # nobody finds a new folder before it is known as one
            folder.mkdir()
            self._made += 1
            self._not_durable[folder] = self._made


def file_prefix(sop_instance_uid: str) -> str:
    """What the names of an object's files begin with."""
    return _short_digest(sop_instance_uid)


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
