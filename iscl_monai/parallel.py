"""Slices side by side: reading, network and writing overlap, memory stays that of a few slices."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psutil

Item = TypeVar("Item")
Result = TypeVar("Result")

GPU_WORKERS = 4
"""One feeds the GPU while the others read and write."""

MOST_PROCESSES = 16
"""Beside a GPU: two batches of slices are in the making, and each process works on one slice."""

BYTES_PER_PIXEL = 4 * 32 * 12
"""What the network holds at a time for a pixel, about: twelve maps of 32 channels."""


def in_order(items: Iterable[Item], work: Callable[[Item], Result], *, workers: int) -> Iterator[Result]:
    """Work on items in threads, each on one CPU core, and give the results in the order of the items.

    torch splits sums over the threads it may use, so each worker uses one: their number cannot change a result. At
    most ``2 * workers`` items are in the making. After an error, or when the caller stops, nothing new is begun.

    Args:
        items: taken one by one in the calling thread.
        work: called in the worker threads.
        workers: number of threads, 1 or more.

    Yields:
        ``work(item)`` for each item.
    """
    import torch  # here, as what is refused needs none

    threads = torch.get_num_threads()
    making: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="slice", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in items:
            making.append(pool.submit(work, item))
            if len(making) >= 2 * workers:
                yield making.popleft().result()
        while making:
            yield making.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # MKL keeps one number for the whole process


def useful_workers(device: str, count: int, shape: Sequence[int]) -> int:
    """How many slices to work on at the same time.

    Args:
        device: torch's name for the kind of device.
        count: number of slices.
        shape: (rows, columns) of one.
    """
    if device != "cpu":
        return GPU_WORKERS
    cores = cpu_cores()
    room = psutil.virtual_memory().available // 2 // max(1, shape[0] * shape[1] * BYTES_PER_PIXEL)
    return int(max(1, min(cores, count, room)))


def useful_processes(device: str) -> int:
    """How many processes read and write files beside a device; 0 for a CPU, whose cores compute already.

    Args:
        device: torch's name for the kind of device.
    """
    return 0 if device == "cpu" else min(MOST_PROCESSES, cpu_cores() - 1)


def cpu_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
