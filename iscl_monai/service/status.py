"""How a node is, from the command line: read from its database and data folder, and asked of the node if it runs."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.migrate import revision_of
from iscl_monai.service.database.states import NEEDS_A_PERSON, OPEN_DELIVERIES, JobState, SeriesState
from iscl_monai.service.database.store import DATABASE, Store
from iscl_monai.service.database.tables import deliveries, jobs, series
from iscl_monai.service.sending.pausing import pauses
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import MB

LOCK = "lock"  # in the data folder; held by the running node
ASKED_WITHIN_S = 5.0
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class NodeStatus:
    """How a node is.

    Args:
        running: a node holds the data folder.
        health: ``ok``, ``degraded``, ``failing``, or that there is no answer; "" if none runs.
        unwell: kinds of parts that are not well.
        revision: of the database.
        free_mb: on the disk of the data folder.
        series: that are coming in.
        jobs: by state, without those that are over.
        backlog: deliveries that are not confirmed, by destination.
        paused: by destination: by whom, and since when.
    """

    running: bool
    health: str
    unwell: tuple[str, ...]
    revision: str
    free_mb: int
    series: int
    jobs: Mapping[str, int]
    backlog: Mapping[str, int]
    paused: Mapping[str, str]

    @property
    def needs_a_person(self) -> int:
        """Jobs that wait for somebody."""
        return sum(self.jobs.get(state, 0) for state in NEEDS_A_PERSON)

    @property
    def well(self) -> bool:
        """Whether it runs, all parts are well, and nothing waits for a person."""
        return self.running and self.health == "ok" and not self.needs_a_person

    def as_json(self) -> str:
        """For machines."""
        return json.dumps({**asdict(self), "needs_a_person": self.needs_a_person, "well": self.well})

    def lines(self) -> Iterator[str]:
        """For people."""
        unwell = f" ({', '.join(self.unwell)})" if self.unwell else ""
        yield f"node: {f'running, {self.health}{unwell}' if self.running else 'not running'}"
        yield f"disk: {self.free_mb} MB free; database: form {self.revision}"
        states = "; ".join(f"{count} {state}" for state, count in self.jobs.items() if count)
        yield f"jobs: {states or 'none open'}; series coming in: {self.series}; need a person: {self.needs_a_person}"
        for name in sorted({*self.backlog, *self.paused}):
            paused = f"; {self.paused[name]}" if name in self.paused else ""
            yield f"destination {name}: {self.backlog.get(name, 0)} deliveries wait{paused}"


def status_of(settings: Settings) -> NodeStatus:
    """How the node of these settings is.

    Raises:
        StoreUnavailable: there is no database, or it cannot be read.
    """
    data = settings.data
    if not (data / DATABASE).is_file():
        raise StoreUnavailable(
            f"{data / DATABASE} does not exist", allowed="the data folder of a node", cure="see `data`, or start a node"
        )
    running = _is_held(data)
    health, unwell = _ask(settings) if running else ("", ())
    with closing(Store(data)) as store:
        arriving = select(func.count()).select_from(series).where(series.c.state == SeriesState.RECEIVING)
        shown = (JobState.QUEUED, JobState.RUNNING, JobState.SENDING, *NEEDS_A_PERSON)
        counted = select(jobs.c.state, func.count()).where(jobs.c.state.in_(shown)).group_by(jobs.c.state)
        counts = {str(state): count for state, count in store.tuples(counted)}
        waiting = deliveries.c.state.in_(OPEN_DELIVERIES) & (jobs.c.state == JobState.SENDING)
        backlog = select(deliveries.c.destination, func.count()).join(jobs, jobs.c.id == deliveries.c.job_id)
        return NodeStatus(
            running,
            health,
            unwell,
            revision_of(data / DATABASE),
            shutil.disk_usage(data).free // MB,
            int(store.values(arriving)[0]),
            {str(state): counts.get(str(state), 0) for state in shown},
            dict(store.tuples(backlog.where(waiting).group_by(deliveries.c.destination))),
            {name: pause.description for name, pause in pauses(store).items()},
        )


def _is_held(data: Path) -> bool:
    """Whether a node holds the lock of its data folder."""
    try:
        handle = os.open(data / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _ask(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """What ``/healthz`` of the running node answers."""
    web = settings.web
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)
    try:
        with closing(_connection(host, web.port, secure=web.certificate is not None)) as connection:
            connection.request("GET", "/healthz")
            answer: Any = json.loads(connection.getresponse().read(10_000))
        return str(answer["status"]), tuple(map(str, [*answer["failing"], *answer["degraded"]]))
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return NO_ANSWER, ()


def _connection(host: str, port: int, *, secure: bool) -> http.client.HTTPConnection:
    if not secure:
        return http.client.HTTPConnection(host, port, timeout=ASKED_WITHIN_S)
    context = ssl.create_default_context()
    context.check_hostname = False  # it is made out to the name that browsers use; nothing secret is sent or believed
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=ASKED_WITHIN_S, context=context)
