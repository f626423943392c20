"""The whole node as a process of its own, for tests that kill it, and helpers around it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from dicom.orthanc import Orthanc, free_port
from dicom.validators import tool
from service.killed_node import Forked
from tracing import untraced_programs

HERE = Path(__file__).parent
PATIENCE_S = 90.0


def until(what: Callable[[], Any], state: Callable[[], str] = str, timeout_s: float = PATIENCE_S) -> Any:
    """Ask until the answer is true; it is an upper bound for what must happen, and never what is measured."""
    begun = time.monotonic()
    while not (answer := what()):
        waited = time.monotonic() - begun
        assert waited < timeout_s, state()
        time.sleep(min(0.1, 0.02 + waited / 20))  # what takes longer is asked for less often
    return answer


@dataclass
class NodeUnderTest:
    """A node's settings, and the processes that run it one after the other.

    Args:
        folder: for its data and log.
        bundle: the model.
        pacs: where it sends to and who may send.
        traced: by coverage, see ``killed_node.py``.
    """

    folder: Path
    bundle: Path
    pacs: Orthanc
    port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    more: dict[str, Any] = field(default_factory=dict)
    quiet_s: float = 1.0
    confirm: str = "commitment"
    traced: bool = False
    process: subprocess.Popen[bytes] | Forked | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        path = self.folder / "node.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def settings(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "data": str(self.data),
            "bundle": str(self.bundle),
            "node": {"ae_title": "ISCL", "host": "127.0.0.1", "port": self.port, "timeout_s": 20},
            "peers": [
                {
                    "name": "pacs",
                    "ae_title": "ORTHANC",
                    "host": "127.0.0.1",
                    "port": self.pacs.dicom_port,
                    "confirm": self.confirm,
                    "commitment_timeout_s": 5,
                },
                {"name": "ct", "ae_title": "CT", "may_send": True, "from_hosts": ["127.0.0.1"]},
                {"name": "ct2", "ae_title": "CT2", "may_send": True, "from_hosts": ["127.0.0.1"]},
            ],
            "rules": [
                {"name": "no", "process": False, "quiet_s": self.quiet_s, "when": {"ImageType": ["DERIVED"]}},
                {"name": "all", "when": {"Modality": "CT"}, "quiet_s": self.quiet_s, "send_to": ["pacs"]},
            ],
            "disk": {"reserve_mb": 1, "resume_mb": 1},
            "work": {"device": "cpu", "threads": 1},
            "sending": {"first_wait_s": 0.2, "longest_wait_s": 0.5},
            "web": {"port": self.web_port},
        }
        for name, value in self.more.items():
            values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
        return values

    def start(self, kill_at: str = "") -> None:
        """Start it; for ``kill_at`` see ``killed_node.py``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "node.json"
        configuration.write_text(json.dumps(self.settings()), encoding="utf-8")
        self.pacs.introduce("ISCL", self.port)
        before = len(self.log)
        if not self.environment:
            self.process = Forked(configuration, kill_at, self.folder / "node.log", self.traced)
        else:  # libraries can be loaded beneath a program only when it starts
            with (self.folder / "node.log").open("ab") as log, untraced_programs():
                self.process = subprocess.Popen(
                    [sys.executable, str(HERE / "killed_node.py"), str(configuration), kill_at],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1", **self.environment},
                )
        until(lambda: '"node.started"' in self.log[before:] or self.ended(), lambda: self.log)

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As an administrator would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """What the database says now."""
        with closing(sqlite3.connect(f"file:{self.data / 'node.sqlite'}?mode=ro", uri=True, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(statement, values)]

    def states(self, table: str) -> dict[str, int]:
        found = self.rows(f"SELECT state, count(*) AS count FROM {table} GROUP BY state")
        return {row["state"]: row["count"] for row in found}

    def all_done(self, jobs: int = 1) -> bool:
        """Whether that many jobs are done, and nothing else is going on."""
        if not (self.data / "node.sqlite").exists():
            return False
        states = self.states("jobs")
        busy = {"queued", "running", "sending"} & set(states)
        return states.get("done", 0) >= jobs and not busy and not self.states("series").get("receiving")

    def wait_done(self, jobs: int = 1, timeout_s: float = PATIENCE_S) -> None:
        def state() -> str:
            return f"{self.states('series')} {self.states('jobs')} {self.states('deliveries')}\n{self.log[-6000:]}"

        until(lambda: self.all_done(jobs) or self.ended(), state, timeout_s)
        assert not self.ended(), self.log[-6000:]


@contextmanager
def stopped_at_the_end(node: NodeUnderTest) -> Iterator[NodeUnderTest]:
    try:
        yield node
    finally:
        if node.process is not None and not node.ended():
            node.kill()


def unmount(place: Path) -> None:
    """Let go of a file system; the worker of a node that was killed ends a moment later, and holds it till then."""
    until(lambda: subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0)


def storescu(files: Sequence[Path], port: int, *, ae: str = "CT", more: Sequence[str] = ()) -> bool:
    """Send as a scanner would, by dcmtk; whether all was taken. (A virtual environment may have another storescu.)"""
    tool("dcmdump")
    command = ["/usr/bin/storescu", "-aet", ae, "-aec", "ISCL", *more, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def sent_uids(files: Sequence[Path]) -> set[str]:
    return {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files}


def derived_sources(pacs: Orthanc, study_uid: str) -> list[str]:
    """The source that each derived object of a study names, with repeats if there are any; by REST."""
    found: list[str] = []
    query = json.dumps({"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}, "Expand": False}).encode()
    for instance in pacs.answer("/tools/find", query):
        tags = pacs.answer(f"/instances/{instance}/simplified-tags")
        if tags["ImageType"].startswith("DERIVED"):
            found.append(tags["SourceImageSequence"][0]["ReferencedSOPInstanceUID"])
    return found
