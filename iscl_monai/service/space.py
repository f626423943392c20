"""Space on the disk: objects are refused before it is full, and taken again only when there is enough."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from iscl_monai.service.settings import Disk

MB = 2**20


class Space:
    """Watches the disk of a folder.

    Args:
        folder: exists.
        limits: see :class:`iscl_monai.service.settings.Disk`.
    """

    def __init__(self, folder: Path, limits: Disk) -> None:
        self.folder = folder
        self.limits = limits
        self._full = False
        self._lock = threading.Lock()

    @property
    def free_bytes(self) -> int:
        """Free for us, now."""
        return shutil.disk_usage(self.folder).free

    def no_room_reason(self, coming_bytes: int = 0) -> str:
        """Why so many bytes cannot be stored; ``""`` when they can.

        Once the reserve has been reached, nothing is taken until ``resume_mb`` are free: a disk that is nearly full
        shall not take one half of each series.
        """
        free = self.free_bytes - coming_bytes
        with self._lock:
            self._full = free < (self.limits.resume_mb if self._full else self.limits.reserve_mb) * MB
            if not self._full:
                return ""
        return f"{free // MB} MB would be left on the disk, {self.limits.reserve_mb} MB are kept free"
