"""Decides when a series is complete: when no object has come for a while, for DICOM has no other sign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select, update

from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.database.rows import SeriesRow
from iscl_monai.service.database.states import SeriesState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import instances, series
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import Arrivals
from iscl_monai.service.rules import MEASURED_TAGS, measured_tags_are_tested
from iscl_monai.service.settings import Settings
from iscl_monai.service.working.measured_tags import measure
from iscl_monai.service.working.queue import NO_RULE_QUIET_S, PROCESS_AGAIN, rule_for, settle

LOOKS_EVERY_S = 0.5


class Completion:
    """Settles series that have been quiet for as long as their rule says.

    Args:
        settings: of the node.
        store: the database.
        arrivals: when the last object of each series came. Its clock is monotonic: a wall clock that jumps settles
            nothing too early, and after a start every series gets its whole quiet time again.
        on_queued: called after a job has been made.
        measure: finds out what rules ask of files beyond their tags.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        arrivals: Arrivals,
        on_queued: Callable[[], object],
        measure: Callable[[Sequence[Path]], dict[str, str]] = measure,
    ) -> None:
        self.settings = settings
        self.store = store
        self.arrivals = arrivals
        self.on_queued = on_queued
        self.measure = measure
        self.loop = Loop("completion", self.step)

    def step(self) -> float:
        """Settle what is due, each series by itself; the seconds until the next look."""
        receiving = self.store.values(select(series.c.id).where(series.c.state == SeriesState.RECEIVING))
        for series_id in receiving:
            with self.loop.guard(f"series {series_id}"):
                self._settle_if_quiet(series_id)
        names = {f"series {series_id}" for series_id in receiving}
        self.loop.forget(lambda member: member not in names)
        return LOOKS_EVERY_S

    def _settle_if_quiet(self, series_id: int) -> None:
        (row,) = self.store.read(SeriesRow, select(series).where(series.c.id == series_id))
        rule = rule_for(self.settings, row)
        quiet_s = rule.quiet_s if rule is not None else NO_RULE_QUIET_S
        if row.reason == PROCESS_AGAIN:  # nothing is coming in
            quiet_s = 0.0
        if self.arrivals.quiet_s(series_id) >= quiet_s:
            if measured_tags_are_tested(self.settings.rules) and not set(MEASURED_TAGS) <= set(row.tags):
                self._measure(row)  # the next look decides by it
            else:
                self._settle(series_id, row.last_at, quiet_s)

    def _measure(self, row: SeriesRow) -> None:
        here = (instances.c.series_id == row.id) & instances.c.file.is_not(None)
        files = self.store.values(select(instances.c.file).where(here).order_by(instances.c.id))
        tags = {**row.tags, **self.measure([self.store.data / file for file in files])}
        with self.store.writing() as change:
            change.execute(update(series).where(series.c.id == row.id).values(tags=tags))

    def _settle(self, series_id: int, last_at: str, quiet_s: float) -> None:
        try:
            with self.store.writing() as change:
                # An object may have come since we looked; within this transaction none can.
                last_now = change.execute(select(series.c.last_at).where(series.c.id == series_id)).scalar_one()
                if last_now != last_at or self.arrivals.quiet_s(series_id) < quiet_s:
                    return
                job = settle(change, self.settings, series_id)
        except NotAllowedNow:
            return
        self.arrivals.forget(series_id)
        log.info("series.settled", series=series_id, job=job)
        if job is not None:
            self.on_queued()
