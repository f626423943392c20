"""Files go some time after their work is done; rows stay, so that a repeat is recognised."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import select, update

from iscl_monai.service.database.states import OPEN_JOBS
from iscl_monai.service.database.store import Change, Store
from iscl_monai.service.database.tables import commitments, instances, jobs, series
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.settings import Settings

LOOKS_EVERY_S = 600.0


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
        """Remove what is due; the seconds until the next look."""
        here = select(instances.c.series_id).where(instances.c.file.is_not(None))
        made = select(jobs.c.series_id).where(jobs.c.folder.is_not(None))
        with_files = series.c.id.in_(here) | series.c.id.in_(made)  # of years of series, those of some days
        for row in self.store.rows(select(series).where(series.c.state == "settled", with_files)):
            self.remove_if_due(row)
        return LOOKS_EVERY_S

    def remove_if_due(self, row: Mapping[str, Any]) -> bool:
        """Forget the files of a series, in the database first: what a crash leaves then is removed at the next start.

        Args:
            row: of ``series``.
        """
        with self.store.writing() as change:
            found = change.execute(select(jobs).where(jobs.c.series_id == row["id"])).mappings().all()
            if not self._due(change, row, [dict(job) for job in found]):
                return False
            files = _forget(change, row["id"])
        for file in files:
            path = self.store.data / file
            with suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path.parent)
                else:
                    path.unlink()
                    path.parent.rmdir()  # after the last of the series
        if files:
            log.info("series.removed", series=row["id"], files=len(files))
        return bool(files)

    def _due(self, change: Change, row: Mapping[str, Any], found: list[Mapping[str, Any]]) -> bool:
        states = {job["state"] for job in found}
        if states & {*OPEN_JOBS} or self._promised(change, row["id"]):
            return False
        current = change.execute(select(series).where(series.c.id == row["id"])).mappings().one()
        if current["state"] != "settled":
            return False
        last = max([current["last_at"], *(job["updated_at"] for job in found)])
        unfinished = bool(states & {"failed", "refused", "cancelled"})
        hours = self.settings.retention.unfinished_h if unfinished else self.settings.retention.done_h
        if unfinished and hours == 0:
            return False
        return datetime.now(timezone.utc) - datetime.fromisoformat(last) >= timedelta(hours=hours)

    def _promised(self, change: Change, series_id: int) -> bool:
        """Whether a peer waits for us to say that we have objects of the series, or may rely on having been told so."""
        since = datetime.now(timezone.utc) - timedelta(hours=self.settings.retention.promised_h)
        binding = (commitments.c.state == "owed") | (
            (commitments.c.state == "reported") & (commitments.c.created_at > since.isoformat(timespec="milliseconds"))
        )
        listed = change.execute(select(commitments.c.asked).where(binding)).scalars()
        asked = {uid for pairs in listed for _, uid in pairs}
        mine = select(instances.c.sop_instance_uid).where(instances.c.series_id == series_id)
        return bool(asked and asked & set(change.execute(mine).scalars()))


def _forget(change: Change, series_id: int) -> list[str]:
    here = (instances.c.series_id == series_id) & instances.c.file.is_not(None)
    made = (jobs.c.series_id == series_id) & jobs.c.folder.is_not(None)
    files = [str(file) for file in change.execute(select(instances.c.file).where(here)).scalars()]
    files += [str(folder) for folder in change.execute(select(jobs.c.folder).where(made)).scalars()]
    change.execute(update(instances).where(here).values(file=None))
    change.execute(update(jobs).where(made).values(folder=None))
    return files
