"""Work spread over processes: threads would take turns, as pydicom is Python all through."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4
"""Tasks in flight for each worker: enough that none waits, few enough that a million files fit in memory."""


def spread(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result | None]]:
    """``function`` of every task, in the order of the tasks.

    Args:
        function: can be pickled; what it raises comes out here.
        tasks: taken as they are needed, never all at once.
        workers: processes; 1: this one.

    Yields:
        Task and result; None for a task that ended its process (a decoder may crash), which harms no other task.
    """
    if workers == 1:
        for task in tasks:
            yield task, function(task)
        return
    remaining = iter(tasks)
    while True:
        lost = yield from _until_one_crashes(function, remaining, workers)
        if not lost:
            return
        yield from _one_by_one(function, lost)


def _until_one_crashes(
    function: Callable[[Task], Result], tasks: Iterator[Task], workers: int
) -> Generator[tuple[Task, Result | None], None, list[Task]]:
    """As :func:`spread`; returns the tasks that were in flight when a worker died, none at the end of the tasks."""
    executor = _executor(workers)
    taken: deque[Task] = deque()
    flying: deque[Future[Result]] = deque()
    try:
        while True:
            for task in itertools.islice(tasks, workers * AHEAD - len(taken)):
                taken.append(task)  # first: submit raises when a worker died meanwhile
                flying.append(executor.submit(function, task))
            if not taken:
                return []
            result = flying.popleft().result()
            yield taken.popleft(), result
    except BrokenProcessPool:
        return list(taken)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _one_by_one(function: Callable[[Task], Result], tasks: list[Task]) -> Iterator[tuple[Task, Result | None]]:
    """One task in flight at a time, so that it is known which one ends its process."""
    executor = _executor(1)
    try:
        for task in tasks:
            result, crashed = _result(executor, function, task)
            if crashed:
                executor.shutdown()
                executor = _executor(1)
            yield task, result
    finally:
        executor.shutdown()


def _result(
    executor: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task
) -> tuple[Result | None, bool]:
    try:
        return executor.submit(function, task).result(), False
    except BrokenProcessPool:
        return None, True


def _executor(workers: int) -> ProcessPoolExecutor:
    # Forked children would inherit locks that other threads hold.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us; no traceback from each worker
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
