"""After a crash, of the node or of its worker: every job that was being worked on goes back to the queue."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from iscl_monai.durable import PARTIAL
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import jobs
from iscl_monai.service.log import log

JOBS_FOLDER = "jobs"  # of jobs being worked on; here, since the module work needs torch, and the node's process not


def recover_jobs(store: Store, attempts: int, *, died: bool = True) -> int:
    """Put running jobs back into the queue; one whose worker has died too often is failed, for it may be what kills it.

    Args:
        store: the database; no worker works on it now.
        attempts: see :class:`iscl_monai.service.settings.Work`.
        died: whether the worker died of itself. A stop that took too long does not count as an attempt.

    Returns:
        How many jobs were running.
    """
    with store.writing() as change:
        of_running = select(jobs.c.id, jobs.c.attempts).where(jobs.c.state == JobState.RUNNING)  # they can all be read
        running = [(int(row.id), int(row.attempts)) for row in change.execute(of_running)]
        for job_id, taken in running:
            if died and taken >= attempts:
                reason = f"the worker died {taken} times while it had this series; look into the log"
                change.move(jobs, job_id, JobState.FAILED, reason=reason)
            else:
                counted = taken if died else taken - 1
                change.move(jobs, job_id, JobState.QUEUED, attempts=counted, reason="begun before, and interrupted")
    return len(running)


def clear_job_folders(store: Store) -> int:
    """Remove what interrupted work has left; the folders of finished jobs are named by their rows.

    Returns:
        How many folders were removed.
    """
    for unfinished in store.data.glob(f".*{PARTIAL}"):
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    jobs_folder = store.data / JOBS_FOLDER
    kept = store.values(select(jobs.c.folder).where(jobs.c.folder.is_not(None)))
    needed = {(store.data / folder).parent for folder in kept}
    folders = list(jobs_folder.iterdir()) if jobs_folder.is_dir() else []
    removed = sum(_clear(job, needed) for job in folders)
    if removed:
        log.info("jobs.cleared", folders=removed)
    return removed


def _clear(job: Path, needed: set[Path]) -> int:
    """Remove what a job's folder has beside what is needed; what cannot be removed keeps the node from no start."""
    removed = 0
    try:
        for attempt in job.iterdir():
            if attempt not in needed:
                shutil.rmtree(attempt, ignore_errors=True)
                removed += 1
        if not any(job.iterdir()):
            job.rmdir()
    except OSError as error:  # it is no folder, or belongs to somebody else
        log.error("jobs.not_cleared", folder=job.name, reason=error.strerror)
    return removed
