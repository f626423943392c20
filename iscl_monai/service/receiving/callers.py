"""Who may speak with the node: an AE title that is known, from an address that belongs to it."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable

from iscl_monai.service.settings import Peer, Settings

ASK_AGAIN_S = 10.0  # a name server is not asked more often, however many strangers call

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def plain(address: str) -> Address:
    """One form for what is written in several: IPv4 inside of IPv6, zones, and every way to name this machine."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return LOOPBACK if parsed.is_loopback else parsed


class Callers:
    """Knows the peers that may send, and their addresses.

    Args:
        settings: of the node.
        clock: seconds that do not jump.
        resolve: the addresses of a name.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Iterable[str]] | None = None,
    ) -> None:
        self._peers = {peer.ae_title: peer for peer in settings.peers if peer.ae_title and peer.may_send}
        self._clock = clock
        self._resolve = resolve or _resolved
        self._lock = threading.Lock()
        self._asked_at: dict[str, float] = {}
        self._places: dict[str, tuple[Network, ...]] = {}
        for peer in self._peers.values():
            self._places[peer.name] = self._look_up(peer)

    def knows(self, address: str) -> bool:
        """Whether any peer may call from there, as far as is known without asking a name server."""
        with self._lock:
            places = [network for networks in self._places.values() for network in networks]
        return _within(address, places)

    def peer(self, ae_title: str, address: str) -> Peer | None:
        """The peer of that title; None if there is none, it may not send, or not from there."""
        peer = self._peers.get(ae_title.strip())
        if peer is None:
            return None
        if not _within(address, self._places[peer.name]) and self._may_ask(peer.name):
            self._places[peer.name] = self._look_up(peer)  # it may have moved
        return peer if _within(address, self._places[peer.name]) else None

    def _may_ask(self, name: str) -> bool:
        with self._lock:
            due = self._clock() >= self._asked_at[name] + ASK_AGAIN_S
            if due:
                self._asked_at[name] = self._clock()
            return due

    def _look_up(self, peer: Peer) -> tuple[Network, ...]:
        self._asked_at[peer.name] = self._clock()
        found: list[Network] = []
        for place in peer.from_hosts or ((peer.host,) if peer.host else ()):
            found.extend(self._networks(place))
        return tuple(found)

    def _networks(self, place: str) -> Iterable[Network]:
        try:
            if "/" in place:
                return [ipaddress.ip_network(place, strict=False)]
            return [ipaddress.ip_network(plain(place))]
        except ValueError:  # a name
            return [ipaddress.ip_network(plain(address)) for address in self._resolve(place)]


def _resolved(name: str) -> Iterable[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return ()  # unknown now; asked again when somebody calls


def _within(address: str, networks: Iterable[Network]) -> bool:
    try:
        caller = plain(address)
    except ValueError:
        return False
    return any(caller.version == network.version and caller in network for network in networks)
