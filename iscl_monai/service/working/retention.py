"""Files go some time after their work is done; rows stay, so that a repeat is recognised."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from sqlalchemy import func, select, update

from iscl_monai.service.database.rows import JobRow, SeriesRow
from iscl_monai.service.database.states import OPEN_JOBS, CommitmentState, JobState, SeriesState
from iscl_monai.service.database.store import Change, Store
from iscl_monai.service.database.tables import commitments, instances, jobs, refusals, series
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.settings import Settings

LOOKS_EVERY_S = 600.0
MOST_REFUSALS = 100_000
"""On the page, the newest ones: a sender that tries the same again and again must not fill the disk."""
REFUSALS_AT_ONCE = 10_000
"""Deleted while nobody else can write: millions, which a node of years may have, took 5 s."""


class Retention:
    """Removes files of series that have been finished for long enough; never of anything that is not finished.

    Args:
        settings: of the node.
        store: the database.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.loop = Loop("retention", self.step)

    def step(self) -> float:
        """Remove what is due, each series by itself; the seconds until the next look."""
        here = select(instances.c.series_id).where(instances.c.file.is_not(None))
        made = select(jobs.c.series_id).where(jobs.c.folder.is_not(None))
        # there may be years of series, and files of some days
        with_files = series.c.id.in_(here) | series.c.id.in_(made)
        settled = self.store.values(select(series.c.id).where(series.c.state == SeriesState.SETTLED, with_files))
        for series_id in settled:
            with self.loop.guard(f"series {series_id}"):
                self.remove_if_due(series_id)
        names = {f"series {series_id}" for series_id in settled}
        with self.loop.guard("commitments"):
            self._forget_commitments()
        with self.loop.guard("refusals"):
            self._forget_refusals()
        self.loop.forget(lambda member: member not in (*names, "commitments", "refusals"))
        return LOOKS_EVERY_S

    def _forget_commitments(self) -> None:
        """Delete requests for storage commitment that bind nobody any more: reported long ago, or given up."""
        since = datetime.now(timezone.utc) - timedelta(hours=self.settings.retention.promised_h)
        old = commitments.c.created_at < since.isoformat(timespec="milliseconds")
        ended = commitments.c.state.in_((CommitmentState.REPORTED, CommitmentState.FAILED))
        with self.store.writing() as change:
            change.execute(commitments.delete().where(ended, old))

    def _forget_refusals(self) -> None:
        newest = select(func.max(refusals.c.id)).scalar_subquery()
        old = select(refusals.c.id).where(refusals.c.id <= newest - MOST_REFUSALS).limit(REFUSALS_AT_ONCE)
        deleted = REFUSALS_AT_ONCE
        while deleted == REFUSALS_AT_ONCE:
            with self.store.writing() as change:
                deleted = change.execute(refusals.delete().where(refusals.c.id.in_(old))).rowcount

    def remove_if_due(self, series_id: int) -> bool:
        """Remove the files of a series, from the database first: what a crash leaves then is removed at the next start.

        Args:
            series_id: of ``series``.
        """
        with self.store.writing() as change:
            found = change.read(JobRow, select(jobs).where(jobs.c.series_id == series_id))
            if not self._is_due(change, series_id, found):
                return False
            files = _clear_file_columns(change, series_id)
        for file in files:
            path = self.store.data / file
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path.parent)
                else:
                    path.unlink()
                    path.parent.rmdir()  # after the last of the series
        if files:
            log.info("series.removed", series=series_id, files=len(files))
        return bool(files)

    def _is_due(self, change: Change, series_id: int, found: list[JobRow]) -> bool:
        states = {job.state for job in found}
        if states & {*OPEN_JOBS, JobState.HELD} or self._is_committed(change, series_id):
            return False
        (current,) = change.read(SeriesRow, select(series).where(series.c.id == series_id))
        if current.state is not SeriesState.SETTLED:
            return False
        last = max([current.last_at, *(job.updated_at for job in found)])
        unfinished = bool(states & {JobState.FAILED, JobState.REFUSED, JobState.CANCELLED})
        hours = self.settings.retention.unfinished_h if unfinished else self.settings.retention.done_h
        if unfinished and hours == 0:
            return False
        return datetime.now(timezone.utc) - datetime.fromisoformat(last) >= timedelta(hours=hours)

    def _is_committed(self, change: Change, series_id: int) -> bool:
        """Whether we owe a peer a report about objects of the series, or it may rely on one that it got."""
        since = datetime.now(timezone.utc) - timedelta(hours=self.settings.retention.promised_h)
        binding = (commitments.c.state == CommitmentState.OWED) | (
            (commitments.c.state == CommitmentState.REPORTED)
            & (commitments.c.created_at > since.isoformat(timespec="milliseconds"))
        )
        listed = change.execute(select(commitments.c.asked).where(binding)).scalars()
        committed = {uid for pairs in listed for _, uid in pairs}
        mine = select(instances.c.sop_instance_uid).where(instances.c.series_id == series_id)
        return bool(committed and committed & set(change.execute(mine).scalars()))


def _clear_file_columns(change: Change, series_id: int) -> list[str]:
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    made = (jobs.c.series_id == series_id) & jobs.c.folder.is_not(None)
    files = [str(file) for file in change.execute(select(instances.c.file).where(here)).scalars()]
    files += [str(folder) for folder in change.execute(select(jobs.c.folder).where(made)).scalars()]
    change.execute(update(instances).where(here).values(file=None))
    change.execute(update(jobs).where(made).values(folder=None))
    return files
