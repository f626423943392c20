"""How far a running job is, in words."""

from __future__ import annotations

from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.states import JobState


def describe_progress(job: JobRow | None) -> str:
    """Slices done, and the time left; "" for a job that does not run or has not come so far."""
    if job is None or job.state is not JobState.RUNNING or not job.progress:
        return ""
    if "waits_for" in job.progress:
        return f"lets the more urgent job {job.progress['waits_for']} pass"
    done, count, left_s = (job.progress.get(name) for name in ("done", "of", "left_s"))
    return f"{done} of {count} slices, {describe_seconds(left_s)} left" if left_s is not None else ""


def describe_seconds(seconds: float) -> str:
    """About how long that is."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
