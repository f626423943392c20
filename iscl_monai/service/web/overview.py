"""What stands in the queue: series with their newest job, and how many there are of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, func, select

from iscl_monai.service.database.states import MACHINES, NEEDS_A_PERSON, OPEN_JOBS
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, instances, jobs, series
from iscl_monai.service.web.site import PAGE_ROWS

Row = Mapping[str, Any]
LEFT_ALONE = "left alone"
NONE = "\N{EN DASH}"
RETRIED = ("failed", "refused", "cancelled")
ENDS_WELL = ("done",)

SHOWN = {  # choices of the page: their words, and the states of jobs that belong to them
    "all": ("All", ()),
    "open": ("In progress", OPEN_JOBS),
    "attention": ("Needs a person", NEEDS_A_PERSON),
    "done": ("Done", ENDS_WELL),
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

    series: Row
    job: Row | None
    slices_in: int
    deliveries: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """In one word."""
        if self.series["state"] == "receiving":
            return "receiving"
        # What came late may be left alone by rules that have changed since the job was made.
        ended = self.job is None or (self.series["reason"] and self.job["state"] in ("done", "superseded"))
        return LEFT_ALONE if ended or self.job is None else str(self.job["state"])

    @property
    def reason(self) -> str:
        """Why it is in that state, if there is more to say."""
        if self.series["state"] == "receiving" or self.job is None:
            return str(self.series["reason"])
        before = f"an earlier job is {self.job['state']}" if self.state == LEFT_ALONE else ""
        told = (self.series["reason"], before, self.job["reason"], self.job["note"])
        return "; ".join(filter(None, told))

    @property
    def delivered(self) -> str:
        """Confirmed deliveries of all."""
        total = sum(self.deliveries.values())
        return f"{self.deliveries.get('confirmed', 0)} / {total}" if total else NONE

    @property
    def slices_out(self) -> int | None:
        """Derived slices; None while there are none."""
        return ((self.job or {}).get("result") or {}).get("slices")

    @property
    def can_retry(self) -> bool:
        """Whether its job may be asked for again."""
        stuck = self.state == "sending" and bool(self.deliveries.get("failed"))  # another destination still tries
        return self.job is not None and (self.state in RETRIED or stuck)

    @property
    def can_cancel(self) -> bool:
        """Whether its job may be cancelled."""
        return self.job is not None and cancellable(self.job)


def cancellable(job: Row) -> bool:
    """Whether a job may be cancelled now."""
    return MACHINES["jobs"].allows(job["state"], "cancelled")


def entries(store: Store, show: str, number: int) -> tuple[list[Entry], bool]:
    """One page of the queue, the newest series first.

    Args:
        store: the database.
        show: key of :data:`SHOWN`.
        number: of the page, from 1.

    Returns:
        Its entries, and whether there are more.
    """
    wanted = select(series).where(_condition(show)).order_by(series.c.id.desc())
    rows = store.rows(wanted.offset((number - 1) * PAGE_ROWS).limit(PAGE_ROWS + 1))
    shown = rows[:PAGE_ROWS]
    return entries_of(store, shown), len(rows) > PAGE_ROWS


def entries_of(store: Store, rows: Sequence[Row]) -> list[Entry]:
    """The same for given rows of ``series``."""
    ids = [row["id"] for row in rows]
    newest = select(func.max(jobs.c.id)).where(jobs.c.series_id.in_(ids)).group_by(jobs.c.series_id)
    job_of = {row["series_id"]: row for row in store.rows(select(jobs).where(jobs.c.id.in_(newest)))}
    counted = select(instances.c.series_id, func.count().label("count")).where(instances.c.series_id.in_(ids))
    count_of = {row["series_id"]: row["count"] for row in store.rows(counted.group_by(instances.c.series_id))}
    sent = delivery_counts(store, [row["id"] for row in job_of.values()])
    return [
        Entry(row, job_of.get(row["id"]), count_of.get(row["id"], 0), sent.get(job_of.get(row["id"], {}).get("id"), {}))
        for row in rows
    ]


def delivery_counts(store: Store, job_ids: Sequence[int]) -> dict[Any, Counter[str]]:
    """Deliveries of jobs by state."""
    by = (deliveries.c.job_id, deliveries.c.state)
    found: dict[Any, Counter[str]] = {}
    wanted = select(*by, func.count().label("count")).where(deliveries.c.job_id.in_(job_ids)).group_by(*by)
    for row in store.rows(wanted):
        found.setdefault(row["job_id"], Counter())[row["state"]] = row["count"]
    return found


def tallies(store: Store) -> list[tuple[str, int]]:
    """How many series are coming in, and how many jobs are in each state that matters to a person."""
    coming = select(func.count().label("count")).where(series.c.state == "receiving")
    (arriving,) = store.rows(coming)
    by_state = store.rows(select(jobs.c.state, func.count().label("count")).group_by(jobs.c.state))
    counts = {row["state"]: row["count"] for row in by_state}
    states = (*OPEN_JOBS, *NEEDS_A_PERSON, *ENDS_WELL)
    return [("receiving", arriving["count"]), *((state, counts.get(state, 0)) for state in states)]


def _condition(show: str) -> ColumnElement[bool]:
    _, states = SHOWN[show]
    if not states:
        return series.c.id > 0
    wanted: ColumnElement[bool] = jobs.c.state.in_(states)
    if show == "attention":  # one destination has failed, while others are still tried
        failed = select(deliveries.c.job_id).where(deliveries.c.state == "failed")
        wanted = wanted | (jobs.c.state == "sending") & jobs.c.id.in_(failed)
    held = series.c.id.in_(select(jobs.c.series_id).where(wanted))
    return held | (series.c.state == "receiving") if show == "open" else held
