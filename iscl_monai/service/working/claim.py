"""Which job a worker takes next, and the objects it works on."""

from __future__ import annotations

import secrets
from dataclasses import replace

from sqlalchemy import select

from iscl_monai.service.database.rows import InstanceRow, JobRow
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import instances, job_sources, jobs
from iscl_monai.service.space import MB, Space


def claim_next_job(store: Store, space: Space) -> JobRow | None:
    """Claim the most urgent job, and of these the oldest; None when there is none, or no space for it."""
    with store.writing() as change:
        waiting = select(jobs).where(jobs.c.state == JobState.QUEUED).order_by(jobs.c.priority, jobs.c.id).limit(1)
        found = change.read(JobRow, waiting)
        if not found:
            return None
        (job,) = found
        no_room = _no_room_reason(store, space, job.id)
        if no_room:
            if job.reason != no_room:
                change.execute(jobs.update().where(jobs.c.id == job.id).values(reason=no_room))
            return None
        claimed = replace(job, state=JobState.RUNNING, claim=secrets.token_hex(8), reason="", attempts=job.attempts + 1)
        change.move(jobs, job.id, claimed.state, claim=claimed.claim, reason="", attempts=claimed.attempts)
        return claimed


def sources_of(store: Store, job_id: int) -> list[InstanceRow]:
    """The objects that a job works on."""
    joined = select(instances).join(job_sources, job_sources.c.instance_id == instances.c.id)
    return store.read(InstanceRow, joined.where(job_sources.c.job_id == job_id))


def _no_room_reason(store: Store, space: Space, job_id: int) -> str:
    needed = sum(row.size for row in sources_of(store, job_id))
    left = space.free_bytes - needed
    if left >= space.limits.reserve_mb * MB // 2:  # what comes in stops at the reserve: the other half is for the work
        return ""
    return f"waits for room: {needed // MB} MB are needed, {space.free_bytes // MB} MB are free"
