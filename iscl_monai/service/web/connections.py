"""The open connections of the web port, so that those which say nothing keep nobody out."""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Connection(Protocol):
    """What is known of a connection; implemented by :class:`iscl_monai.service.web.server.LimitedProtocol`."""

    @property
    def address(self) -> str:
        """Where it comes from."""

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing goes on until the client says something."""

    def end(self) -> None:
        """Close it."""


class Connections:
    """Keeps connections in the order in which their clients last said something; used in the event loop alone.

    Args:
        most: at the same time.
        most_local: beyond these, from this machine: probes come from here.
    """

    def __init__(self, most: int, most_local: int) -> None:
        self.most = most
        self.most_local = most_local
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> bool:
        """A connection has come; False if there is no place, since all others are being answered.

        If there are too many, one ends that waits for its client: of the address with the most of these the one whose
        client has been silent for longest.
        """
        if len(self._open) >= self.most:
            waiting = [one for one in self._open if one.waits_for_client]
            if waiting:
                ((crowded, _),) = Counter(one.address for one in waiting).most_common(1)
                silent = next(one for one in waiting if one.address == crowded)
                self.remove(silent)
                silent.end()
            elif not (connection.address in ("127.0.0.1", "::1") and len(self._open) < self.most + self.most_local):
                return False
        self._open[connection] = None
        return True

    def spoke(self, connection: Connection) -> None:
        """Its client has said something."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def remove(self, connection: Connection) -> None:
        """It has ended."""
        self._open.pop(connection, None)
