"""A real PACS for tests: an Orthanc of our own on a free port, spoken to by REST and DICOMweb."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from dicom.validators import absent, tool
from pydicom.dataset import Dataset, FileDataset

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN_S = 30


@dataclass(frozen=True)
class Orthanc:
    """A running server.

    Args:
        root: its address.
    """

    root: str

    def ask(self, path: str, body: bytes | None = None, accept: str = "application/json") -> tuple[bytes, str]:
        """The answer to GET, or to POST when there is a body, and its content type."""
        request = urllib.request.Request(self.root + path, data=body, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read(), answer.headers["Content-Type"]

    def told(self, path: str, body: bytes | None = None) -> Any:
        """The same for JSON."""
        return json.loads(self.ask(path, body)[0])

    def store(self, path: Path) -> str:
        """Upload a file; Orthanc's name of the instance."""
        answer = self.told("/instances", path.read_bytes())
        assert answer["Status"] == "Success", answer
        return str(answer["ID"])

    def retrieve_series(self, study: str, series: str) -> list[FileDataset]:
        """Everything of a series by WADO-RS, in the transfer syntax it was stored in."""
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        body, kind = self.ask(f"/dicom-web/studies/{study}/series/{series}", accept=accept)
        parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        return [pydicom.dcmread(BytesIO(part.get_payload(decode=True))) for part in parts.get_payload()]

    def metadata(self, study: str, series: str) -> list[Dataset]:
        """Everything but pixels of a series by WADO-RS."""
        return [Dataset.from_json(one) for one in self.told(f"/dicom-web/studies/{study}/series/{series}/metadata")]


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Start a server that keeps what it has in a folder; no DICOM port is opened.

    Raises:
        pytest.skip.Exception: when Orthanc or its DICOMweb plugin is absent; a failure instead when ``CI=true``.
    """
    program = tool("Orthanc")
    if not PLUGIN.exists():
        absent(f"{PLUGIN} does not exist; make tools installs orthanc-dicomweb on Debian")
    port = _free_port()
    (folder / "db").mkdir()
    (folder / "orthanc.json").write_text(json.dumps(_configuration(folder, port)), encoding="utf-8")
    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=out, stderr=out)
    try:
        server = Orthanc(f"http://127.0.0.1:{port}")
        _wait(server, process, folder / "out.txt")
        yield server
    finally:
        process.kill()  # an orderly end takes seconds, and nothing of it is kept
        process.wait()


def _configuration(folder: Path, port: int) -> dict[str, Any]:
    return {
        "Name": "test-pacs",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "OverwriteInstances": False,
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": True,
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(STARTS_WITHIN_S * 20):
        try:
            process.wait(timeout=0.05)  # it ends only when it cannot start
        except subprocess.TimeoutExpired:
            try:
                server.ask("/system")
            except urllib.error.URLError:
                continue
            return
        break
    raise AssertionError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")
