"""Whatever a peer or a stranger sends, the node lives, its memory and disk stay bounded, and the next one is served."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode
from service.receiving import (
    CT,
    VERIFICATION,
    WITHIN_S,
    Door,
    certificates,
    opened,
    receiving,
    settings_of,
    slices,
    until,
)

from iscl_monai.service.database.tables import refusals
from iscl_monai.service.receiving.limits import (
    MOST_CONTEXTS,
    TooMuchError,
    check_request,
)
from iscl_monai.service.receiving.network import LimitedAssociation
from iscl_monai.service.receiving.places import MOST_UNIDENTIFIED

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of bytes; a node does not end of that

MB = 2**20
PATIENCE_S = 1.0  # of the node, so that a test of its end does not take long
ABORT, ACCEPT, REJECT = 7, 2, 3


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    (tmp_path / "node").mkdir()
    with receiving(settings_of(tmp_path / "node", max_pdu_bytes=16384, max_object_mb=1)) as running:
        yield running
        until(lambda: not running.receiver.connections.associations)
        assert running.echo() == 0  # the next honest association is served
        assert not running.leftovers()
        assert running.receiver.alive


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Door]:
    """A node that waits for nobody."""
    (tmp_path / "node").mkdir()
    with receiving(settings_of(tmp_path / "node", timeout_s=PATIENCE_S, max_pdu_bytes=16384)) as running:
        yield running
        until(lambda: not running.receiver.connections.associations)
        assert running.echo() == 0
        assert not running.leftovers()


@contextlib.contextmanager
def raw(door: Door) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", door.port), timeout=60) as sock:
        yield sock


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def context(number: int, abstract: str = CT, syntaxes: int = 1) -> bytes:
    names = item(0x30, abstract.encode()) + item(0x40, ExplicitVRLittleEndian.encode()) * syntaxes
    return item(0x20, bytes([number % 256, 0, 0, 0]) + names)


def user(*more: bytes) -> bytes:
    return item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3") + b"".join(more))


def request(*items: bytes, calling: str = "CT1", called: str = "ISCL", version: int = 1) -> bytes:
    head = struct.pack(">HH16s16s32s", version, 0, called.ljust(16).encode(), calling.ljust(16).encode(), b"")
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(items or (context(1), user())))


def command(uid: str = "1.2.3", sop_class: str = CT, field: int = 1, data: int = 0, **more: Any) -> bytes:
    """A command set, by default C-STORE-RQ."""
    elements = [
        (0x0002, sop_class.encode() + b"\0" * (len(sop_class) % 2)),
        (0x0100, struct.pack("<H", field)),
        (0x0110, struct.pack("<H", more.get("number", 1))),
        (0x0700, b"\0\0"),
        (0x0800, struct.pack("<H", data)),
        (0x1000, uid.encode() + b"\0" * (len(uid) % 2)),
    ]
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def fragment(data: bytes, control: int, number: int = 1) -> bytes:
    return struct.pack(">IBB", len(data) + 2, number, control) + data


def says(sock: socket.socket) -> int:
    """Kind of the next PDU; 0 when the connection has ended."""
    try:
        head = _exactly(sock, 6)
        if len(head) < 6:
            return 0
        _exactly(sock, struct.unpack(">I", head[2:])[0])
        return head[0]
    except ConnectionError:
        return 0


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            break
        data += more
    return data


def says_no_more(sock: socket.socket) -> None:
    """Close the peer's half of a connection, which the node may have closed as a whole by then."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def ends(sock: socket.socket) -> bool:
    """Whether the node closes the connection; it may say something before."""
    while says(sock):
        pass
    return True


@contextlib.contextmanager
def associated(door: Door) -> Iterator[socket.socket]:
    with raw(door) as sock:
        sock.sendall(request())
        assert says(sock) == ACCEPT
        yield sock


# PDUs


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7])
def test_header_that_announces_four_gigabytes(door: Door, kind: int) -> None:
    with raw(door) as sock:
        sock.sendall(pdu(kind, b"x" * 100, length=2**32 - 1))
        assert ends(sock)
    with associated(door) as sock:
        sock.sendall(pdu(kind, b"x" * 100, length=2**32 - 1))
        assert ends(sock)


def test_data_longer_than_agreed_ends_the_association(door: Door) -> None:
    with associated(door) as sock:
        sock.sendall(pdu(4, fragment(command(), 3))[:6] + fragment(command(), 3))
        sock.sendall(pdu(4, b"", length=16385))
        assert says(sock) == ABORT
        assert ends(sock)


def test_data_as_long_as_agreed_is_taken(door: Door) -> None:
    with associated(door) as sock:
        sock.sendall(pdu(4, fragment(command(), 3)) + pdu(4, fragment(b"\0" * (16384 - 6), 2)))
        assert says(sock) == 4  # an answer: it is refused, but it was read


@pytest.mark.parametrize("seed", range(8))
def test_garbage(door: Door, seed: int) -> None:
    noise = random.Random(seed).randbytes(5000)
    for start in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x01\x00\x00\x00\x10\x00"):
        with raw(door) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(start + noise)
            says_no_more(sock)
            assert ends(sock)
    with associated(door) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(pdu(4, noise))
        assert ends(sock)


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 6, 7, 8, 255])
def test_pdu_that_may_not_come_first(door: Door, kind: int) -> None:
    with raw(door) as sock:
        sock.sendall(pdu(kind, b"\0\0\0\0"))
        assert ends(sock)


@pytest.mark.parametrize("kind", [1, 2, 3, 6])
def test_pdu_that_may_not_come_later(door: Door, kind: int) -> None:
    with associated(door) as sock:
        sock.sendall(request() if kind == 1 else pdu(kind, b"\0\0\0\0"))
        assert ends(sock)


# Requests for an association


def test_more_contexts_than_there_are_numbers(door: Door) -> None:
    with raw(door) as sock:
        sock.sendall(request(*(context(2 * n + 1) for n in range(MOST_CONTEXTS)), user()))
        assert says(sock) == ACCEPT
    with raw(door) as sock:
        sock.sendall(request(*(context(2 * n + 1) for n in range(MOST_CONTEXTS + 1)), user()))
        assert says(sock) in (ABORT, 0)
        assert ends(sock)


@pytest.mark.parametrize(
    "items",
    [
        (context(1), user(*(item(0x54, struct.pack(">H5sBB", 5, b"1.2.3", 1, 1)) for _ in range(5000)))),
        (context(1), user(*(item(0x99, b"") for _ in range(15000)))),
        (context(1, syntaxes=2500), user()),
        (context(1), *(user() for _ in range(500))),
        (context(1), item(0x50, b"\x51\0\xff\xff" + b"\0" * 8)),
        (item(0x20, b""), user()),
        (context(1, abstract=""), user()),
        (context(1, abstract="../../etc/passwd"), user()),
        (context(1, abstract="1." * 1000), user()),
        (b"\x20\0\0",),
        (user(item(0x58, b"\1\0\xff\xffroot")),),
    ],
    ids=lambda items: f"{len(items)}x{len(items[0])}",
)
def test_request_that_makes_no_sense(door: Door, items: tuple[bytes, ...]) -> None:
    with raw(door) as sock:
        sock.sendall(request(*items))
        says_no_more(sock)
        assert ends(sock)


def test_request_of_another_version_is_rejected(door: Door) -> None:
    with raw(door) as sock:
        sock.sendall(request(version=2))
        assert says(sock) == REJECT


@pytest.mark.parametrize("title", ["", "\\" * 16, "\x00" * 16])
def test_odd_titles_are_turned_away(door: Door, title: str) -> None:
    with raw(door) as sock:
        sock.sendall(request(calling=title))
        assert says(sock) in (REJECT, ABORT, 0)


def test_parts_of_a_request_are_counted() -> None:
    check_request(request(context(1), user()))
    with pytest.raises(TooMuchError, match="more than 128"):
        check_request(request(*(context(1) for _ in range(129))))
    with pytest.raises(TooMuchError, match="longer than what holds it"):
        check_request(request(b"\x20\0\xff\xff"))


# Messages


@pytest.mark.parametrize("uid", ["../../x", "/etc/passwd", "1.2." + "3" * 100, "", "1.2.3\\1.2.4", "1..2", "☃"])
def test_uid_that_is_none_writes_nothing(door: Door, uid: str, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "sqlite" not in path.name)
    with associated(door) as sock:
        sock.sendall(pdu(4, fragment(command(uid), 3)) + pdu(4, fragment(b"\0" * 100, 2)))
        answered = says(sock) == 4
    until(lambda: not door.receiver.connections.associations)
    assert not door.rows()
    assert door.reasons() == ["Affected SOP Instance UID is no UID (PS3.5 9.1)"] * answered
    assert answered or "/" not in uid
    after = sorted(path for path in tmp_path.rglob("*") if "sqlite" not in path.name)
    assert after == before


@pytest.mark.parametrize(
    "data",
    [
        fragment(b"", 3)[:5] + b"",
        struct.pack(">IB", 1, 1),
        struct.pack(">I", 0),
        struct.pack(">IBB", 2**31, 1, 3),
        fragment(b"", 3),
        fragment(b"\xff" * 500, 3),
        fragment(b"\0" * 16000, 1) * 1,
        fragment(command(), 3, number=77),
        fragment(b"data first", 2),
        fragment(command(), 3) + fragment(command(), 3),
        fragment(command(), 3) + fragment(b"x", 2, number=3),
        fragment(command(field=0x7777), 3),
        fragment(command(field=0x20, sop_class="1.2.840.10008.5.1.4.1.2.1.1"), 3) + fragment(b"x", 2),
        fragment(command(field=0x21), 3) + fragment(b"x", 2),
        fragment(command(field=0x8001, data=0x101), 3),
        fragment(command(field=0x0FFF, data=0x101), 3) * 50,
        fragment(command(field=0x30, data=0x101), 3),
        fragment(command(data=0x101), 3),
        fragment(command(field=0x130), 3) + fragment(b"\xff\xff", 2),
    ],
)
def test_message_that_makes_no_sense(door: Door, data: bytes) -> None:
    with associated(door) as sock:
        sock.sendall(pdu(4, data))
        says_no_more(sock)
        assert ends(sock)
    assert not door.rows()


@pytest.mark.parametrize("field", [0x30, 0x130, 0x100])
def test_request_on_a_context_that_is_not_for_it(door: Door, field: int) -> None:
    """C-ECHO and storage commitment where only objects were agreed on."""
    with associated(door) as sock:
        wrong = command("1.2.840.10008.1.20.1.1", VERIFICATION, field, data=0x101)
        sock.sendall(pdu(4, fragment(wrong, 3)))
        assert says(sock) == ABORT


def test_command_that_does_not_end(door: Door) -> None:
    with associated(door) as sock, contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            sock.sendall(pdu(4, fragment(b"\0" * 16000, 1)))
        raise AssertionError("160 MB of a command were taken")


def test_request_that_is_no_object_and_does_not_end(door: Door) -> None:
    with door.association("1.2.840.10008.1.20.1") as association:
        number = association.accepted_contexts[0].context_id
        sock = association.dul.socket.socket
        first = command(field=0x130, sop_class="1.2.840.10008.1.20.1")
        with contextlib.suppress(OSError):  # EBADF, too: aborted, our own association closes its socket
            sock.sendall(pdu(4, fragment(first, 3, number=number)))
            for _ in range(20_000):
                sock.sendall(pdu(4, fragment(b"\0" * 16000, 0, number=number)))
            raise AssertionError("320 MB of a request were taken")


def test_requests_without_waiting_for_answers(door: Door) -> None:
    with raw(door) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(request(context(1, VERIFICATION), user()))
        assert says(sock) == ACCEPT
        echo = pdu(4, fragment(command(field=0x30, sop_class=VERIFICATION, data=0x101), 3))
        for _ in range(200_000):
            sock.sendall(echo)
        raise AssertionError("200,000 requests were taken")


def test_object_that_does_not_end(door: Door) -> None:
    """It is refused at its limit, which is 1 MB here; its file is gone, and the list tells why."""
    sent = 0
    with associated(door) as sock:
        sock.sendall(pdu(4, fragment(command("1.2.3.4"), 3)))
        piece = pdu(4, fragment(b"\0" * 16000, 0))
        with contextlib.suppress(ConnectionError):
            while sent < 64 * MB:
                sock.sendall(piece)
                sent += len(piece)
    assert sent < 64 * MB
    until(lambda: not door.receiver.connections.associations)
    (row,) = door.rows(refusals)
    assert (row["sop_instance_uid"], row["reason"], row["sender"]) == ("1.2.3.4", "an object of more than 1 MB", "CT1")
    assert not door.leftovers()
    assert not door.rows()


# Slow ones, and many


def test_connection_that_says_nothing_is_closed(hasty: Door) -> None:
    with raw(hasty) as sock:
        assert ends(sock)


@pytest.mark.parametrize("begun", [b"\x01", b"\x01\0\0\0\1\0half a request", pdu(4, b"", length=100)])
def test_half_a_pdu_is_not_waited_for(hasty: Door, begun: bytes) -> None:
    with raw(hasty) as sock:
        sock.sendall(begun)
        assert ends(sock)
    with associated(hasty) as sock:
        sock.sendall(begun)
        assert ends(sock)


def test_pdu_that_drips_is_not_waited_for(hasty: Door) -> None:
    """Each byte comes in time; all of them do not."""
    with associated(hasty) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(pdu(4, b"", length=10_000))
        stop = threading.Event()
        sock.settimeout(0.05)
        for _ in range(10_000):
            sock.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if not sock.recv(1):
                    stop.set()
                    break
        assert stop.is_set()


def test_silent_association_is_ended_and_its_half_object_removed(hasty: Door) -> None:
    with associated(hasty) as sock:
        sock.sendall(pdu(4, fragment(command("1.2.3.4"), 3)) + pdu(4, fragment(b"\0" * 1000, 0)))
        until(hasty.leftovers)
        assert ends(sock)
    until(lambda: not hasty.leftovers())


@pytest.mark.parametrize("begun", [pdu(4, b"", length=100), b"\x01\0\0"])
def test_stop_does_not_wait_for_half_a_pdu(tmp_path: Path, begun: bytes) -> None:
    """Though this node would wait for an hour otherwise."""
    (tmp_path / "node").mkdir()
    node = opened(settings_of(tmp_path / "node", timeout_s=3600))
    node.receiver.start()
    with associated(node) as sock, raw(node) as silent:
        sock.sendall(begun)
        silent.sendall(begun)
        until(lambda: node.receiver.connections.waiting == 1)
        stopping = threading.Thread(target=node.receiver.stop, args=(0.0,), daemon=True)
        stopping.start()
        assert ends(sock)
        assert ends(silent)
        stopping.join(WITHIN_S)
        assert not stopping.is_alive()
    assert not node.receiver.connections.associations
    node.store.close()


def test_stop_ends_what_was_accepted_just_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its association starts when all that had started were ended already."""
    (tmp_path / "node").mkdir()
    node = opened(settings_of(tmp_path / "node", timeout_s=3600))
    node.receiver.start()
    stopped, start = threading.Event(), LimitedAssociation.start

    def late(association: LimitedAssociation) -> None:
        assert stopped.wait(WITHIN_S)
        start(association)

    monkeypatch.setattr(LimitedAssociation, "start", late)
    with raw(node) as silent:
        until(lambda: node.receiver.connections.waiting == 1)
        node.receiver.stop(0.0)
        stopped.set()
        assert ends(silent)
    until(lambda: not node.receiver.connections.waiting)
    node.store.close()


def test_connections_that_come_and_go_leave_their_places(door: Door) -> None:
    for _ in range(200):
        with raw(door):
            pass
    until(lambda: not door.receiver.connections.waiting)


def test_strangers_cannot_take_the_places_of_peers(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    peers = [{"name": "scanner", "ae_title": "CT1", "from_hosts": ["127.0.0.1"]}]
    with receiving(settings_of(tmp_path / "node", peers, max_associations=2)) as door:
        known = door.receiver.callers.knows_address
        door.receiver.callers.knows_address = lambda address: False  # type: ignore[method-assign]
        with contextlib.ExitStack() as silent:
            socks = [silent.enter_context(raw(door)) for _ in range(MOST_UNIDENTIFIED)]
            until(lambda: door.receiver.connections.waiting == MOST_UNIDENTIFIED)
            silent.enter_context(raw(door))
            assert ends(socks[0]), "the one that has said nothing for longest"
            assert door.receiver.connections.waiting == MOST_UNIDENTIFIED
            door.receiver.callers.knows_address = known  # type: ignore[method-assign]
            assert door.echo() == 0
        until(lambda: "too many connections that say nothing" in door.noted())


def test_half_a_tls_handshake_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with certificates(tmp_path / "pki") as pki:
        files = {"certificate": pki / "peer.crt", "key": pki / "peer.key", "ca": pki / "authority.crt"}
        with receiving(settings_of(tmp_path / "node", timeout_s=PATIENCE_S, tls=files)) as door:
            from iscl_monai.service.tls import client_context

            assert door.settings.node.tls is not None
            context_of_peer = client_context(door.settings.node.tls)
            with contextlib.ExitStack() as silent:
                socks = [silent.enter_context(raw(door)) for _ in range(5)]
                for sock in socks:
                    sock.sendall(b"\x16\x03\x01\x02\x00\x01")
                assert door.echo(tls_args=(context_of_peer, "127.0.0.1")) == 0
                assert all(ends(sock) for sock in socks)
            until(lambda: not door.receiver.connections.waiting)


def test_memory_does_not_grow_with_an_object(tmp_path: Path) -> None:
    """The node in a process of its own takes 300 MB, and its peak memory grows by a tenth of that at most."""
    (tmp_path / "node").mkdir()
    settings = settings_of(tmp_path / "node", max_object_mb=400)
    (tmp_path / "settings.json").write_text(settings.model_dump_json(), encoding="utf-8")
    code = Path(__file__).with_name("receiver_alone.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(code.parents[1]), str(code.parents[2])])}
    (path,) = slices(tmp_path / "sent", 1)
    import pydicom

    dataset = pydicom.dcmread(path)
    dataset.PixelData = b""
    head = encode(dataset, is_implicit_vr=False, is_little_endian=True) or b""
    assert head.endswith(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0))
    pixels = 300 * MB
    head = head[:-4] + struct.pack("<I", pixels)
    with subprocess.Popen(
        [sys.executable, str(code), str(tmp_path / "settings.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        before = int(node.stdout.readline())
        with socket.create_connection(("127.0.0.1", settings.node.port), timeout=60) as sock:
            sock.sendall(request())
            assert says(sock) == ACCEPT
            sock.sendall(pdu(4, fragment(command(str(dataset.SOPInstanceUID)), 3)) + pdu(4, fragment(head, 0)))
            block = b"\0" * (128 * 1024 - 6)
            for start in range(0, pixels, len(block)):
                left = pixels - start
                sock.sendall(pdu(4, fragment(block[: min(left, len(block))], 2 if left <= len(block) else 0)))
            assert says(sock) == 4
        node.stdin.close()
        after, rows = map(int, node.stdout.readline().split())
    assert node.returncode == 0
    assert rows == 1
    assert after - before < 30 * MB
