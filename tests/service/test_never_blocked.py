"""Whatever one address or one peer holds, others get through: on the DICOM port and on the web port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from service.receiving import VERIFICATION, Door, certificates, free_port, receiving, settings_of, slices, until
from service.rows import Clock
from service.test_hostile_network import ACCEPT, command, ends, fragment, pdu, raw, request, says
from service.web.plant import TOKEN, Plant
from service.web.test_web_server import running
from service.web.test_web_stow import TYPE, body

from iscl_monai.service.receiving import receiver as receiver_module
from iscl_monai.service.receiving.limits import LEAST_BYTES, Pace, TooSlowError
from iscl_monai.service.receiving.places import MOST_UNIDENTIFIED, Places
from iscl_monai.service.web import queue_pages, server
from iscl_monai.service.web.connections import Connections

# The DICOM port


def door_with(folder: Path, **node: object) -> contextlib.AbstractContextManager[Door]:
    (folder / "node").mkdir()
    return receiving(settings_of(folder / "node", **node))


def test_silent_connections_of_a_peers_address_keep_nobody_out(tmp_path: Path) -> None:
    """More than there are places; the node itself would wait for each of them for an hour."""
    files = slices(tmp_path / "sent", 1)
    with door_with(tmp_path, max_associations=4, timeout_s=3600) as door, contextlib.ExitStack() as silent:
        socks = [silent.enter_context(raw(door)) for _ in range(4 + MOST_UNIDENTIFIED + 20)]
        assert [answer.Status for answer in door.send(*files)] == [0]
        assert door.echo(sender="PACS") == 0
        assert ends(socks[0])


@pytest.mark.parametrize("begun", [b"", b"\x01", request()[:40]])
def test_a_connection_has_little_time_for_its_request(
    begun: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "ASSOCIATE_WITHIN_S", 0.1)
    with door_with(tmp_path, timeout_s=3600) as door, raw(door) as sock:
        sock.sendall(begun)
        assert ends(sock)


def test_a_connection_has_little_time_for_its_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "ASSOCIATE_WITHIN_S", 0.1)
    with certificates(tmp_path / "pki") as pki:
        files = {"certificate": pki / "peer.crt", "key": pki / "peer.key", "ca": pki / "authority.crt"}
        with door_with(tmp_path, timeout_s=3600, tls=files) as door, raw(door) as sock:
            assert ends(sock)


def test_one_peer_cannot_hold_the_places_of_all(tmp_path: Path) -> None:
    """With however many associations that live on by an echo now and then."""
    with door_with(tmp_path, max_associations=4, timeout_s=3600) as door, contextlib.ExitStack() as held:
        for _ in range(3):
            association = held.enter_context(door.association(VERIFICATION))
            assert association.send_c_echo().Status == 0
        assert door.echo() is None, "one place is kept"
        assert door.echo(sender="PACS") == 0
        until(lambda: door.receiver.connections.associations == 3)
        held.enter_context(door.association(VERIFICATION, sender="PACS"))
        assert door.echo(sender="PACS") is None


def test_an_association_that_brings_nothing_gives_its_place_up(tmp_path: Path) -> None:
    files = slices(tmp_path / "sent", 1)
    with door_with(tmp_path, max_associations=2, timeout_s=3600) as door:
        clock = Clock()
        door.receiver.connections._clock = clock
        with door.association(VERIFICATION) as first, door.association(VERIFICATION) as second:
            assert first.is_established
            assert second.is_established
            assert door.echo() is None
            clock.now += 3600
            assert first.send_c_echo().Status == 0, "which brings nothing"
            assert [answer.Status for answer in door.send(*files)] == [0]
            until(lambda: not first.is_established)
            assert second.is_established, "one was enough"


def places(most: int = 8, peers: tuple[str, ...] = ("a", "b", "c")) -> tuple[Places, Clock]:
    clock = Clock()
    return Places(most, peers, 60, clock), clock


def admitted(made: Places, *callers: str) -> list[bool]:
    """Each caller is a peer's name and a number."""
    return [made.admit_association(caller, caller[0])[0] for caller in callers]


def test_every_peer_has_a_place_of_its_own() -> None:
    made, _ = places()
    assert admitted(made, *(f"a{number}" for number in range(9))) == [True] * 6 + [False] * 3
    assert admitted(made, "b1", "b2", "c1", "c2") == [True, False, True, False]
    made.release("a0")
    assert admitted(made, "b2", "a9") == [True, False]
    assert made.associations == 8


def test_one_peer_alone_may_have_all_places() -> None:
    made, _ = places(3, ("a",))
    assert admitted(made, "a1", "a2", "a3", "a4") == [True] * 3 + [False]
    made.release("a1")
    made.release("a1")
    assert admitted(made, "a4") == [True]


def test_what_brings_something_keeps_its_place() -> None:
    made, clock = places(2, ("a",))
    admitted(made, "a1", "a2")
    clock.now += 59
    made.record_use("a1")
    assert admitted(made, "a3") == [False]
    clock.now += 1
    assert made.admit_association("a3", "a") == (True, "a2")
    assert made.admit_association("a4", "a") == (False, None)


def test_the_silent_of_one_address_end_before_those_of_another() -> None:
    made, _ = places(2)
    honest = [made.admit_connection(f"honest {number}", "10.0.0.1", True) for number in range(3)]
    ended = [made.admit_connection(number, "10.0.0.2", True) for number in range(100)]
    assert honest == [None] * 3
    room = 2 + MOST_UNIDENTIFIED - 3
    assert ended == [None] * room + list(range(100 - room)), "its own, the oldest first"


def test_strangers_and_peers_wait_apart() -> None:
    made, _ = places(1)
    for number in range(100):
        made.admit_connection(("stranger", number), "192.0.2.1", False)
    assert made.waiting == MOST_UNIDENTIFIED
    assert made.admit_connection("peer", "10.0.0.1", True) is None


def test_a_message_has_to_go_on() -> None:
    clock = Clock()
    pace = Pace(60, clock)
    for _ in range(100):
        clock.now += 50
        assert pace.add(LEAST_BYTES), "slow, and honest"
    clock.now += 30
    assert not pace.add(10)
    clock.now += 31
    with pytest.raises(TooSlowError, match="less than 64 kB within 60 s"):
        pace.add(10)
    pace.begin()
    assert not pace.add(10)


@pytest.mark.parametrize("field", [1, 0x130])
def test_tiny_pieces_of_a_message_do_not_hold_an_association(field: int, tmp_path: Path) -> None:
    with door_with(tmp_path, timeout_s=0.2) as door, raw(door) as sock:
        sock.sendall(request())
        assert says(sock) == ACCEPT
        sock.settimeout(0.02)
        with contextlib.suppress(OSError):
            sock.sendall(pdu(4, fragment(command("1.2.3.4", field=field), 3)))
            for _ in range(300):
                sock.sendall(pdu(4, fragment(b"x", 0)))
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(100):
                        break
            else:
                raise AssertionError("it was held by a byte now and then")
        until(lambda: not door.receiver.connections.associations)
        assert not door.leftovers()


# The web port


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


@contextlib.contextmanager
def open_connections(address: str, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    host, _, port = address.partition(":")
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(count):
            socks.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=60)))
            with contextlib.suppress(OSError):  # it had to make room for another one
                socks[-1].sendall(data)
        yield socks


HEAD = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n"
SILENT = {"nothing": b"", "half a header": b"GET / HTTP/1.1\r\nHos", "half a form": HEAD + b"\r\nname=a"}


@pytest.mark.parametrize("data", SILENT.values(), ids=SILENT)
def test_silent_connections_keep_no_page_and_no_probe_out(
    data: bytes, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 20)
    with (
        running(plant.with_web(port=free_port())) as address,
        open_connections(address, 40, data),
        httpx.Client(base_url=f"http://{address}") as client,
    ):
        for path in ("/healthz", "/readyz", "/metrics", "/login"):
            assert client.get(path).status_code == 200, path
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": TYPE}
        assert client.post("/dicom-web/studies", content=body(b"no DICOM"), headers=headers).status_code == 409


def test_probes_have_threads_of_their_own(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that take for ever have all the others."""
    plant.add_people()
    go, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_: object) -> None:
        begun.release()
        go.wait(60)
        raise KeyError

    monkeypatch.setattr(queue_pages, "entries", slow)
    cookie = plant.client("viewer").cookies["iscl_session"]
    with running(plant.with_web(port=free_port())) as address:
        data = f"GET / HTTP/1.1\r\nHost: x\r\nCookie: iscl_session={cookie}\r\n\r\n".encode()
        with open_connections(address, 45, data):
            for _ in range(40):
                begun.acquire()
            try:
                for path in ("/healthz", "/readyz", "/metrics"):
                    assert httpx.get(f"http://{address}{path}", timeout=60).status_code == 200
            finally:
                go.set()


class Fake:
    def __init__(self, address: str, waits: bool = True) -> None:
        self.address = address
        self.waits_for_client = waits
        self.ended = False

    def end(self) -> None:
        self.ended = True


def test_of_silent_connections_those_of_the_crowded_address_end() -> None:
    connections = Connections(4, 1)
    honest, *crowd = Fake("10.0.0.1"), *(Fake("10.0.0.2") for _ in range(3))
    for one in (honest, *crowd):
        assert connections.add(one)
    connections.spoke(crowd[0])
    assert connections.add(Fake("10.0.0.3"))
    assert [one.ended for one in (honest, *crowd)] == [False, False, True, False]
    assert len(connections) == 4


def test_what_is_being_answered_is_never_ended_and_leaves_places_for_probes() -> None:
    connections = Connections(2, 1)
    busy = [Fake("10.0.0.2", waits=False) for _ in range(2)]
    for one in busy:
        connections.add(one)
    assert not connections.add(Fake("10.0.0.1"))
    assert connections.add(Fake("127.0.0.1", waits=False))
    assert not connections.add(Fake("127.0.0.1"))
    assert not any(one.ended for one in busy)
    connections.remove(busy[0])
    connections.remove(busy[0])
    connections.spoke(busy[0])
    assert len(connections) == 2


@pytest.mark.parametrize("path", ["/login", "/dicom-web/studies"])
def test_a_byte_now_and_then_does_not_hold_a_request(path: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_monai.service.web.shield.SILENCE_S", 0.3)
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Length: 100000", f"Authorization: Bearer {TOKEN}")
    kind = f"Content-Type: {TYPE if 'dicom' in path else 'application/x-www-form-urlencoded'}"
    with (
        running(plant.with_web(port=free_port())) as address,
        open_connections(address, 1, "\r\n".join((*lines, kind, "", "")).encode()) as (sock,),
    ):
        sock.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                sock.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    sock.recv(100)
                    return  # an answer, or the end
            raise AssertionError("it was held by a byte now and then")
