"""The whole node: its parts, started in order and stopped in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from iscl_monai.errors import OutputRefusal, Refusal, StoreUnavailable
from iscl_monai.service import log as logging
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.store import Move, Store
from iscl_monai.service.database.write_check import WriteCheck
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.notify.notifier import Notifier
from iscl_monai.service.receiving.intake import Arrivals, Intake
from iscl_monai.service.receiving.receiver import Receiver
from iscl_monai.service.reload import SettingsReload
from iscl_monai.service.sending.commitment_reports import CommitmentReporter
from iscl_monai.service.sending.echoes import Echoes
from iscl_monai.service.sending.outbox import record_report
from iscl_monai.service.sending.sender import Sender
from iscl_monai.service.sending.sweep import Sweep
from iscl_monai.service.settings import Settings
from iscl_monai.service.signals import RELOAD, answering
from iscl_monai.service.space import Space
from iscl_monai.service.status import LOCK
from iscl_monai.service.web.app import create_app
from iscl_monai.service.web.controls import Controls
from iscl_monai.service.web.counts import Counts
from iscl_monai.service.web.server import WebServer
from iscl_monai.service.working.completion import Completion
from iscl_monai.service.working.recovery import recover_files
from iscl_monai.service.working.resume import clear_job_folders, recover_jobs
from iscl_monai.service.working.retention import Retention
from iscl_monai.service.working.supervisor import Supervisor

GRACE_S = 20.0
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.1
MOST_NAMED = 3  # members of a loop that the health check names

Health = dict[str, tuple[bool, str]]


class Node:
    """A DICOM node.

    Args:
        settings: checked.
        watch: called with every move, for tests (:meth:`iscl_monai.service.database.store.Store.observe`).
        settings_file: that rules are read from again on SIGHUP, or from the pages.

    Raises:
        Refusal: another node uses the data folder, the database is unusable, a port is taken, there is no model.
    """

    def __init__(
        self,
        settings: Settings,
        watch: Callable[[Move, bool], None] | None = None,
        settings_file: Path | None = None,
    ) -> None:
        self.settings = settings
        os.umask(0o077)  # what it writes has patient data, and is its own user's alone
        self._lock = _lock(settings.data)
        migrate(settings.data)
        self.store = Store(settings.data)
        self._write_check = WriteCheck(self.store.prove_writable)
        _check_writable(self.store)
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
        self.echoes = Echoes(settings)
        self.retention = Retention(settings, self.store)
        self.notifier = Notifier(settings, self.store, self.health)
        self.reload = SettingsReload(settings_file, settings, self.store, self._use) if settings_file else None
        controls = Controls(self.echoes.peers, self.sender.read_pause, self.reload)
        self.app = app = create_app(settings, self.store, self.intake, self.health, self.counts, controls)
        self.web = WebServer(settings, app)

    def start(self) -> None:
        """Repair what a crash has left, wait for the model, and only then take connections.

        A node without a model would acknowledge series that it can do nothing with, at every start anew.
        """
        recover_files(self.store, self.settings.data)
        recover_jobs(self.store, self.settings.work.attempts)
        clear_job_folders(self.store)
        self.receiver.check_port()  # before the model, which takes a while
        self.web.check_port()
        self.supervisor.start()
        self.supervisor.outcome_known.wait()
        if self._stop_requested.is_set():
            return
        self.completion.loop.start()
        self.sender.start()
        self.commitment_reporter.start()
        self.receiver.start()
        self.web.start()
        self.sweep.start()
        self.echoes.start()
        self.notifier.start()
        self.retention.loop.start()
        log.info("node.started", ae_title=self.settings.node.ae_title, port=self.settings.node.port)

    def stop(self) -> None:
        """Take no more connections, let running work end or go back to the queue, and close everything."""
        log.info("node.stopping")
        self.receiver.stop(GRACE_S / 2)
        for part in (
            self.notifier,
            self.echoes,
            self.sweep,
            self.retention.loop,
            self.completion.loop,
            self.commitment_reporter,
            self.sender,
        ):
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
        answers: dict[signal.Signals, Callable[[], object]] = dict.fromkeys(
            (signal.SIGTERM, signal.SIGINT), self._request_stop
        )
        if self.reload is not None:
            by_signal = self.reload.reload_by_signal
            answers[RELOAD] = lambda: threading.Thread(target=by_signal, daemon=True).start()
        with answering(answers):
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

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread that works on rows."""
        return (
            self.completion.loop,
            self.retention.loop,
            self.commitment_reporter.loop,
            self.supervisor.loop,
            *self.sweep.loops,
            *self.echoes.loops,
            *self.notifier.loops,
            *self.sender.loops,
        )

    def health(self) -> Health:
        """Of each part: whether it is well, and a description; a name of two words begins with the kind of part."""
        no_room, unwritable = self.space.no_room_reason(), self._write_check.failure()
        faults = sum(loop.faults for loop in self.loops)
        parts = {
            "receiver": (self.receiver.alive, f"{self.settings.node.ae_title} on {self.settings.node.port}"),
            "worker": (self.supervisor.ready, self.supervisor.description),
            "sender": (self.sender.alive, ""),
            "loops": (all(loop.alive for loop in self.loops), f"{faults} faults"),
            "disk": (not no_room, no_room or f"{self.space.free_bytes >> 30} GB free"),
            "database": (not unwritable, unwritable),
        }
        parts.update(self._destinations_health())
        for name, swept in self.sweep.peers.items():
            parts[f"sweep {name}"] = (not swept.trouble, swept.trouble)
        for name, teller in self.notifier.tellers.items():
            parts[f"notify {name}"] = (not teller.trouble, teller.trouble)
        for loop in self.loops:
            failing = loop.failing
            text = "; ".join(f"{member}: {error}" for member, error in list(failing.items())[:MOST_NAMED])
            parts[f"loop {loop.name}"] = (not failing, text)
        return parts

    def _destinations_health(self) -> Health:
        """Of each destination; what a person has paused is no fault."""
        parts: Health = {}
        for name, destination in self.sender.destinations.items():
            if destination.pause is not None:
                parts[f"destination {name}"] = (True, destination.pause.description)
                continue
            trouble = destination.trouble or self.echoes.peers[name].trouble
            parts[f"destination {name}"] = (not trouble, trouble)
        return parts

    def counts(self) -> Counts:
        """What has gone wrong since the start."""
        return Counts(
            loop_faults={loop.name: loop.faults for loop in self.loops},
            sweep_failures={name: swept.failures for name, swept in self.sweep.peers.items()},
            worker_deaths=self.supervisor.deaths,
        )

    def _record_report(self, transaction_uid: str, confirmed: list[str], failed: dict[str, str], peer: str) -> None:
        record_report(self.store, transaction_uid, confirmed, failed, by=peer)
        self.sender.wake()

    def _use(self, settings: Settings) -> None:
        """Decide by other rules from now on."""
        self.completion.settings = settings
        for swept in self.sweep.peers.values():
            swept.settings = settings
        self.echoes.use(settings)
        self.app.state.site = replace(self.app.state.site, settings=settings)

    def _handle_model_refused(self) -> None:
        self._model_refused = True
        self._request_stop()

    def _request_stop(self) -> None:
        self._stop_requested.set()
        self.supervisor.outcome_known.set()  # a start that waits for the model waits no longer


def _check_writable(store: Store) -> None:
    """Refuse to start on a database that cannot be written; a full disk is let pass, as retention may make room on it.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    try:
        store.prove_writable()
    except StoreUnavailable as error:
        if "is full" not in error.came:
            raise
        log.error("node.disk_full", error=str(error))


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
    for _ in range(LOCK_TRIES):  # `node status` holds it for a moment
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        time.sleep(LOCK_PAUSE_S)
    os.close(handle)
    raise OutputRefusal(
        f"{data} is in use by another node", allowed="one node per data folder", cure="stop the other one"
    )


def serve(settings: Settings, settings_file: Path) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        Refusal: see :class:`Node`.
    """
    logging.set_up()
    try:
        Node(settings, settings_file=settings_file).run()
    except Refusal:
        raise
    except Exception:
        log.exception("node.fault")  # a container keeps its log, and not the files it wrote beside it
        raise
