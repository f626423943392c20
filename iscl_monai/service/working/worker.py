"""The process that holds the model: ``python -m iscl_monai.service.working.worker``, started by the node.

A process of its own, so that a decoder that crashes on a damaged image, or a model that takes all memory, ends a job
and not the receiver. It reads the settings from standard input as one line of JSON, then one word per line: ``wake``
(there may be a job), ``stop`` (put the job back into the queue, and end). The end of the input means that the node is
gone: then it ends at once, as two workers could meet otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from iscl_monai.errors import Refusal
from iscl_monai.inference.batching import Batcher, SharedDenoiser
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.service.database.store import Store
from iscl_monai.service.loaded_model import LoadedModel, write_loaded_model
from iscl_monai.service.log import log, set_up
from iscl_monai.service.loop import Loop
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space
from iscl_monai.service.working.protocol import MODEL_FAULT, MODEL_REFUSED, READY, STOP
from iscl_monai.service.working.work import Work

LOOKS_EVERY_S = 2.0


class Models:
    """The model in memory: one, and a second one on the CPU only when the GPU had too little memory for a series.

    Args:
        settings: of the node.

    Raises:
        Refusal: there is no bundle, no such weights, device or runtime.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.default = self._load(settings.work.device)
        self.on_gpu = self.default.device.type != "cpu"
        self._lock = threading.Lock()
        self._on_cpu: Denoiser | None = None if self.on_gpu else self.default
        size = settings.work.batch
        self._batcher = Batcher(self.default, size=size, report=_log_memory) if self.on_gpu else None

    def at(self, strength: float, device: str) -> SliceDenoiser:
        """The denoiser of a job."""
        if self._batcher is not None and not device:
            return SharedDenoiser(self._batcher, strength)
        with self._lock:
            if self._on_cpu is None:
                self._on_cpu = self._load("cpu")
        return self._on_cpu.at_strength(strength)

    def _load(self, device: str) -> Denoiser:
        work = self.settings.work
        return Denoiser.from_bundle(
            self.settings.bundle, device=device, mode=work.mode, weights=work.weights_size, runtime=work.runtime
        )

    def write_identity(self) -> None:
        """Write down for the node what derived UIDs are made from."""
        parameters = {name: value for name, value in self.default.parameters.items() if name != "strength"}
        identity = self.default.identity
        model = LoadedModel(identity.name, identity.version, identity.weights_digest, parameters)
        write_loaded_model(self.settings.data, model)


def _log_memory(sentence: str) -> None:
    log.warning("gpu.memory", told=sentence)


def main() -> int:
    """Work until the node stops this process; returns the exit code, 0 or one of the protocol."""
    set_up()
    _prefer_for_oom_kill()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the node decides
    settings = Settings.model_validate_json(sys.stdin.readline())
    store = Store(settings.data)
    try:
        models = Models(settings)
        models.write_identity()
    except Refusal as refusal:
        log.error("worker.refused", refusal=str(refusal))
        return MODEL_REFUSED
    except Exception as error:  # damaged weights make torch raise nearly anything
        log.exception("worker.model_fault", error=type(error).__name__)
        return MODEL_FAULT
    stopping = threading.Event()
    loops = _loops(settings, store, models, stopping.is_set)
    for loop in loops:
        loop.start()
    log.info(READY, device=str(models.default.device), weights=models.default.identity.weights_digest[:12])
    for line in sys.stdin:
        if line.strip() == STOP:
            stopping.set()
            for loop in loops:
                loop.stop(timeout_s=60)
            store.close()
            return 0
        for loop in loops:
            loop.wake()
    os._exit(3)  # the node is gone


def _loops(settings: Settings, store: Store, models: Models, stopping: Callable[[], bool]) -> list[Loop]:
    threads = settings.work.batch if models.on_gpu else settings.work.threads or None
    space = Space(settings.data, settings.disk)
    training = TrainingRecord.of_bundle(settings.bundle, settings.work.weights_size)
    work = Work(store, space, models.at, threads=threads, stopping=stopping, training=training)

    def step() -> float:
        return 0.0 if work.run_next() else LOOKS_EVERY_S

    count = settings.work.series_at_once if models.on_gpu else 1
    return [Loop(f"work-{index}", step) for index in range(count)]


def _prefer_for_oom_kill() -> None:
    """When memory runs out, Linux shall end this process, whose job is then tried again, and not the receiver."""
    with suppress(OSError):  # another system
        Path("/proc/self/oom_score_adj").write_text("500")


def _flush_each_line() -> None:
    stream: Any = sys.stdout
    stream.reconfigure(line_buffering=True)


if __name__ == "__main__":
    _flush_each_line()
    try:
        sys.exit(main())
    except BrokenPipeError:
        os._exit(3)  # the log has no reader: the node is gone
