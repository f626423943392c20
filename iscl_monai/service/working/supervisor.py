"""Starts the worker process, starts it again when it dies, and puts its jobs back into the queue."""

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
from iscl_monai.service.working.protocol import MODEL_FAULT, MODEL_REFUSED, READY, STOP, WAKE
from iscl_monai.service.working.resume import clear_job_folders, recover_jobs

LOOKS_EVERY_S = 0.5
RESTARTS_AFTER_S = 5.0
MOST_FIRST_DEATHS = 3  # of workers that have not loaded the model even once


class Supervisor:
    """The node's side of the worker process.

    Args:
        settings: handed to it.
        store: the database.
        on_log_line: called whenever the worker has written a line to the log; it may have made derived objects.
        on_model_refused: called when the worker cannot use the model, which starting again cannot cure.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        on_log_line: Callable[[], object],
        on_model_refused: Callable[[], object],
    ) -> None:
        self.settings = settings
        self.store = store
        self.on_log_line = on_log_line
        self.on_model_refused = on_model_refused
        self.ready = False
        self.deaths = 0
        self.outcome_known = threading.Event()  # the first worker has loaded its model, or that is given up
        self._has_been_ready = False
        self._to_recover = False  # a worker has died, and its jobs are still "running" in the database
        self._process: subprocess.Popen[str] | None = None
        self._stdin_lock = threading.Lock()
        self.loop = Loop("supervisor", self._step)

    def start(self) -> None:
        """Start the worker; it loads its model while the node goes on."""
        self.loop.start()

    def wake(self) -> None:
        """Have the worker look for a job."""
        self._send_command(WAKE)

    @property
    def description(self) -> str:
        """What the worker does, for the health check."""
        died = f"; it has died {self.deaths} times" if self.deaths else ""
        return f"{'model loaded' if self.ready else 'loading, or starting again'}{died}"

    @property
    def pid(self) -> int | None:
        """Of the worker, if there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self, grace_s: float) -> None:
        """Have the worker put its job back, and end; after the grace it is killed, and recovery puts it back."""
        self.loop.stop()
        process = self._process
        if process is None:
            return
        self._send_command(STOP)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._close_stdin()
        recover_jobs(self.store, self.settings.work.attempts, died=False)

    def _step(self) -> float:
        if self._to_recover:  # before another worker begins, and as often as the database needs for it
            recover_jobs(self.store, self.settings.work.attempts)
            clear_job_folders(self.store)
            self._to_recover = False
        if self._process is None:
            self._process = self._start_process()
        code = self._process.poll()
        if code is None:
            return LOOKS_EVERY_S
        self.ready = False
        self._close_stdin()
        self._process = None
        if code == MODEL_REFUSED:
            self.on_model_refused()
            return RESTARTS_AFTER_S
        self.deaths += 1
        self._to_recover = True
        log.error("worker.died", code=code)
        if not self._has_been_ready and (code == MODEL_FAULT or self.deaths >= MOST_FIRST_DEATHS):
            self.on_model_refused()  # it never had a model, and cannot be expected to get one
            return RESTARTS_AFTER_S
        return RESTARTS_AFTER_S if self.deaths > 1 else 0.0

    def _start_process(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "iscl_monai.service.working.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",  # a library may print anything: a line that is no text shall not end the reading
            start_new_session=True,  # signals to the group are the node's to deal with
        )
        threading.Thread(target=self._forward_log, args=(process,), name="worker-log", daemon=True).start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(self.settings.model_dump_json() + "\n")
            process.stdin.flush()
        return process

    def _forward_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if f'"{READY}"' in line:
                    self.ready = self._has_been_ready = True
                    self.outcome_known.set()
                sys.stdout.write(line)
                sys.stdout.flush()
                self.on_log_line()

    def _close_stdin(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with self._stdin_lock, suppress(OSError):  # what had not been written has no reader any more
                process.stdin.close()

    def _send_command(self, command: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._stdin_lock, suppress(OSError, ValueError):  # it has just died; the loop will see it
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
