"""Numbers for Prometheus, counted for each request; no identifier of a patient or an object is among them."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Table, func, select
from starlette.responses import Response

from iscl_monai.errors import ConfigRefusal, StoreUnavailable
from iscl_monai.service.database.states import MACHINES, NO_ROOM_TRIES, JobState
from iscl_monai.service.database.tables import commitments, deliveries, instances, jobs, series
from iscl_monai.service.web.probes import THREADS
from iscl_monai.service.web.site import Site

router = APIRouter()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """All of them, in Prometheus' text format."""
    expected: str = request.app.state.metrics_token
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(hashlib.sha256(token.strip().encode()).hexdigest(), _digest(expected))
    if expected and not (right and kind.lower() == "bearer"):
        raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="metrics"'})
    registry: CollectorRegistry = request.app.state.metrics
    text = await to_thread.run_sync(generate_latest, registry, limiter=THREADS)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def metrics_token(path: Path | None) -> str:
    """The token that is required; ``""`` for none.

    Raises:
        ConfigRefusal: its file cannot be read, or is empty.
    """
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        token, problem = "", getattr(error, "strerror", None) or str(error)
    else:
        problem = "is empty"
    if not token:
        raise ConfigRefusal(
            f"{path}: {problem}", allowed="a file with one token", cure="correct [web] metrics_token_file"
        )
    return token


def registry_of(site: Site) -> CollectorRegistry:
    """A registry of our own: the library's global one would count for all nodes of a process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_NodeCollector(site))
    return registry


class _RowCounter:
    """Counts rows of a table that only grows, each of them once."""

    def __init__(self, table: Table, label: str) -> None:
        self.table = table
        self.label = table.c[label]
        self.counts: Counter[str] = Counter()
        self._last = 0
        self._lock = threading.Lock()

    def count(self, site: Site) -> dict[str, int]:
        with self._lock, site.store.reading() as connection:
            row = self.table.c.id
            last = connection.execute(select(func.max(row))).scalar() or 0
            new = select(self.label, func.count()).where((row > self._last) & (row <= last)).group_by(self.label)
            for label, count in connection.execute(new):
                self.counts[label] += count
            self._last = last
            return dict(self.counts)


class _NodeCollector(Collector):
    """Reads the numbers from the database when they are collected."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._received = _RowCounter(instances, "sender")

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment; those in memory also when the database cannot be used."""
        yield from self._in_memory()
        with suppress(StoreUnavailable):  # the part "database" tells
            yield from list(self._in_database())

    def _in_memory(self) -> Iterator[Metric]:
        refusals = self.site.intake.refusals
        yield _counter("iscl_refusals", "Objects not taken", "status", refusals.counts)
        yield CounterMetricFamily("iscl_refusals_unlisted", "Of these, since the start, not listed", refusals.unlisted)
        with suppress(OSError):  # the disk is gone
            free = float(self.site.intake.space.free_bytes)
            yield GaugeMetricFamily("iscl_data_free_bytes", "Free on the disk of the data folder", free)
        parts = dict(self.site.health())
        yield _gauge(
            "iscl_part_ok", "1 while a part is well", "part", {name: int(ok) for name, (ok, _) in parts.items()}
        )
        counts = self.site.counts()
        yield _counter("iscl_loop_faults", "Faults that a loop went on after", "loop", counts.loop_faults)
        yield _counter("iscl_sweep_failures", "Queries and retrievals that failed", "peer", counts.sweep_failures)
        yield CounterMetricFamily("iscl_worker_deaths", "How often the worker died", counts.worker_deaths)

    def _in_database(self) -> Iterator[Metric]:
        for table in (series, jobs, commitments):
            states = MACHINES[table.name].ways
            counts = dict.fromkeys(states, 0) | self._counts(table)
            yield _gauge(f"iscl_{table.name}", f"{table.name} by state", "state", counts)
        yield self._deliveries()
        yield _counter("iscl_instances_received", "Objects stored", "sender", self._received.count(self.site))
        yield GaugeMetricFamily("iscl_oldest_waiting_seconds", "Age of the oldest job in the queue", self._oldest_s())
        without_room = (jobs.c.state == JobState.QUEUED) & (jobs.c.room_tries >= NO_ROOM_TRIES)
        count = self.site.store.values(select(func.count()).select_from(jobs).where(without_room))[0]
        yield GaugeMetricFamily("iscl_jobs_without_room", "Queued jobs that a person has to make room for", count)
        yield from self._last_job()

    def _counts(self, table: Table) -> dict[str, int]:
        return dict(self.site.store.tuples(select(table.c.state, func.count()).group_by(table.c.state)))

    def _deliveries(self) -> Metric:
        family = GaugeMetricFamily("iscl_deliveries", "deliveries by state", labels=["state", "destination"])
        by = (deliveries.c.state, deliveries.c.destination)
        # others are of no interest
        current = jobs.c.state.in_((JobState.HELD, JobState.SENDING, JobState.FAILED, JobState.DONE))
        counted = select(*by, func.count()).join(jobs, jobs.c.id == deliveries.c.job_id).where(current)
        for state, destination, count in self.site.store.tuples(counted.group_by(*by)):
            family.add_metric([state, destination], count)
        return family

    def _oldest_s(self) -> float:
        """By the wall clock, which is what the rows have: nothing is decided by it."""
        oldest = select(func.min(jobs.c.created_at)).where(jobs.c.state == JobState.QUEUED)
        at = self.site.store.values(oldest)[0]
        return max(0.0, (datetime.now(timezone.utc) - datetime.fromisoformat(at)).total_seconds()) if at else 0.0

    def _last_job(self) -> Iterator[Metric]:
        last = select(jobs.c.result).where(jobs.c.folder.is_not(None)).order_by(jobs.c.id.desc()).limit(1)
        for result in filter(None, self.site.store.values(last)):
            if result.get("slices") and result.get("seconds") is not None:
                per_slice = result["seconds"] / result["slices"]
                yield GaugeMetricFamily("iscl_last_job_seconds_per_slice", "Of the last job", per_slice)


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
