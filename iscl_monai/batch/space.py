"""Room on the disk of results: nothing is handed out that would not fit beside what is under way."""

from __future__ import annotations

import shutil
from pathlib import Path

from iscl_monai.errors import OutputRefusal

RESERVE_BYTES = 256 * 2**20
"""For the ledger and the page, and for whoever else writes there."""


class Space:
    """Watches the disk of a folder.

    Args:
        folder: exists.
        reserve_bytes: that are left free.
    """

    def __init__(self, folder: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes

    def has_room(self, coming_bytes: int) -> bool:
        """Whether so many bytes fit, with the reserve left."""
        return shutil.disk_usage(self.folder).free >= coming_bytes + self.reserve_bytes

    def full(self, coming_bytes: int, reason: str = "") -> OutputRefusal:
        """That they do not.

        Args:
            coming_bytes: that were to be written.
            reason: what the disk said; ``""``: it was not tried.
        """
        free = shutil.disk_usage(self.folder).free
        why = reason or f"{free / 2**20:.0f} MiB free, {self.reserve_bytes / 2**20:.0f} of them kept in reserve"
        return OutputRefusal(
            f"{self.folder} has no room for the next series of {coming_bytes / 2**20:.1f} MiB ({why})",
            allowed="space for a series for each worker",
            cure="make room and give the same command again; what was finished is kept",
        )
