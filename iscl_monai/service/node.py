"""The whole node: its parts, started in order and stopped in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from iscl_monai.errors import OutputRefusal, Refusal
from iscl_monai.service import log as logging
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.store import Move, Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.intake import Arrivals, Intake
from iscl_monai.service.receiving.receiver import Receiver
from iscl_monai.service.sending.commitment_reports import CommitmentReporter
from iscl_monai.service.sending.outbox import record_report
from iscl_monai.service.sending.sender import Sender
from iscl_monai.service.sending.sweep import Sweep
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space
from iscl_monai.service.web.app import create_app
from iscl_monai.service.web.server import WebServer
from iscl_monai.service.working.completion import Completion
from iscl_monai.service.working.recovery import recover_files
from iscl_monai.service.working.resume import clear_job_folders, recover_jobs
from iscl_monai.service.working.retention import Retention
from iscl_monai.service.working.supervisor import Supervisor

LOCK = "lock"
GRACE_S = 20.0

Health = dict[str, tuple[bool, str]]


class Node:
    """A DICOM node.

    Args:
        settings: checked.
        watch: called with every move, for tests (:meth:`iscl_monai.service.database.store.Store.observe`).

    Raises:
        Refusal: another node uses the data folder, the database is unusable, a port is taken, there is no model.
    """

    def __init__(self, settings: Settings, watch: Callable[[Move, bool], None] | None = None) -> None:
        self.settings = settings
        os.umask(0o077)  # what it writes has patient data, and is its own user's alone
        self._lock = _lock(settings.data)
        migrate(settings.data)
        self.store = Store(settings.data)
        if watch is not None:
            self.store.observe(watch)
        self.space = Space(settings.data, settings.disk)
        self.arrivals = Arrivals(time.monotonic)
        self.intake = Intake(self.store, settings, self.space, self.arrivals)
        self._stop_requested = threading.Event()
        self._model_refused = False
        self.sender = Sender(settings, self.store)
        self.supervisor = Supervisor(
            settings, self.store, on_log_line=self.sender.wake, on_model_refused=self._handle_model_refused
        )
        self.completion = Completion(settings, self.store, self.arrivals, on_queued=self.supervisor.wake)
        self.receiver = Receiver(settings, self.store, self.intake, self._record_report)
        self.commitment_reporter = CommitmentReporter(settings, self.store)
        self.sweep = Sweep(settings, self.store, self.intake)
        self.retention = Retention(settings, self.store)
        app = create_app(settings, self.store, self.intake, self.health)
        self.web = WebServer(settings, app)

    def start(self) -> None:
        """Repair what a crash has left, then take connections; the model is loaded meanwhile."""
        recover_files(self.store, self.settings.data)
        recover_jobs(self.store, self.settings.work.attempts)
        clear_job_folders(self.store)
        self.supervisor.start()
        self.completion.loop.start()
        self.sender.start()
        self.commitment_reporter.start()
        self.receiver.start()
        self.web.start()
        self.sweep.start()
        self.retention.loop.start()
        log.info("node.started", ae_title=self.settings.node.ae_title, port=self.settings.node.port)

    def stop(self) -> None:
        """Take no more connections, let running work end or go back to the queue, and close everything."""
        log.info("node.stopping")
        self.receiver.stop(GRACE_S / 2)
        for part in (self.sweep, self.retention.loop, self.completion.loop, self.commitment_reporter, self.sender):
            part.stop()
        self.supervisor.stop(GRACE_S)
        self.web.stop()
        self.store.close()
        os.close(self._lock)
        log.info("node.stopped")

    def run(self) -> None:
        """Start, and go on until SIGTERM or SIGINT.

        Raises:
            Refusal: the worker cannot use the model.
        """
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stop_requested.set())
        try:
            self.start()
            self._stop_requested.wait()
        finally:
            self.stop()
        if self._model_refused:
            raise Refusal(
                f"the worker refused {self.settings.bundle}",
                allowed="a trained bundle and a device of this machine",
                cure="read the worker's line above",
            )

    def health(self) -> Health:
        """Of each part: whether it is alive, and a description."""
        loops = (
            self.completion.loop,
            self.retention.loop,
            self.commitment_reporter.loop,
            self.sweep.loop,
            *self.sender.loops,
        )
        no_room = self.space.no_room_reason()
        return {
            "receiver": (self.receiver.alive, f"{self.settings.node.ae_title} on {self.settings.node.port}"),
            "worker": (
                self.supervisor.ready,
                "model loaded" if self.supervisor.ready else "loading, or starting again",
            ),
            "sender": (self.sender.alive, ""),
            "loops": (all(loop.alive for loop in loops), f"{sum(loop.faults for loop in loops)} faults"),
            "disk": (not no_room, no_room or f"{self.space.free_bytes >> 30} GB free"),
        }

    def _record_report(self, transaction_uid: str, confirmed: list[str], failed: dict[str, str], peer: str) -> None:
        record_report(self.store, transaction_uid, confirmed, failed, by=peer)
        self.sender.wake()

    def _handle_model_refused(self) -> None:
        self._model_refused = True
        self._stop_requested.set()


def _lock(data: Path) -> int:
    """Lock the data folder: one node per folder, until its process ends."""
    import fcntl

    try:
        data.mkdir(parents=True, exist_ok=True)
        handle = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutputRefusal(
            f"{data}: {error.strerror}", allowed="a folder that can be written", cure="give the volume to this user"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutputRefusal(
            f"{data} is in use by another node", allowed="one node per data folder", cure="stop the other one"
        ) from None
    return handle


def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        Refusal: see :class:`Node`.
    """
    logging.set_up()
    try:
        Node(settings).run()
    except Refusal:
        raise
    except Exception:
        log.exception("node.fault")  # a container keeps its log, and not the files it wrote beside it
        raise
