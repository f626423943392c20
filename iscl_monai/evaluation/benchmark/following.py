"""How far a training in another process has come: its log has the bars of its epochs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iscl_monai.evaluation.benchmark.pace import Progress

EVERY_SECONDS = 1.0
TAIL_BYTES = 8192
BAR = re.compile(rb"\[(\d+)/\d+\]: \[(\d+)/(\d+)\]")
"""``epoch [2/5]: [7/20]``: the epoch, its steps that are done, and how many it has."""


@contextmanager
def followed(log: Path, progress: Progress) -> Iterator[None]:
    """While a training runs, tell how many more steps it has made.

    Args:
        log: that it writes to; what stands there already is of an earlier run.
        progress: called, from a thread, with the number of steps since the last call.
    """
    start = log.stat().st_size if log.exists() else 0
    ended = threading.Event()

    def follow() -> None:
        told = 0
        while not ended.wait(EVERY_SECONDS):
            steps = steps_in(_tail(log, start))
            if steps > told:
                progress(steps - told)
                told = steps

    watcher = threading.Thread(target=follow, name="follow training", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def steps_in(log: bytes) -> int:
    """Steps that the last bar in a log stands for; 0 without one."""
    bars = BAR.findall(log)
    if not bars:
        return 0
    epoch, done, of_epoch = map(int, bars[-1])
    return (epoch - 1) * of_epoch + done


def _tail(log: Path, start: int) -> bytes:
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
