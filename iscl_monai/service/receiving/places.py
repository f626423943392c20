"""Places for connections and associations, shared out so that nobody can hold all of them.

A connection that says nothing gives its place up when another one comes: the one that has waited longest, of the
address with the most. Each peer can have one association whatever the others hold, and an association that brings
nothing for a long time gives its place up when there is none left.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

MOST_UNIDENTIFIED = 16  # connections of unknown callers that have not sent their A-ASSOCIATE-RQ
RESERVED = 4  # one place of so many may be kept free for peers that have no association


@dataclass(frozen=True)
class _Waiting:
    """A connection that has not sent its A-ASSOCIATE-RQ."""

    address: str
    known: bool


@dataclass
class _Association:
    """An association of a peer, and when it last brought something."""

    peer: str
    useful_at: float


class Places:
    """Counts connections and associations.

    Args:
        most: associations at the same time.
        peers: names of those that may call.
        useless_s: an association that has brought nothing for so long may lose its place to another one.
        clock: seconds that do not jump.
    """

    def __init__(
        self, most: int, peers: Iterable[str], useless_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.useless_s = useless_s
        self._peers = frozenset(peers)
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, _Waiting] = {}  # in the order in which they came
        self._associated: dict[Hashable, _Association] = {}

    def admit_connection(self, caller: Hashable, address: str, known: bool) -> Hashable | None:
        """A connection has come, and may send its A-ASSOCIATE-RQ; the caller that has to make room for it, if any.

        Args:
            caller: name of the connection.
            address: it comes from.
            known: whether a peer has that address; others have places of their own.
        """
        with self._lock:
            self._waiting[caller] = _Waiting(address, known)
            same_kind = [one for one, waiting in self._waiting.items() if waiting.known == known]
            if len(same_kind) <= (self.most + MOST_UNIDENTIFIED if known else MOST_UNIDENTIFIED):
                return None
            of_address = Counter(self._waiting[one].address for one in same_kind)
            ((crowded, _),) = of_address.most_common(1)
            oldest = next(one for one in same_kind if self._waiting[one].address == crowded)
            del self._waiting[oldest]
            return oldest

    def admit_association(self, caller: Hashable, peer: str) -> tuple[bool, Hashable | None]:
        """It is a peer's; whether there is a place for it, and the caller that has to make room for it, if any."""
        with self._lock:
            useless = None
            if not self._has_place(peer):
                useless = self._most_useless()
                if useless is None:
                    return False, None
                del self._associated[useless]
            self._waiting.pop(caller, None)
            self._associated[caller] = _Association(peer, self._clock())
            return True, useless

    def record_use(self, caller: Hashable) -> None:
        """An association has brought something: an object, a part of one, or a request."""
        with self._lock:
            if caller in self._associated:
                self._associated[caller].useful_at = self._clock()

    def release(self, caller: Hashable) -> None:
        """The connection has ended."""
        with self._lock:
            self._waiting.pop(caller, None)
            self._associated.pop(caller, None)

    @property
    def associations(self) -> int:
        """Associations with peers now."""
        with self._lock:
            return len(self._associated)

    @property
    def waiting(self) -> int:
        """Connections that have not sent their A-ASSOCIATE-RQ."""
        with self._lock:
            return len(self._waiting)

    def _has_place(self, peer: str) -> bool:
        """Whether a place is free that is not kept for others; a peer without an association may have these, too."""
        free = self.most - len(self._associated)
        present = {association.peer for association in self._associated.values()}
        if peer not in present:
            return free > 0
        return free > min(len(self._peers - present), self.most // RESERVED)

    def _most_useless(self) -> Hashable | None:
        """Of those that have brought nothing for long, the one of the peer that has the most associations."""
        since = self._clock() - self.useless_s
        found = [caller for caller, one in self._associated.items() if one.useful_at <= since]
        held = Counter(one.peer for one in self._associated.values())
        return max(
            found,
            key=lambda caller: (held[self._associated[caller].peer], -self._associated[caller].useful_at),
            default=None,
        )
