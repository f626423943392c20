"""How much anybody may ask of the node before it is known who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

LONGEST_REQUEST = 256 * 2**10  # bytes of an A-ASSOCIATE-RQ: 128 contexts with all transfer syntaxes have 100 KB
LONGEST_OTHER = 1024  # bytes of PDUs without variable parts
MOST_CONTEXTS = 128  # their identifiers are the odd numbers of a byte (PS3.8 9.3.2.2)
MOST_ITEMS = 512  # within a presentation context, or about the user
CONTEXT, USER = 0x20, 0x50
WAITING_STRANGERS = 16


class TooMuchError(ValueError):
    """What a peer sends is more than any honest one has to say."""


def check_length(kind: int, length: int, longest_data: int) -> None:
    """Refuse a PDU by its header, before a byte of it is read.

    Args:
        kind: type of the PDU.
        length: that its header announces.
        longest_data: of a P-DATA-TF, as told to the peer.

    Raises:
        TooMuchError: it is longer than its kind may be.
    """
    longest = {1: LONGEST_REQUEST, 4: longest_data}.get(kind, LONGEST_OTHER)
    if length > longest:
        raise TooMuchError(f"a PDU of type {kind} announces {length} bytes, allowed are {longest}")


def check_request(pdu: bytes) -> None:
    """Count what an A-ASSOCIATE-RQ holds, before objects are made of each part.

    Raises:
        TooMuchError: it holds too many parts, or they do not add up.
    """
    contexts = 0
    for kind, begin, end in _items(pdu, 74, len(pdu), MOST_CONTEXTS + 8):
        contexts += kind == CONTEXT
        if contexts > MOST_CONTEXTS:
            raise TooMuchError(f"more than {MOST_CONTEXTS} presentation contexts")
        if kind in (CONTEXT, USER):
            _items(pdu, begin + (4 if kind == CONTEXT else 0), end, MOST_ITEMS)


def _items(pdu: bytes, begin: int, end: int, most: int) -> list[tuple[int, int, int]]:
    found = []
    while begin < end:
        stop = begin + 4 + int.from_bytes(pdu[begin + 2 : begin + 4], "big")
        if stop > end:
            raise TooMuchError("an item is longer than what holds it")
        found.append((pdu[begin], begin + 4, stop))
        if len(found) > most:
            raise TooMuchError(f"more than {most} items in one another")
        begin = stop
    return found


class Doors:
    """Counts connections, so that strangers cannot take the places of peers.

    Args:
        most: associations with peers at the same time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, bool] = {}  # connections not yet known to be a peer's: from a peer's address?
        self._inside: set[Hashable] = set()

    def knock(self, who: Hashable, known: bool) -> bool:
        """A connection has come; whether it may go on to say who it is."""
        with self._lock:
            like = sum(kind == known for kind in self._waiting.values())
            if like >= (self.most + WAITING_STRANGERS if known else WAITING_STRANGERS):
                return False
            self._waiting[who] = known
            return True

    def enter(self, who: Hashable) -> bool:
        """It is a peer; whether there is a place for one more."""
        with self._lock:
            if len(self._inside) >= self.most:
                return False
            self._waiting.pop(who, None)
            self._inside.add(who)
            return True

    def leave(self, who: Hashable) -> None:
        """The connection has ended."""
        with self._lock:
            self._waiting.pop(who, None)
            self._inside.discard(who)

    @property
    def inside(self) -> int:
        """Associations with peers now."""
        with self._lock:
            return len(self._inside)


class Seldom:
    """Lets the same thing be told only now and then: a flood of attempts shall not fill the disk with their record.

    Args:
        every_s: how often the same thing may be told.
        most: different things within that time.
        clock: seconds that do not jump.
    """

    def __init__(self, every_s: float = 600, most: int = 100, clock: Callable[[], float] = time.monotonic) -> None:
        self.every_s = every_s
        self.most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[Hashable, tuple[float, int]] = {}

    def again(self, what: Hashable) -> int | None:
        """None: do not tell it now. Else tell it, with how often it has happened untold since the last time."""
        with self._lock:
            now = self._clock()
            at, untold = self._told.get(what, (float("-inf"), 0))
            if now < at + self.every_s:
                self._told[what] = (at, untold + 1)
                return None
            if len(self._told) >= self.most:
                self._told = {key: told for key, told in self._told.items() if now < told[0] + self.every_s}
            if len(self._told) >= self.most and what not in self._told:
                return None
            self._told[what] = (now, 0)
            return untold
