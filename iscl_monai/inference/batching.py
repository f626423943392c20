"""One model for several series: slices that wait at the same time go through a GPU as one batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.errors import MemoryRefusal
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice

Slice = npt.NDArray[np.float32]


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
        self._waiting: queue.Queue[tuple[Slice, Future[Slice]] | None] = queue.Queue()
        self._kept: tuple[Slice, Future[Slice]] | None = None  # of another shape than the batch being gathered
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
        while (batch := self._gather()) is not None:
            slices, answers = [slice_hu for slice_hu, _ in batch], [answer for _, answer in batch]
            try:
                for answer, changed in zip(answers, self._denoised(slices), strict=True):
                    answer.set_result(changed)
            except Exception as error:  # the askers must hear of it, each in its own thread
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(error)

    def _gather(self) -> list[tuple[Slice, Future[Slice]]] | None:
        """What waits now, up to a batch, of one shape; None at the end."""
        first = self._kept or self._waiting.get()
        self._kept = None
        if first is None:
            return None
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

    def _denoised(self, slices: list[Slice]) -> list[Slice]:
        done: list[Slice] = []
        while len(done) < len(slices):
            part = slices[len(done) : len(done) + self.size]
            filled = np.zeros((self.size, *part[0].shape), np.float32)
            filled[: len(part)] = part
            try:
                done += list(self.denoiser.change_batch_hu(filled)[: len(part)])
            except MemoryRefusal:
                if self.size == 1:
                    raise
                self.size //= 2
                self.report(f"too little memory for {2 * self.size} slices at once, {self.size} from now on")
        return done


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
