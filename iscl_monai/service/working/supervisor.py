"""Starts the worker process, starts it again when it dies, and gives its jobs back to the queue."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.settings import Settings
from iscl_monai.service.working.resume import clear_job_folders, recover_jobs

LOOKS_EVERY_S = 0.5
RESTARTS_AFTER_S = 5.0
REFUSED = 2


class Supervisor:
    """The node's side of the worker process.

    Args:
        settings: handed to it.
        store: the database.
        spoke: called whenever the worker has written a line to the log; it may have made derived objects.
        refused: called when the worker says that the model cannot be used, which starting again cannot cure.
    """

    def __init__(
        self, settings: Settings, store: Store, *, spoke: Callable[[], object], refused: Callable[[], object]
    ) -> None:
        self.settings = settings
        self.store = store
        self.spoke = spoke
        self.refused = refused
        self.ready = False
        self.deaths = 0
        self._to_recover = False  # a worker has died, and what it had in hand is still taken for running
        self._process: subprocess.Popen[str] | None = None
        self._words = threading.Lock()
        self._loop = Loop("supervisor", self._step)

    def start(self) -> None:
        """Start the worker; it loads its model while the node goes on."""
        self._loop.start()

    def wake(self) -> None:
        """There may be a job."""
        self._say("wake")

    @property
    def pid(self) -> int | None:
        """Of the worker, if there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self, grace_s: float) -> None:
        """Let the worker put its job back, and end; after the grace it is killed, and recovery puts it back."""
        self._loop.stop()
        process = self._process
        if process is None:
            return
        self._say("stop")
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        recover_jobs(self.store, self.settings.work.attempts, died=False)

    def _step(self) -> float:
        if self._to_recover:  # before another worker begins, and as often as the database needs for it
            recover_jobs(self.store, self.settings.work.attempts)
            clear_job_folders(self.store)
            self._to_recover = False
        if self._process is None:
            self._process = self._started()
        code = self._process.poll()
        if code is None:
            return LOOKS_EVERY_S
        self.ready = False
        self._process = None
        if code == REFUSED:
            self.refused()
            return RESTARTS_AFTER_S
        self.deaths += 1
        self._to_recover = True
        log.error("worker.died", code=code)
        return RESTARTS_AFTER_S if self.deaths > 1 else 0.0

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "iscl_monai.service.working.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # signals to the group are the node's to deal with
        )
        threading.Thread(target=self._listen, args=(process,), name="worker-log", daemon=True).start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(self.settings.model_dump_json() + "\n")
            process.stdin.flush()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if '"worker.ready"' in line:
                self.ready = True
            sys.stdout.write(line)
            sys.stdout.flush()
            self.spoke()

    def _say(self, word: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._words, suppress(OSError, ValueError):  # it has just died; the loop will see it
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
