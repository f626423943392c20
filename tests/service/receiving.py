"""A receiver on a free port of this machine, and peers that speak with it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom.orthanc import free_port
from dicom.synthetic import Series
from dicom.validators import tool
from pynetdicom import AE
from service.rows import rows_of
from sqlalchemy import select

from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import audit, instances, refusals
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.receiving.receiver import Receiver
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space

WITHIN_S = 60.0
CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


def until(holds: Callable[[], Any]) -> Any:
    """What a question answers as soon as it is true; the test fails if it never is."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < WITHIN_S:
        answer = holds()
        if answer:
            return answer
        time.sleep(min(0.05, 0.002 + waited / 20))  # what takes longer is asked for less often
    raise AssertionError(f"never became true: {holds}")


def settings_of(folder: Path, peers: list[dict[str, Any]] | None = None, **node: Any) -> Settings:
    """Settings for tests: one scanner on this machine, and a disk that is never too full."""
    values = {"ae_title": "ISCL", "host": "127.0.0.1", "port": free_port(), "timeout_s": 10, **node}
    scanner = {"name": "scanner", "ae_title": "CT1", "from_hosts": ["127.0.0.1"]}
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    return Settings.model_validate(
        {
            "data": folder,
            "bundle": folder,
            "node": values,
            "peers": [scanner, pacs] if peers is None else peers,
            "rules": [{"name": "none", "process": False}],
            "disk": {"reserve_mb": 1, "resume_mb": 1},
            "sending": {"first_wait_s": 0.05, "longest_wait_s": 0.2, "tries": 3},
        }
    )


@dataclass
class Door:
    """A receiver that runs, and all that was told about it."""

    settings: Settings
    store: Store
    intake: Intake
    receiver: Receiver
    arrived: list[int] = field(default_factory=list)
    reports: list[tuple[str, list[str], dict[str, str]]] = field(default_factory=list)
    reporters: list[str] = field(default_factory=list)
    report_fault: Exception | None = None

    @property
    def port(self) -> int:
        return self.settings.node.port

    def report(self, transaction: str, confirmed: list[str], failed: dict[str, str], peer: str) -> None:
        self.reporters.append(peer)
        if self.report_fault is not None:
            raise self.report_fault
        self.reports.append((transaction, confirmed, failed))

    def rows(self, table: Any = instances) -> list[Any]:
        return list(rows_of(self.store, select(table).order_by(table.c.id)))

    def stored(self) -> dict[str, bytes]:
        """Content of the files of all rows, by SOP Instance UID."""
        data = self.settings.data
        return {row["sop_instance_uid"]: (data / row["file"]).read_bytes() for row in self.rows()}

    def reasons(self) -> list[str]:
        self.settle()
        return [row["reason"] for row in self.rows(refusals)]

    def noted(self) -> list[str]:
        self.settle()
        return [row["detail"] for row in self.rows(audit)]

    def settle(self) -> None:
        """Wait until every association is over: the node writes some rows after it has answered its peer."""
        server = self.receiver._server
        until(lambda: server is None or not server.active_associations)

    def leftovers(self) -> list[Path]:
        """Files that no row has."""
        data = self.settings.data
        claimed = {data / row["file"] for row in self.rows() if row["file"]}
        there = {path for place in ("coming", "sources") for path in (data / place).rglob("*") if path.is_file()}
        return sorted(there - claimed)

    def echo(self, **more: Any) -> int | None:
        """Status of a C-ECHO; None if there was no association."""
        with self.association(VERIFICATION, **more) as association:
            return int(association.send_c_echo().Status) if association.is_established else None

    def send(self, *files: Path, sender: str = "CT1") -> list[Any]:
        """Statuses of C-STORE for files, on one association, as pynetdicom sends them."""
        with self.association(CT, sender=sender) as association:
            assert association.is_established
            return [association.send_c_store(file) for file in files]

    @contextmanager
    def association(self, *classes: str, sender: str = "CT1", called: str = "ISCL", **more: Any) -> Iterator[Any]:
        ae = AE(sender)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = WITHIN_S
        for sop_class in classes:
            ae.add_requested_context(sop_class, more.get("syntaxes") or ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
        kept = {name: value for name, value in more.items() if name != "syntaxes"}
        association = ae.associate("127.0.0.1", self.port, ae_title=called, **kept)
        sock = association.dul.socket.socket
        try:
            yield association
        finally:
            if association.is_established:
                association.release()
            if sock is not None:  # pynetdicom does not when the other side was faster
                sock.close()


def opened(settings: Settings) -> Door:
    """All of it, over a migrated database, not yet started."""
    migrate(settings.data)
    store = Store(settings.data)
    arrived: list[int] = []
    intake = Intake(store, settings, Space(settings.data, settings.disk), arrived.append)
    door: Door
    receiver = Receiver(settings, store, intake, lambda *reported: door.report(*reported))
    door = Door(settings, store, intake, receiver, arrived)
    return door


@contextmanager
def receiving(settings: Settings) -> Iterator[Door]:
    """A receiver that runs while the block does."""
    door = opened(settings)
    door.receiver.start()
    try:
        yield door
    finally:
        door.receiver.stop(grace_s=WITHIN_S)
        door.store.close()


def slices(folder: Path, count: int = 3, **more: Any) -> list[Path]:
    """Files of a small synthetic series."""
    return Series(slots=range(count), **more).write(folder)


def dcmtk(program: str, door: Door, *arguments: object, title: str = "CT1") -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's senders against a receiver."""
    environment = {**os.environ, "TCP_NODELAY": "1"}
    command = [tool(program), "-aet", title, "-aec", "ISCL", *map(str, arguments)]
    place = ["127.0.0.1", str(door.port)]
    at = next((index for index, part in enumerate(command) if part == "--"), len(command))
    command[at : at + 1] = place
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=WITHIN_S, errors="replace", env=environment
    )


@contextmanager
def certificates(folder: Path) -> Iterator[Path]:
    """An authority, and certificates of node and peer that it signed, made by openssl in a folder."""
    program = tool("openssl")

    def run(*arguments: object) -> None:
        subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)

    def pair(name: str, *more: object) -> None:
        run(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", *more),
        )

    folder.mkdir(parents=True, exist_ok=True)
    pair("authority")
    pair("stranger")
    for name in ("node", "peer"):
        pair(name, "-CA", folder / "authority.crt", "-CAkey", folder / "authority.key")
    yield folder
