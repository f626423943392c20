"""One model for several series: slices that wait at the same time go through a GPU as one batch."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.errors import MemoryRefusal
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice

Slice = npt.NDArray[np.float32]
Asked = tuple[Slice, "Future[Slice]"]
GPU_BATCH = 8
"""Slices at once on a GPU, of one command."""


class Begun(NamedTuple):
    """A batch that the device works on: how many slices, empty ones too, and what waits for their answers."""

    size: int
    answer: Callable[[], Slice]


class Batcher:
    """Gathers slices from any number of threads into batches; each asker gets its own slice back.

    A batch is always filled up to the same number with empty slices, so that the device runs the same kernels whoever
    else is waiting, and a slice's answer does not depend on the company it had.

    Args:
        denoiser: at full strength.
        size: slices at once; halved for good when the device's memory is too small for them.
        report: called with a sentence when that happens.
    """

    def __init__(self, denoiser: Denoiser, *, size: int, report: Callable[[str], object]) -> None:
        self.denoiser = denoiser
        self.size = size
        self.report = report
        self._waiting: queue.Queue[Asked | None] = queue.Queue()
        self._kept: Asked | None = None  # of another shape than the batch being gathered
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Slice:
        """As :meth:`iscl_monai.inference.Denoiser.change_hu`; waits for its batch."""
        check_slice(slice_hu)
        answer: Future[Slice] = Future()
        self._waiting.put((np.asarray(slice_hu, np.float32), answer))
        return answer.result()

    def close(self) -> None:
        """End after what is waiting."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        """Begin a batch before the one before it is finished, so that a GPU need not wait for its next one."""
        begun: deque[tuple[list[Asked], Begun]] = deque()
        while True:
            batch = self._gather(wait=not begun)
            if batch:
                begun.append((batch, self._begin([slice_hu for slice_hu, _ in batch])))
            if begun and (not batch or len(begun) > 1):
                self._finish(*begun.popleft())
            elif not batch:
                return

    def _finish(self, batch: list[Asked], begun: Begun) -> None:
        answers = [answer for _, answer in batch]
        try:
            slices = [slice_hu for slice_hu, _ in batch]
            changes = self._awaited(begun, slices)
            for answer, changed in zip(answers, changes, strict=True):
                answer.set_result(changed)
        except Exception as error:  # the askers must hear of it, each in its own thread
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)

    def _gather(self, *, wait: bool) -> list[Asked]:
        """What waits now, up to a batch, of one shape; nothing at the end, or when nothing waits now."""
        try:
            first = self._kept or self._waiting.get(block=wait)
        except queue.Empty:
            return []
        self._kept = None
        if first is None:
            self._waiting.put(None)  # for the next look
            return []
        batch = [first]
        while len(batch) < self.size:
            try:
                following = self._waiting.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)
                break
            if following[0].shape != first[0].shape:
                self._kept = following
                break
            batch.append(following)
        return batch

    def _begin(self, slices: list[Slice]) -> Begun:
        """Hand a batch to the device; an error is raised when the answer is taken."""
        filled = np.zeros((self.size, *slices[0].shape), np.float32)
        filled[: len(slices)] = slices
        try:
            return Begun(self.size, self.denoiser.begin_batch_hu(filled))
        except Exception as error:
            return Begun(self.size, partial(_raise, error))

    def _awaited(self, begun: Begun, slices: list[Slice]) -> list[Slice]:
        """The answers to a batch, in smaller ones if the memory is too small for it."""
        try:
            return list(begun.answer()[: len(slices)])
        except MemoryRefusal:
            if begun.size == 1:
                raise
        if begun.size == self.size:  # else it has been halved since
            self._halve()
        done: list[Slice] = []
        while len(done) < len(slices):
            part = slices[len(done) : len(done) + self.size]
            done += self._awaited(self._begin(part), part)
        return done

    def _halve(self) -> None:
        self.size //= 2
        self.report(f"too little memory for {2 * self.size} slices at once, {self.size} from now on")


def _raise(error: Exception) -> Slice:
    raise error


class SharedDenoiser:
    """Wears the face of a denoiser (:class:`~iscl_monai.inference.SliceDenoiser`) for one series of several.

    Args:
        batcher: shared by all.
        strength: of this series.
    """

    def __init__(self, batcher: Batcher, strength: float) -> None:
        self.batcher = batcher
        self._own = batcher.denoiser.at_strength(strength)

    @property
    def identity(self) -> ModelIdentity:
        """That of the model."""
        return self._own.identity

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._own.device

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the model, with this series' strength."""
        return self._own.parameters

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Slice:
        """What denoising adds to a slice, float32 HU (row, column)."""
        if self._own.strength == 0:
            return np.zeros(np.shape(slice_hu), np.float32)
        scaled: Slice = np.float32(self._own.strength) * self.batcher.change_hu(slice_hu)
        return scaled


def batched(denoiser: Denoiser, *, size: int, report: Callable[[str], object]) -> SharedDenoiser:
    """The same denoiser, its slices gathered into batches; arguments as of :class:`Batcher`."""
    return SharedDenoiser(Batcher(denoiser.at_strength(1.0), size=size, report=report), denoiser.strength)
