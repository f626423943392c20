"""A real PACS for tests: an Orthanc of our own on free ports, spoken to by REST, DICOMweb and, if asked, DIMSE."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from dicom.validators import absent, tool
from pydicom.dataset import Dataset, FileDataset

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN_S = 30


@dataclass(frozen=True, kw_only=True)
class Dicom:
    """What the server does on its DICOM port.

    Args:
        ae_title: of the server.
        port: for DICOM; 0 for a free one. Give one to start a server again where it was.
        modalities: whom it knows, from AE title to port on this machine; others can be introduced later.
        tls: PEM files of certificate, key and authority; a client certificate is then asked for.
        lua: a script it runs.
        more: other lines of its configuration.
    """

    ae_title: str = "ORTHANC"
    port: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)
    tls: tuple[Path, Path, Path] | None = None
    lua: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Orthanc:
    """A running server.

    Args:
        root: its address.
        dicom_port: 0 when it is closed.
        process: for tests that kill or halt it.
    """

    root: str
    dicom_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def introduce(self, ae_title: str, port: int, **more: Any) -> None:
        """Make an application entity on this machine known to the server, under its AE title."""
        modality = {"AET": ae_title, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True, **more}
        request = urllib.request.Request(
            f"{self.root}/modalities/{ae_title}", data=json.dumps(modality).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=60).close()

    def sop_instance_uids(self) -> list[str]:
        """Of everything it has, sorted."""
        listed = self.answer("/instances?expand")
        return sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in listed)

    def forget(self) -> None:
        """Delete everything it has."""
        everything = self.answer("/patients")
        if everything:
            self.ask("/tools/bulk-delete", json.dumps({"Resources": everything}).encode())

    def ask(self, path: str, body: bytes | None = None, accept: str = "application/json") -> tuple[bytes, str]:
        """The answer to GET, or to POST when there is a body, and its content type."""
        request = urllib.request.Request(self.root + path, data=body, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read(), answer.headers["Content-Type"]

    def answer(self, path: str, body: bytes | None = None) -> Any:
        """The same for JSON."""
        return json.loads(self.ask(path, body)[0])

    def store(self, path: Path) -> str:
        """Upload a file; Orthanc's name of the instance."""
        answer = self.answer("/instances", path.read_bytes())
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
        return [Dataset.from_json(one) for one in self.answer(f"/dicom-web/studies/{study}/series/{series}/metadata")]


@contextmanager
def running(folder: Path, dicom: Dicom | None = None, http_port: int = 0) -> Iterator[Orthanc]:
    """Start a server that keeps what it has in a folder, where a later one finds it again.

    Args:
        folder: exists.
        dicom: opens the DICOM port; closed without it.
        http_port: 0 for a free one.

    Raises:
        pytest.skip.Exception: when Orthanc or its DICOMweb plugin is absent; a failure instead when ``CI=true``.
    """
    program = tool("Orthanc")
    if not PLUGIN.exists():
        absent(f"{PLUGIN} does not exist; make tools installs orthanc-dicomweb on Debian")
    port = http_port or free_port()
    dicom_port = (dicom.port or free_port()) if dicom else 0
    (folder / "db").mkdir(exist_ok=True)
    configuration = _configuration(folder, port) | (_dicom(folder, dicom, dicom_port) if dicom else {})
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=out, stderr=out)
    try:
        server = Orthanc(f"http://127.0.0.1:{port}", dicom_port, process)
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


def _dicom(folder: Path, dicom: Dicom, port: int) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "DicomServerEnabled": True,
        "DicomAet": dicom.ae_title,
        "DicomPort": port,
        **{f"DicomAlwaysAllow{what}": True for what in ("Echo", "Store", "Find", "Get", "Move")},
        "DicomModalities": {
            title: {
                "AET": title,
                "Host": "127.0.0.1",
                "Port": where,
                "AllowStorageCommitment": True,
                "UseDicomTls": dicom.tls is not None,
            }
            for title, where in dicom.modalities.items()
        },
        "StableAge": 1,
    }
    if dicom.tls is not None:
        certificate, key, authority = map(str, dicom.tls)
        configuration |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": certificate,
            "DicomTlsPrivateKey": key,
            "DicomTlsTrustedCertificates": authority,
            "DicomTlsRemoteCertificateRequired": True,
        }
    if dicom.lua:
        script = folder / "script.lua"
        script.write_text(dicom.lua, encoding="utf-8")
        configuration["LuaScripts"] = [str(script)]
    return configuration | dict(dicom.more)


def free_port() -> int:
    """A port of this machine that nobody listens on, and that no other call of this run is given.

    It is below the ports that Linux takes for outgoing connections (32768 and up), so none of those can take it before
    a server does; pytest's workers have every n-th port each.
    """
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port of this worker was given away")


def _ports() -> Iterator[int]:
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{name}", "") for name in ("", "_COUNT"))
    step, lane = int(workers or 1), int(worker.removeprefix("gw") or 0)
    every = range(20_000 + lane, 32_768, step)
    start = os.getpid() * 97 % len(every)  # another run on this machine begins elsewhere
    return iter([*every[start:], *every[:start]])


_PORTS = _ports()


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
