"""How long to wait before the next try: twice as long after each failure, by a clock that does not jump."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable


class Backoff:
    """Remembers, for each key, how often it has failed and from when on it may be tried again.

    Nothing of it is kept over a restart: then everything is tried at once.

    Args:
        first_s: to wait after the first failure; doubled after each further one.
        longest_s: to wait at most.
        clock: monotonic, in seconds.
    """

    def __init__(self, first_s: float, longest_s: float, clock: Callable[[], float]) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self.clock = clock
        self._failures: dict[Hashable, tuple[int, float]] = {}  # how often, and when it is due again
        self._lock = threading.Lock()

    def failed(self, key: Hashable) -> None:
        """Count a failure, and wait longer before the next try."""
        with self._lock:
            count = self._failures.get(key, (0, 0.0))[0]
            wait_s = min(self.first_s * 2.0 ** min(count, 60), self.longest_s)
            self._failures[key] = (count + 1, self.clock() + wait_s)

    def reset(self, key: Hashable) -> None:
        """Forget the failures: it has succeeded, or is of no interest any more."""
        with self._lock:
            self._failures.pop(key, None)

    def failures(self, key: Hashable) -> int:
        """How often it has failed since it succeeded."""
        with self._lock:
            return self._failures.get(key, (0, 0.0))[0]

    def is_due(self, key: Hashable) -> bool:
        """Whether it may be tried now."""
        with self._lock:
            return key not in self._failures or self._failures[key][1] <= self.clock()

    def next_due_s(self, since: float) -> float:
        """Seconds until the next key becomes due that was not at the time ``since``; infinite if there is none."""
        with self._lock:
            later = [when for _, when in self._failures.values() if when > since]
            return max(0.0, min(later) - self.clock()) if later else float("inf")
