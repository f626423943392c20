"""Which peers may call the node: an AE title that is known, from an address that belongs to it."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable

from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.settings import Settings

RESOLVE_AGAIN_S = 10.0  # a name is not resolved more often, however many unknown callers there are

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def normalized(address: str) -> Address:
    """One form for addresses that are written in several: IPv4 in IPv6, zones, and every address of this machine."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return LOOPBACK if parsed.is_loopback else parsed


class Callers:
    """The peers that may call, and the addresses they may call from.

    Args:
        settings: of the node.
        clock: seconds that do not jump.
        resolve: gives the addresses of a host name.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Iterable[str]] | None = None,
    ) -> None:
        self._peers = {peer.ae_title: peer for peer in settings.peers if peer.ae_title and peer.may_send}
        self._clock = clock
        self._resolve = resolve or _resolve_name
        self._lock = threading.Lock()
        self._resolved_at: dict[str, float] = {}
        self._networks: dict[str, tuple[Network, ...]] = {}
        for peer in self._peers.values():
            self._networks[peer.name] = self._networks_of(peer)

    def knows_address(self, address: str) -> bool:
        """Whether any peer may call from there, as far as is known without resolving names."""
        with self._lock:
            networks = [network for of_peer in self._networks.values() for network in of_peer]
        return _within(address, networks)

    def peer(self, ae_title: str, address: str) -> Peer | None:
        """The peer of that title; None if there is none, it may not send, or not from there."""
        peer = self._peers.get(ae_title.strip())
        if peer is None:
            return None
        if not _within(address, self._networks[peer.name]) and self._may_resolve(peer.name):
            self._networks[peer.name] = self._networks_of(peer)  # it may have moved
        return peer if _within(address, self._networks[peer.name]) else None

    def _may_resolve(self, name: str) -> bool:
        with self._lock:
            due = self._clock() >= self._resolved_at[name] + RESOLVE_AGAIN_S
            if due:
                self._resolved_at[name] = self._clock()
            return due

    def _networks_of(self, peer: Peer) -> tuple[Network, ...]:
        self._resolved_at[peer.name] = self._clock()
        found: list[Network] = []
        for host in peer.from_hosts or ((peer.host,) if peer.host else ()):
            found.extend(self._parse_or_resolve(host))
        return tuple(found)

    def _parse_or_resolve(self, host: str) -> Iterable[Network]:
        try:
            if "/" in host:
                return [ipaddress.ip_network(host, strict=False)]
            return [ipaddress.ip_network(normalized(host))]
        except ValueError:  # a name
            return [ipaddress.ip_network(normalized(address)) for address in self._resolve(host)]


def _resolve_name(name: str) -> Iterable[str]:
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return ()  # unknown now; resolved again at the next call


def _within(address: str, networks: Iterable[Network]) -> bool:
    try:
        caller = normalized(address)
    except ValueError:
        return False
    return any(caller.version == network.version and caller in network for network in networks)
