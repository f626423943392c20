"""Which job a worker takes next, and the objects it works on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from iscl_monai.service.database.rows import InstanceRow, JobRow
from iscl_monai.service.database.states import NO_ROOM_TRIES, JobState
from iscl_monai.service.database.store import Change, Store
from iscl_monai.service.database.tables import instances, job_sources, jobs
from iscl_monai.service.log import log
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.space import MB, Space
from iscl_monai.service.working.resume import JOBS_FOLDER

FIRST_WAIT_S = 5.0  # of a job without room; doubled each time
LONGEST_WAIT_S = 300.0
OLDEST_EVERY = 4  # so often the oldest job is taken whatever its priority: a stream of urgent ones starves no other


class Claims:
    """Takes jobs for the worker: the most urgent, of these the oldest, of all only those that there is room for.

    A job without room holds up no other: it is looked at again after a while, and after twice that, and its reason says
    so; after :data:`iscl_monai.service.database.states.NO_ROOM_TRIES` times it is shown as one that needs a person, and
    goes on all the same when there is room.

    Args:
        store: the database.
        space: of the data folder.
        clock: monotonic, in seconds.
    """

    def __init__(self, store: Store, space: Space, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.space = space
        self.backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, clock)
        self._taken = 0

    def next_job(self, more_urgent_than: int | None = None) -> JobRow | None:
        """Claim a job; None when there is none, or no space for any.

        Args:
            more_urgent_than: only jobs that come before this priority.
        """
        columns = (jobs.c.id, jobs.c.needed_bytes, jobs.c.room_tries)
        queued = select(*columns).where(jobs.c.state == JobState.QUEUED).order_by(jobs.c.priority, jobs.c.id)
        if more_urgent_than is not None:
            queued = queued.where(jobs.c.priority < more_urgent_than)
        with self.store.writing() as change:
            due = [row for row in change.execute(queued).all() if self.backoff.is_due(row.id)]
            if not due:
                return None
            if self._taken % OLDEST_EVERY == OLDEST_EVERY - 1:
                due.sort(key=lambda row: row.id)
            free = self.space.free_bytes - self._to_be_written(change)
            for row in due:
                no_room = self._no_room_reason(row.needed_bytes, free)
                if no_room:
                    self._put_off(change, row, no_room)
                    continue
                claimed = _claim(change, row.id)
                if claimed is not None:
                    self._taken += 1
                    return claimed
        return None

    def put_off(self, job: JobRow) -> int:
        """A job could not be finished for want of room: it waits, each time twice as long; how often that was."""
        self.backoff.failed(job.id)
        return job.room_tries + 1

    def succeeded(self, job: JobRow) -> None:
        """It has ended, in whatever way: it waits no longer."""
        self.backoff.reset(job.id)

    def _put_off(self, change: Change, row: Any, reason: str) -> None:
        self.backoff.failed(row.id)
        tries = row.room_tries + 1
        more = f"; tried {tries} times: make room" if tries >= NO_ROOM_TRIES else ""
        change.execute(jobs.update().where(jobs.c.id == row.id).values(reason=reason + more, room_tries=tries))
        if tries == NO_ROOM_TRIES:
            log.error("job.no_room", job=row.id, reason=reason)

    def _no_room_reason(self, needed: int, free: int) -> str:
        # what comes in stops at the reserve: the other half is for the work
        if free - needed >= self.space.limits.reserve_mb * MB // 2:
            return ""
        return f"waits for room: {needed // MB} MB are needed, {max(0, free) // MB} MB are free"

    def _to_be_written(self, change: Change) -> int:
        """Bytes that the running jobs still need; what they have written already is not free any more."""
        running = select(jobs.c.id, jobs.c.claim, jobs.c.needed_bytes).where(jobs.c.state == JobState.RUNNING)
        folder = self.store.data / JOBS_FOLDER
        return sum(
            max(0, row.needed_bytes - _size_of(folder / str(row.id) / row.claim / "derived"))
            for row in change.execute(running)
        )


def _claim(change: Change, job_id: int) -> JobRow | None:
    """Claim one job; None for one whose row cannot be read, which fails, and holds up no other."""
    try:
        (job,) = change.read(JobRow, select(jobs).where(jobs.c.id == job_id))
    except (ValueError, LookupError, TypeError) as error:
        change.move(jobs, job_id, JobState.RUNNING)
        change.move(jobs, job_id, JobState.FAILED, reason=f"its row cannot be read ({type(error).__name__})")
        log.exception("job.unreadable", job=job_id, error=type(error).__name__)
        return None
    claimed = replace(job, state=JobState.RUNNING, claim=secrets.token_hex(8), reason="", attempts=job.attempts + 1)
    # room_tries is known to the claim, which counts on if there is no room after all; a worker that dies begins anew
    values: dict[str, Any] = {"claim": claimed.claim, "attempts": claimed.attempts, "reason": "", "room_tries": 0}
    values["progress"] = None
    change.move(jobs, job.id, claimed.state, **values)
    return claimed


def _size_of(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:  # it ends at this moment
        return 0


def sources_of(store: Store, job_id: int) -> list[InstanceRow]:
    """The objects that a job works on."""
    joined = select(instances).join(job_sources, job_sources.c.instance_id == instances.c.id)
    return store.read(InstanceRow, joined.where(job_sources.c.job_id == job_id))
