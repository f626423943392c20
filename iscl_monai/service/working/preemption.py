"""Between two slices of a series, a worker does what is more urgent: three slices do not wait behind a thousand.

The series that is interrupted keeps its files and its memory, and goes on afterwards. A stream of urgent ones does not
starve it: after each of them it is worked on for a third of the time that the urgent one took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import jobs
from iscl_monai.service.log import log
from iscl_monai.service.working.claim import OLDEST_EVERY, Claims


class Preemption:
    """Lets more urgent jobs pass one that is running.

    Args:
        job: that is running.
        store: the database.
        claims: takes jobs.
        run: runs a job to its end, whatever that is.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        job: JobRow,
        store: Store,
        claims: Claims,
        run: Callable[[JobRow], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job = job
        self.store = store
        self.claims = claims
        self.run = run
        self.clock = clock
        self.spent_s = 0.0  # on others
        self._not_before = 0.0

    def let_pass(self) -> bool:
        """Run one more urgent job if there is any; whether there was."""
        urgent = self._next_more_urgent() if self.clock() >= self._not_before else None
        if urgent is None:
            return False
        log.info("job.interrupted", job=self.job.id, by=urgent.id)
        # if the worker dies now, it was not this job that killed it
        self._set(progress={"waits_for": urgent.id}, attempts=self.job.attempts - 1)
        begun = self.clock()
        self.run(urgent)
        spent_s = self.clock() - begun
        self.spent_s += spent_s
        self._not_before = self.clock() + spent_s / (OLDEST_EVERY - 1)
        self._set(attempts=self.job.attempts)
        return True

    def _next_more_urgent(self) -> JobRow | None:
        """Claim one, if reading shows that there is one: a claim that finds nothing would make those wait who write."""
        more_urgent = (jobs.c.state == JobState.QUEUED) & (jobs.c.priority < self.job.priority)
        try:
            if self.store.values(select(jobs.c.id).where(more_urgent).limit(1)):
                return self.claims.next_job(more_urgent_than=self.job.priority)
        except StoreUnavailable:  # no reason to give up what is being made
            log.warning("job.cannot_look", job=self.job.id)
        return None

    def _set(self, **values: Any) -> None:
        held = (jobs.c.id == self.job.id) & (jobs.c.state == JobState.RUNNING) & (jobs.c.claim == self.job.claim)
        with suppress(StoreUnavailable), self.store.writing() as change:  # the work goes on without it
            change.execute(jobs.update().where(held).values(**values))
