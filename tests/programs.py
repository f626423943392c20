"""``python -m MODULE ...`` without the five seconds in which Python imports torch and MONAI: a fork of one that has.

One server for all workers of a run imports them, and forks for every program; what the program gets is its own:
arguments, folder, environment, streams, exit code, and signals. At least one test of each command starts it as a user
does, with an interpreter of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from made_once import made_once
from tracing import untraced_programs

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = ("monai.bundle", "ignite.engine", "torch.utils.tensorboard", "scipy.ndimage", "pydicom")
LONGEST_REQUEST = 2**20
LOOK_S = 1.0  # whether the run of pytest is still alive


class Programs:
    """Starts programs by the server of this run.

    Args:
        temporary: pytest's ``tmp_path_factory``.
    """

    def __init__(self, temporary: pytest.TempPathFactory) -> None:
        self.place = made_once(temporary, "programs", _start_server) / "socket"

    def start(
        self, arguments: Sequence[str], *, output: IO[Any], errors: IO[Any], cwd: Path = ROOT, **environment: str
    ) -> Program:
        """Start ``python -m`` with these arguments."""
        request = {"arguments": list(arguments), "cwd": str(cwd), "environment": {**os.environ, **environment}}
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.place))
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [output.fileno(), errors.fileno()])
        return Program(connection)

    def run(self, arguments: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            code = self.start(arguments, output=output, errors=errors, **more).wait()
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, output.read(), errors.read())


class Program:
    """One that was started.

    Args:
        connection: on which its process id comes, and its exit code when it has ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._answers = connection.makefile("r")
        connection.close()
        self.pid = int(self._answers.readline())

    def wait(self) -> int:
        """Its exit code; minus the signal that ended it."""
        with self._answers:
            return int(self._answers.readline())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _start_server(folder: Path) -> None:
    folder.mkdir()
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    with untraced_programs():
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(folder / "socket"), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    server.stdout.close()
    server.returncode = 0  # it outlives this worker, and ends with the run


# --- the server --------------------------------------------------------------------------------------


def serve(place: str, owner: int) -> None:
    """Fork for every connection, until the run of pytest has ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    listener.settimeout(LOOK_S)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while psutil.pid_exists(owner):
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    connection.settimeout(None)
                    attend(connection)


def attend(connection: socket.socket) -> None:
    """In a fork: start the program in another one, and tell how it ended."""
    content, streams, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 2)
    while not content.endswith(b"\n"):
        content += connection.recv(LONGEST_REQUEST)
    request = json.loads(content)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(request, streams)
    for stream in streams:
        os.close(stream)
    with suppress(BrokenPipeError):
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """In a fork of the fork: be the program."""
    import atexit
    import runpy

    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *words = request["arguments"]
    sys.argv, sys.path[0] = [module, *words], request["cwd"]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code = 1
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with suppress(Exception):
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
    serve(sys.argv[1], int(sys.argv[2]))
