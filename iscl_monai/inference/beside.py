"""Processes that read, derive and write slices beside a GPU, which one Python process would keep waiting.

DICOM work is Python, and one process does it for some seventy slices a second, however many threads it has. So each of
these processes does the whole work of a slice, as a thread does it otherwise, except for the network: it sends the
slice's Hounsfield units to the process that has the GPU, and gets back what is added to them. None of them loads torch.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.errors import IsclError
from iscl_monai.inference.classic import ClassicStream, DenoisedSlice
from iscl_monai.inference.plan import ClassicSeries
from iscl_monai.inference.slice_denoiser import SliceDenoiser

LEAST_SLICES = 32
"""Of a series, so that starting processes, a second or two, is worth it."""


@dataclass(frozen=True)
class Work:
    """All that a process must know of a series; arguments of :class:`iscl_monai.inference.classic.ClassicStream`."""

    series: ClassicSeries
    folder: Path
    derivation: Derivation
    save_residual: bool


@contextmanager
def processes(count: int, work: Work) -> Iterator[Processes]:
    """So many processes for the slices of one series, ended when the block ends."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the state of a GPU
    pipes = [context.Pipe() for _ in range(count)]
    lean = replace(work, series=replace(work.series, contents={}))
    started = [context.Process(target=_serve, args=(theirs, lean), daemon=True) for _, theirs in pipes]
    try:
        for process, (_, theirs) in zip(started, pipes, strict=True):
            process.start()
            theirs.close()  # else its end would not be seen here
        yield Processes(work, [ours for ours, _ in pipes])
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in started:
            if process.pid is not None:
                process.join()


class Processes:
    """The other ends; each thread that works on a slice has one of them so long.

    Args:
        work: of the processes.
        connections: one to each of them.
    """

    def __init__(self, work: Work, connections: list[Connection]) -> None:
        self.work = work
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(connection)

    def denoise(self, index: int, denoiser: SliceDenoiser) -> DenoisedSlice:
        """One slice, from file to file.

        Args:
            index: in slice order.
            denoiser: computes here.

        Raises:
            Refusal: what cannot be read, denoised or written.
            RuntimeError: a process has ended before its work was done.
        """
        connection = self._idle.get()
        try:
            connection.send(index)
            while isinstance(answer := connection.recv(), np.ndarray):
                connection.send(denoiser.change_hu(answer))
        except (EOFError, OSError) as error:
            raise RuntimeError("a process that reads and writes slices has ended before its work was done") from error
        except BaseException:
            connection.close()  # it waits for an answer that does not come
            raise
        finally:
            self._idle.put(connection)  # also a broken one, so that no thread waits for ever
        if isinstance(answer, Exception):
            raise answer
        return _as_written(index, self.work.series.headers[index].path, *answer)


def _as_written(index: int, source: Path, written: Path, padded: npt.NDArray[np.bool_] | None) -> DenoisedSlice:
    """A slice for whoever watches: read again, if anybody looks."""
    return DenoisedSlice(index, lambda: _hu(source), lambda: _hu(written), padded)


def _hu(path: Path) -> npt.NDArray[np.float32]:
    return load_slice(read_header(path))[0].hu()


class _Asking:
    """Wears the face of a denoiser as far as a stream needs it; another process answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What is added to a slice."""
        self.connection.send(slice_hu)
        changed: npt.NDArray[np.float32] = self.connection.recv()
        return changed


def _serve(connection: Connection, work: Work) -> None:
    """Work on slices until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks hears it, too, and ends all
    asking: Any = _Asking(connection)
    made = ClassicStream(work.series, work.folder, asking, work.derivation, save_residual=work.save_residual)
    with without_warnings():
        while True:
            try:
                index = connection.recv()
            except (EOFError, ConnectionError):
                return
            try:
                connection.send(made.write(index))
            except IsclError as refusal:
                connection.send(refusal)
            except (EOFError, ConnectionError):
                return
            except Exception as error:
                connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
