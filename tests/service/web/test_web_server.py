"""The listening side, over real sockets: ports, TLS, limits, and the end."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from dicom.orthanc import free_port
from dicom.synthetic import Series
from service.certificates import make_certificates
from service.web.plant import PASSWORD, TOKEN, Plant
from service.web.test_web_stow import TYPE, body

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.web import server
from iscl_monai.service.web.server import WebServer


@contextmanager
def running(plant: Plant) -> Iterator[str]:
    started = WebServer(plant.settings, plant.app)
    started.start()
    try:
        yield f"127.0.0.1:{plant.settings.web.port}"
    finally:
        assert started.stop()
        assert not started.alive


@pytest.fixture
def here(plant: Plant) -> Iterator[str]:
    with running(plant.with_web(port=free_port())) as address:
        yield address


def test_pages_and_objects_over_a_real_connection(plant: Plant, here: str) -> None:
    with httpx.Client(base_url=f"http://{here}") as client:
        answer = client.get("/healthz")
        assert answer.json()["status"] == "ok"
        assert "server" not in answer.headers
        form = {"name": "viewer", "password": PASSWORD}
        assert client.post("/login", data=form, headers={"origin": f"http://{here}"}).status_code == 303
        assert client.get("/").status_code == 200
        sent = [path.read_bytes() for path in Series(rows=16, columns=16).write(plant.folder / "scan")]
        content = body(*sent)
        pieces = (content[start : start + 777] for start in range(0, len(content), 777))
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": TYPE}
        assert client.post("/dicom-web/studies", content=pieces, headers=headers).status_code == 200
        assert "synthetic" in client.get("/").text


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/login", 200), ("/", 401), ("/nowhere", 404)])
def test_head_is_answered_as_get_without_content(path: str, status: int, here: str) -> None:
    """Some probes ask so; every server has to know it (RFC 9110 9.1)."""
    answer = raw(here, f"HEAD {path} HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.endswith(b"\r\n\r\n"), "and nothing behind its headers"


def test_taken_port_is_told_in_one_line(plant: Plant) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        plant.with_web(port=taken.getsockname()[1])
        with pytest.raises(ConfigRefusal, match=f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}") as refusal:
            WebServer(plant.settings, plant.app).start()
        assert "\n" not in str(refusal.value)


def test_port_is_free_again_afterwards(plant: Plant) -> None:
    plant.with_web(port=free_port())
    for _ in range(2):
        with running(plant) as address:
            assert httpx.get(f"http://{address}/readyz").status_code == 200


def raw(address: str, data: bytes) -> bytes:
    """What comes back until the other side hangs up."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        received = b""
        while block := connection.recv(65536):
            received += block
        return received


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: " + b"x" * 70_000, b"\x16\x03\x01 no http\r\n\r\n"]
)
def test_headers_without_end_and_nonsense_are_hung_up_on(here: str, data: bytes) -> None:
    with suppress(ConnectionResetError):  # it need not listen to the end
        assert raw(here, data).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"http://{here}/healthz").status_code == 200


@pytest.mark.parametrize("data", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_whoever_says_nothing_is_hung_up_on(plant: Plant, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN_S", 0.05)
    with running(plant.with_web(port=free_port())) as address:
        assert raw(address, data) == b""


def test_request_that_stops_in_its_body_is_hung_up_on(plant: Plant, here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_monai.service.web.shield.SILENCE_S", 0.05)
    headers = ("Host: x", f"Authorization: Bearer {TOKEN}", f"Content-Type: {TYPE}", "Connection: close")
    head = "\r\n".join(("POST /dicom-web/studies HTTP/1.1", *headers, ""))
    answer = raw(here, head.encode() + b"Content-Length: 1000000\r\n\r\n" + body(b"DICM" * 100)[:200])
    assert answer.startswith(b"HTTP/1.1 400")
    assert list((plant.store.data / "coming").iterdir()) == []


def test_tls_is_spoken_and_nothing_older_than_1_2(plant: Plant, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    plant.with_web(port=free_port(), certificate=made.node.certificate, key=made.node.key)
    with running(plant) as address:
        context = ssl.create_default_context(cafile=str(made.authority))
        with httpx.Client(base_url=f"https://localhost:{address.partition(':')[2]}", verify=context) as client:
            form = {"name": "viewer", "password": PASSWORD}
            answer = client.post("/login", data=form)
            assert "; secure" in answer.headers["set-cookie"].lower()
            assert answer.headers["strict-transport-security"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{address}/healthz")
    ours = server._ssl_context(plant.settings.web)
    assert ours is not None
    assert ours.minimum_version == ssl.TLSVersion.TLSv1_2


def test_certificate_that_does_not_fit_is_told_in_one_line(plant: Plant, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    certificate, key = made.node.certificate, made.client.key
    with pytest.raises(ConfigRefusal, match="certificate and key"):
        WebServer(plant.with_web(certificate=certificate, key=key).settings, plant.app)
    with pytest.raises(ConfigRefusal, match="No such file"):
        WebServer(plant.with_web(certificate=tmp_path / "absent", key=key).settings, plant.app)


def test_tokens_are_kept_as_digests_only(plant: Plant) -> None:
    assert TOKEN not in str(plant.settings)
    assert plant.settings.web.clients[0].token_sha256 == hashlib.sha256(TOKEN.encode()).hexdigest()
