"""The queue: series with their newest job, and how many there are in each state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, select

from iscl_monai.service.database.rows import JobRow, SeriesRow
from iscl_monai.service.database.states import (
    JOBS,
    NEEDS_A_PERSON,
    NO_ROOM_TRIES,
    OPEN_JOBS,
    DeliveryState,
    JobState,
    SeriesState,
)
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, instances, jobs, series
from iscl_monai.service.web.progress import describe_progress
from iscl_monai.service.web.search import Search
from iscl_monai.service.web.site import PAGE_ROWS
from iscl_monai.service.working.queue import RETRIED

LEFT_ALONE = "left alone"
NO_VALUE = "\N{EN DASH}"
DONE = (JobState.DONE,)
NO_SEARCH = Search()

FILTERS: dict[str, tuple[str, tuple[JobState, ...]]] = {  # of the page: their words, and the states of jobs shown
    "all": ("All", ()),
    "open": ("In progress", OPEN_JOBS),
    "attention": ("Needs a person", NEEDS_A_PERSON),
    "done": ("Done", DONE),
}


@dataclass(frozen=True)
class Entry:
    """A series in the queue.

    Args:
        series: its row.
        job: row of its newest job; None when there is none.
        slices_in: objects that came.
        deliveries: of that job, by state.
    """

    series: SeriesRow
    job: JobRow | None
    slices_in: int
    deliveries: Mapping[DeliveryState, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Of the series or its job, or that it is left alone."""
        if self.series.state is SeriesState.RECEIVING:
            return self.series.state
        # What came late may be left alone by rules that have changed since the job was made.
        if self.job is None or (self.series.reason and self.job.state in JOBS.ends):
            return LEFT_ALONE
        return self.job.state

    @property
    def reason(self) -> str:
        """Why it is in that state; "" if there is no reason."""
        if self.series.state is SeriesState.RECEIVING or self.job is None:
            return self.series.reason
        earlier = f"an earlier job is {self.job.state}" if self.state == LEFT_ALONE else ""
        return "; ".join(filter(None, (self.series.reason, earlier, self.job.reason, self.job.note)))

    @property
    def progress(self) -> str:
        """How far its job is; "" if it does not run."""
        return describe_progress(self.job) if self.state == JobState.RUNNING else ""

    @property
    def delivered(self) -> str:
        """Confirmed deliveries of all."""
        total = sum(self.deliveries.values())
        return f"{self.deliveries.get(DeliveryState.CONFIRMED, 0)} / {total}" if total else NO_VALUE

    @property
    def slices_out(self) -> int | None:
        """Derived slices; None while there are none."""
        result = self.job.result if self.job is not None else None
        return (result or {}).get("slices")

    @property
    def can_retry(self) -> bool:
        """Whether its job may be tried again."""
        # another destination still tries
        stuck = self.state == JobState.SENDING and bool(self.deliveries.get(DeliveryState.FAILED))
        return self.job is not None and (self.state in RETRIED or stuck)

    @property
    def can_release(self) -> bool:
        """Whether its job is held back."""
        return self.state == JobState.HELD

    @property
    def can_cancel(self) -> bool:
        """Whether its job may be cancelled."""
        return self.job is not None and cancellable(self.job)


def cancellable(job: JobRow) -> bool:
    """Whether a job may be cancelled now."""
    return JOBS.allows(job.state, JobState.CANCELLED)


def entries(store: Store, show: str, number: int, search: Search = NO_SEARCH) -> tuple[list[Entry], bool]:
    """One page of the queue, the newest series first.

    Args:
        store: the database.
        show: key of :data:`FILTERS`.
        number: of the page, from 1.
        search: what series must be.

    Returns:
        Its entries, and whether there are more.
    """
    shown = select(series).where(_condition(show), search.condition()).order_by(series.c.id.desc())
    rows = store.read(SeriesRow, shown.offset((number - 1) * PAGE_ROWS).limit(PAGE_ROWS + 1))
    return entries_of(store, rows[:PAGE_ROWS]), len(rows) > PAGE_ROWS


def entries_of(store: Store, rows: Sequence[SeriesRow]) -> list[Entry]:
    """Entries for given rows of ``series``."""
    ids = [row.id for row in rows]
    newest = select(func.max(jobs.c.id)).where(jobs.c.series_id.in_(ids), jobs.c.shadow == 0).group_by(jobs.c.series_id)
    job_of = {job.series_id: job for job in store.read(JobRow, select(jobs).where(jobs.c.id.in_(newest)))}
    counted = select(instances.c.series_id, func.count()).where(instances.c.series_id.in_(ids))
    count_of = dict(store.tuples(counted.group_by(instances.c.series_id)))
    delivered = delivery_counts(store, [job.id for job in job_of.values()])
    found = []
    for row in rows:
        job = job_of.get(row.id)
        of_job = delivered.get(job.id, Counter()) if job is not None else Counter()
        found.append(Entry(row, job, count_of.get(row.id, 0), of_job))
    return found


def delivery_counts(store: Store, job_ids: Sequence[int]) -> dict[int, Counter[DeliveryState]]:
    """Deliveries of jobs by state."""
    by = (deliveries.c.job_id, deliveries.c.state)
    found: dict[int, Counter[DeliveryState]] = {}
    grouped = select(*by, func.count()).where(deliveries.c.job_id.in_(job_ids)).group_by(*by)
    for job_id, state, count in store.tuples(grouped):
        found.setdefault(job_id, Counter())[state] = count
    return found


def counts_by_state(store: Store) -> list[tuple[str, int]]:
    """How many series are coming in, and how many jobs are in each state that matters to a person."""
    receiving = select(func.count()).select_from(series).where(series.c.state == SeriesState.RECEIVING)
    (arriving,) = store.values(receiving)
    counts = dict(store.tuples(select(jobs.c.state, func.count()).group_by(jobs.c.state)))
    states = (*OPEN_JOBS, *NEEDS_A_PERSON, *DONE)
    return [(SeriesState.RECEIVING, arriving), *((state, counts.get(state, 0)) for state in states)]


def _condition(show: str) -> ColumnElement[bool]:
    _, states = FILTERS[show]
    if not states:
        return series.c.id > 0
    shown: ColumnElement[bool] = jobs.c.state.in_(states)
    if show == "attention":  # one destination has failed, while others are still tried
        failed = select(deliveries.c.job_id).where(deliveries.c.state == DeliveryState.FAILED)
        shown = shown | (jobs.c.state == JobState.SENDING) & jobs.c.id.in_(failed)
        shown = shown | (jobs.c.state == JobState.QUEUED) & (jobs.c.room_tries >= NO_ROOM_TRIES)
    with_job = series.c.id.in_(select(jobs.c.series_id).where(shown))
    return with_job | (series.c.state == SeriesState.RECEIVING) if show == "open" else with_job
