"""A pool of Ray actors: one for each GPU, or for each CPU core, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iscl_monai.batch.pool import Answer, Call
from iscl_monai.batch.worker import Description, Settings, Worker
from iscl_monai.errors import ConfigRefusal, MemoryRefusal, Refusal

# Nothing is told to anybody: neither that Ray is used, nor by what.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

WORKER_BYTES = 1024 * 2**20
"""Of a worker with the released ensemble on slices of 512x512, amply (docs/how-to/batch.md)."""
OBJECT_STORE_BYTES = 128 * 2**20
"""On one machine: what travels are headers."""
CORES_OF_GPU_WORKER = 4
LOST = 3
"""A place whose workers died so often in a row while they got ready is given up."""


class RemoteWorker:
    """The actor: a worker that is made in a call of its own, so that what it refuses comes back as it is."""

    def __init__(self, settings: Settings, root: Path, out: Path) -> None:
        self.arguments = (settings, root, out)

    def prepare(self) -> Description:
        """Load the model."""
        self.worker = Worker(*self.arguments)
        return self.worker.describe()

    def do(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Any other call."""
        return getattr(self.worker, method)(*arguments)


@dataclass(eq=False)
class _Place:
    """Where a worker is, or its next one will be."""

    actor: Any
    description: Description | None = None
    failed: int = 0


class RayPool:
    """See :class:`iscl_monai.batch.pool.Pool`.

    Args:
        settings: of every series.
        root: the archive's folder.
        out: the folder of results.
        workers: how many; None: as many as there are GPUs, or else cores with enough memory.
        address: of a running cluster, ``auto`` or ``HOST:PORT``; None: this machine alone.
    """

    def __init__(
        self, settings: Settings, root: Path, out: Path, *, workers: int | None = None, address: str | None = None
    ) -> None:
        self.arguments = (settings, root, out)
        self.wanted = workers
        self.address = address
        self.ours = False
        self._places: list[_Place] = []
        self._idle: deque[_Place] = deque()
        self._calls: dict[Any, tuple[_Place, Call | None]] = {}

    def start(self) -> Sequence[Description]:
        """See :meth:`iscl_monai.batch.pool.Pool.start`."""
        import ray

        self._connect()
        share, most = self._share()
        count = self.wanted or most
        if count > most or not most:
            raise (ConfigRefusal if most else MemoryRefusal)(
                f"{count or 1} workers with {share} each, of {_resources()}",
                allowed=f"{most} workers" if most else f"{WORKER_BYTES / 2**30:g} GiB for a worker, and a core",
                cure=f"give --workers {most}, or more machines" if most else "free memory, or give another machine",
            )
        self._remote = ray.remote(**share)(RemoteWorker)
        self._places = [_Place(self._remote.remote(*self.arguments)) for _ in range(count)]
        described = _ready([place.actor.prepare.remote() for place in self._places])
        for place, description in zip(self._places, described, strict=True):
            place.description = description
            self._idle.append(place)
        _check_alike(described)
        return described

    def _connect(self) -> None:
        on_termination = signal.getsignal(signal.SIGTERM)
        import ray

        if ray.is_initialized():
            return
        self.ours = True
        try:
            self._begin()
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_termination)  # Ray takes it for itself

    def _begin(self) -> None:
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is not None:
            try:
                ray.init(address=self.address, **quiet)
            except ConnectionError as error:
                raise ConfigRefusal(
                    f"--address {self.address} ({' '.join(str(error).split())[:160]})",
                    allowed="the address of a running Ray cluster",
                    cure="start one: ray start --head --include-dashboard=false --disable-usage-stats",
                ) from error
            return
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )

    def _share(self) -> tuple[dict[str, Any], int]:
        """What each worker takes of the machines, and how many find room."""
        there = _there()
        cores, memory, gpus = (there.get(name, 0) for name in ("CPU", "memory", "GPU"))
        by_memory = int(memory // WORKER_BYTES)
        if gpus and self.arguments[0].device != "cpu":
            each = max(1, min(CORES_OF_GPU_WORKER, int(cores // gpus)))
            return {"num_gpus": 1, "num_cpus": each, "memory": WORKER_BYTES}, min(int(gpus), by_memory)
        return {"num_cpus": 1, "memory": WORKER_BYTES}, min(int(cores), by_memory)

    def idle(self) -> Description | None:
        """See :meth:`iscl_monai.batch.pool.Pool.idle`."""
        return self._idle[0].description if self._idle else None

    def submit(self, call: Call) -> None:
        """See :meth:`iscl_monai.batch.pool.Pool.submit`."""
        place = self._idle.popleft()
        self._calls[place.actor.do.remote(call.method, call.arguments)] = (place, call)

    def busy(self) -> int:
        """See :meth:`iscl_monai.batch.pool.Pool.busy`."""
        return sum(call is not None for _, call in self._calls.values())

    def next(self) -> Answer | None:
        """See :meth:`iscl_monai.batch.pool.Pool.next`."""
        import ray

        (ready, *_), _ = ray.wait(list(self._calls), num_returns=1)
        place, call = self._calls.pop(ready)
        answer = _answer(ready, call or Call("prepare", (), None))
        if call is None:
            self._replacement_ready(place, answer)
            return None
        if answer.died:
            self._replace(place)
        else:
            self._idle.append(place)
        return answer

    def _replace(self, place: _Place) -> None:
        place.actor = self._remote.remote(*self.arguments)
        self._calls[place.actor.prepare.remote()] = (place, None)

    def _replacement_ready(self, place: _Place, answer: Answer) -> None:
        if not answer.failure:
            place.description, place.failed = answer.value, 0
            self._idle.append(place)
            return
        place.failed += 1
        if place.failed < LOST:
            self._replace(place)
            return
        self._places.remove(place)
        if not self._places:
            raise Refusal(
                f"no worker can start any more ({answer.failure})",
                allowed="machines with memory for them, and the bundle where it was",
                cure="see to it, and give the same command again; what was finished is kept",
            )

    def close(self) -> None:
        """See :meth:`iscl_monai.batch.pool.Pool.close`."""
        import ray

        for place in self._places:
            ray.kill(place.actor)
        self._places, self._calls = [], {}
        self._idle.clear()
        if self.ours and ray.is_initialized():
            ray.shutdown()


def _ready(references: Sequence[Any]) -> list[Description]:
    """What workers say when they are ready; what one of them refuses is refused as it would be here."""
    import ray

    try:
        described: list[Description] = ray.get(list(references))
    except ray.exceptions.RayTaskError as error:
        raise (getattr(error, "cause", None) or error) from None
    except ray.exceptions.RayError as error:
        raise Refusal(
            f"a worker could not start: {_why_it_died(error)}",
            allowed="machines with memory for them",
            cure="give fewer --workers, or see to the machine",
        ) from error
    return described


def _answer(reference: Any, call: Call) -> Answer:
    import ray

    try:
        return Answer(call, ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None) or error
        return Answer(call, failure=f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}")
    except ray.exceptions.RayError as error:
        return Answer(call, failure=_why_it_died(error), died=True)


def _why_it_died(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "OOM" in type(error).__name__ or "OutOfMemory" in type(error).__name__:
        return "the worker was ended as the memory of its machine ran out"
    detail = text.partition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    return f"the worker died ({detail or text[:200]})"


def _there() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def _resources() -> str:
    there = _there()
    memory = f"{there.get('memory', 0) / 2**30:.1f} GiB memory"
    return f"{there.get('CPU', 0):g} cores, {there.get('GPU', 0):g} GPUs, {memory}"


def _check_alike(described: Sequence[Description]) -> None:
    first = described[0]
    for other in described[1:]:
        names = [name for name, value in first.settings.items() if other.settings.get(name) != value]
        if names:
            raise ConfigRefusal(
                f"{names[0]} is {first.settings[names[0]]} on {first.host}, and another on {other.host}",
                allowed="the same program, weights and kind of device on every machine",
                cure="install the same everywhere, or give --device cpu",
            )
