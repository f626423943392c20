"""Slows the guessing of passwords down, without locking anybody out for ever."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_WAIT_S = 300.0
FORGOTTEN_AFTER_S = 3600.0
REMEMBERED = 20_000


@dataclass
class _Failures:
    count: int = 0
    last: float = 0.0


class Throttle:
    """Counts failures for an account from an address, for an account, and for an address.

    Args:
        clock: monotonic, in seconds.
    """

    # How many failures are free; after that each doubles the wait. An account alone allows more, or anybody could
    # keep its owner out; an address alone too, for many sit behind one proxy.
    FREE = (4, 20, 40)

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, account: str, address: str, device: str = "") -> float:
        """Seconds until the next attempt is checked; 0 for now.

        Args:
            account: as it was typed.
            address: of the client.
            device: from which the account has been logged in before, see
                :class:`iscl_monai.service.web.devices.Devices`; its tries count for themselves.
        """
        with self._lock:
            keys = _keys(account, address, device)
            return max(self._wait_s(key, free) for key, free in zip(keys, self.FREE, strict=False))

    def record_attempt(self, account: str, address: str, device: str = "") -> None:
        """A password is being checked; it counts as wrong until it was right, for many may come at the same time."""
        with self._lock:
            for key in _keys(account, address, device):
                known = self._failures.setdefault(key, _Failures())
                known.count += 1
                known.last = self.clock()
                self._failures.move_to_end(key)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def record_success(self, account: str, address: str, device: str = "") -> None:
        """It was right. Earlier failures of the address stay: its owner may guess at other accounts."""
        with self._lock:
            pair, *others = _keys(account, address, device)
            self._failures.pop(pair, None)
            for key in others:
                if key in self._failures:
                    self._failures[key].count -= 1

    def _wait_s(self, key: tuple[str, str], free: int) -> float:
        known = self._failures.get(key)
        if known is None:
            return 0.0
        passed = self.clock() - known.last
        if passed > FORGOTTEN_AFTER_S:
            del self._failures[key]
            return 0.0
        over = known.count - free
        return max(0.0, min(LONGEST_WAIT_S, 2.0 ** min(over, 10)) - passed) if over > 0 else 0.0


def _keys(account: str, address: str, device: str) -> tuple[tuple[str, str], ...]:
    account = account.lower()[:64]
    if device:
        return ((account, f"device {device}"),)
    return (account, address), (account, ""), ("", address)
