"""Whether the database can be written, found out now and then by writing to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from iscl_monai.errors import StoreUnavailable

CHECK_EVERY_S = 5.0
UNKNOWN = "it is being checked for the first time"


class WriteCheck:
    """Proves the database for whoever asks, however often: in one thread at a time, and not more often than needed.

    Args:
        prove: writes, commits and reads back; raises StoreUnavailable.
        every_s: how old an answer may be.
        clock: monotonic, in seconds.
    """

    def __init__(
        self, prove: Callable[[], None], every_s: float = CHECK_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.prove = prove
        self.every_s = every_s
        self.clock = clock
        self._last: tuple[float, str] | None = None
        self._lock = threading.Lock()

    def failure(self) -> str:
        """Why the database cannot be written; "" if it can."""
        # another thread checks; a database that hangs shall hold up one only
        if not self._lock.acquire(blocking=False):
            return self._last[1] if self._last else UNKNOWN
        try:
            if self._last is None or self.clock() - self._last[0] >= self.every_s:
                self._last = (self.clock(), self._reason())
            return self._last[1]
        finally:
            self._lock.release()

    def _reason(self) -> str:
        try:
            self.prove()
        except StoreUnavailable as error:
            return error.came
        return ""
