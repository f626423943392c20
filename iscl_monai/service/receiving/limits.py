"""Limits on what the node takes from anybody who connects, before it is known who that is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

LONGEST_REQUEST = 256 * 2**10  # bytes of an A-ASSOCIATE-RQ: 128 contexts with all transfer syntaxes have 100 KB
LONGEST_OTHER = 1024  # bytes of PDUs without variable parts
MOST_CONTEXTS = 128  # their identifiers are the odd numbers of a byte (PS3.8 9.3.2.2)
MOST_ITEMS = 512  # within a presentation context, or about the user
CONTEXT, USER = 0x20, 0x50
ASSOCIATE_WITHIN_S = 10.0  # at most, from the connection to the end of the A-ASSOCIATE-RQ; honest peers need one
LEAST_BYTES = 64 * 2**10  # of a message within the node's timeout, unless it ends


MANY = "many different ones"


class TooMuchError(ValueError):
    """What a peer sends is more than any honest one has to send."""


def check_length(kind: int, length: int, longest_data: int) -> None:
    """Refuse a PDU by its header, before a byte of it is read.

    Args:
        kind: type of the PDU.
        length: that its header announces.
        longest_data: of a P-DATA-TF, as negotiated.

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


class TooSlowError(ValueError):
    """A message comes in pieces so small and so late that it only holds its place."""


class Pace:
    """Watches that a message goes on: so many bytes within so much time, or its end.

    Args:
        within_s: for :data:`LEAST_BYTES`.
        clock: seconds that do not jump.
    """

    def __init__(self, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.within_s = within_s
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A message begins."""
        self._since, self._bytes = self._clock(), 0

    def add(self, count: int) -> bool:
        """Bytes have come; whether they complete another portion.

        Raises:
            TooSlowError: the portion has taken too long.
        """
        self._bytes += count
        if self._clock() - self._since > self.within_s:
            raise TooSlowError(f"less than {LEAST_BYTES >> 10} kB within {self.within_s:g} s")
        if self._bytes < LEAST_BYTES:
            return False
        self.begin()
        return True


class RepeatFilter:
    """Lets the same event be recorded only now and then: a flood of attempts shall not fill the disk with records.

    Events belong to groups, such as an address, that cannot silence one another: a group with too many different
    events has these recorded as one, and when there are too many groups of strangers, the rest of them are one.

    Args:
        every_s: how often the same event may be recorded.
        most: different events of a group within that time.
        most_groups: of strangers.
        clock: seconds that do not jump.
    """

    def __init__(
        self,
        every_s: float = 600,
        most: int = 10,
        most_groups: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = every_s
        self.most = most
        self.most_groups = most_groups
        self._clock = clock
        self._lock = threading.Lock()
        self._recorded: dict[tuple[bool, Hashable], dict[Hashable, tuple[float, int]]] = {}

    def unrecorded(self, event: Hashable, group: Hashable, *, known: bool = False) -> int | None:
        """How often the event has happened since it was last recorded; None if it is not to be recorded now.

        Args:
            event: what happened.
            group: whose it is.
            known: whether the group is one of ours, of which there are only so many.
        """
        with self._lock:
            now = self._clock()
            events = self._events_of((known, group), now)
            if len(events) > self.most:
                self._forget_old(events, event, now)
            if event not in events and len(events) >= self.most:
                event = MANY
            at, count = events.get(event, (float("-inf"), 0))
            due = now >= at + self.every_s
            events[event] = (now, 0) if due else (at, count + 1)
            return count if due else None

    def _events_of(self, group: tuple[bool, Hashable], now: float) -> dict[Hashable, tuple[float, int]]:
        strangers = [one for one in self._recorded if not one[0]]
        if group not in self._recorded and not group[0] and len(strangers) >= self.most_groups:
            for one in strangers:
                if all(now >= at + self.every_s for at, _ in self._recorded[one].values()):
                    del self._recorded[one]
            if sum(not one[0] for one in self._recorded) >= self.most_groups:
                group = (False, MANY)
        return self._recorded.setdefault(group, {})

    def _forget_old(self, events: dict[Hashable, tuple[float, int]], kept: Hashable, now: float) -> None:
        for event in [event for event, (at, _) in events.items() if now >= at + self.every_s]:
            if event not in (kept, MANY):
                del events[event]
