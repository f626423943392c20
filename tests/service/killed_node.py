"""Run a node that kills itself, as a power cut would, when a row makes a chosen move.

The move is ``TABLE:BEFORE->AFTER:PHASE``; PHASE is ``before`` or ``after`` the commit. The moves of the worker process
are watched in there, and take the node with them. Where PHASE is ``halt``, the worker halts itself after the first such
commit, and nobody is killed; it then looks for more urgent work after each slice, as small ones take no time.

Most tests fork the node from a server that has imported everything (:class:`Forked`), since importing torch and MONAI
takes most of the time a node needs to start; ``python killed_node.py SETTINGS.json MOVE`` starts one from scratch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKER = "iscl_monai.service.working.worker"
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tracing import stop_tracing, untraced  # noqa: E402 - it is found only now if this is run as a program

PRELOADED = [WORKER, "iscl_monai.service.node", "alembic.command", "sqlalchemy.dialects.sqlite", "coverage"]
"""What every node imports, some of it late: half of the time until it has started."""


class Forked:
    """A node as a process of its own, with the face of :class:`subprocess.Popen`.

    Args:
        settings_file: of the node, JSON.
        kill_at: the move; "" for none.
        log: takes what the node prints.
        traced: by coverage, which is of use only where the node is not killed.
    """

    context: Any = None

    def __init__(self, settings_file: Path, kill_at: str, log: Path, traced: bool) -> None:
        if Forked.context is None:
            Forked.context = multiprocessing.get_context("forkserver")
            Forked.context.set_forkserver_preload(PRELOADED)
            with untraced():
                forkserver.ensure_running()
        arguments = (str(settings_file), kill_at, str(log), traced)
        self.process = Forked.context.Process(target=run, args=arguments, daemon=True)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it did not end"
        return int(self.process.exitcode)


def run(settings_file: str, kill_at: str, log: str, traced: bool) -> None:
    """In the forked process."""
    if not traced:
        stop_tracing()
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    node(settings_file, kill_at, early=EarlyWorker(kill_at))


class EarlyWorker:
    """The worker process, forked before the node has threads; it waits for its settings as one that was started would.

    Args:
        kill_at: the move.
    """

    def __init__(self, kill_at: str) -> None:
        (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ours_in)
            os.close(ours_out)
            os.setsid()
            os.dup2(theirs_in, 0)
            os.dup2(theirs_out, 1)
            sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", buffering=1, closefd=False)
            code = 1
            stop_tracing()
            try:
                code = worker(kill_at)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin, self.stdout = os.fdopen(ours_in, "w"), os.fdopen(ours_out)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def killer(kill_at: str, victims: list[int]) -> Callable[[Any, bool], None] | None:
    """An observer of moves that ends everything at the chosen one."""
    where, _, phase = kill_at.rpartition(":")
    if phase not in ("before", "after"):
        return None

    def watch(move: Any, committed: bool) -> None:
        if where == f"{move.table}:{move.before or ''}->{move.after}" and committed == (phase == "after"):
            for victim in victims:
                os.kill(victim, signal.SIGKILL)

    return watch


def halter(where: str) -> Callable[[Any, bool], None]:
    """An observer that halts this process once, after the first chosen move; SIGCONT lets it go on."""
    halted: list[bool] = []

    def watch(move: Any, committed: bool) -> None:
        if committed and not halted and where == f"{move.table}:{move.before or ''}->{move.after}":
            halted.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)

    return watch


def node(settings_file: str, kill_at: str, early: EarlyWorker | None = None) -> None:
    from iscl_monai.service import log
    from iscl_monai.service.node import Node
    from iscl_monai.service.settings import Settings
    from iscl_monai.service.working import supervisor

    log.set_up()
    log.log.info("node.starts")
    start, forked = subprocess.Popen, [early] if early else []

    def popen(command: list[str], **options: Any) -> Any:
        if command[-1] != WORKER:
            return start(command, **options)
        return forked.pop() if forked else start([sys.executable, __file__, "worker", kill_at], **options)

    supervisor.subprocess.Popen = popen  # type: ignore[misc, assignment]
    settings = Settings.model_validate_json(Path(settings_file).read_text(encoding="utf-8"))
    rules = Path(settings_file).with_suffix(".toml")  # read on SIGHUP, for tests that have written it
    Node(settings, watch=killer(kill_at, [os.getpid()]), settings_file=rules).run()


def worker(kill_at: str) -> int:
    from iscl_monai.service.database.store import Store
    from iscl_monai.service.working import result
    from iscl_monai.service.working import worker as real

    where, _, phase = kill_at.rpartition(":")
    watch = halter(where) if phase == "halt" else killer(kill_at, [os.getppid(), os.getpid()])
    if phase == "halt":
        result.CHECKS_EVERY_S = 0.0

    class Watched(Store):
        def __init__(self, data: Path) -> None:
            super().__init__(data)
            if watch is not None:
                self.observe(watch)

    real.Store = Watched  # type: ignore[misc]
    real._flush_each_line()
    return real.main()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        sys.exit(worker(sys.argv[2]))
    node(sys.argv[1], sys.argv[2])
