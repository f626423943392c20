"""What becomes of a series that is complete: a job, or a reason why not; and what a person may do about a job."""

from __future__ import annotations

from sqlalchemy import select, update

from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.database.rows import JobRow, SeriesRow
from iscl_monai.service.database.states import JOBS, DeliveryState, JobState, SeriesState
from iscl_monai.service.database.store import Change, now
from iscl_monai.service.database.tables import deliveries, instances, job_sources, jobs, series
from iscl_monai.service.receiving.decoded_size import LARGEST_INTEGER
from iscl_monai.service.rules import PRIORITIES, Rule, matching_rule, shadow_rules
from iscl_monai.service.settings import Settings

NO_RULE_QUIET_S = 30.0
RETRIED = (JobState.FAILED, JobState.REFUSED, JobState.CANCELLED)  # states from which a job can be tried again
PROCESS_AGAIN = "asked again"  # reason of a series that a person wants processed again
LATE_OBJECTS = "more objects of the series came"


def rule_for(settings: Settings, row: SeriesRow) -> Rule | None:
    """The rule for a series: the one that a person chose, or the first that fits."""
    forced = settings.rule(row.forced_rule) if row.forced_rule else None
    if forced is not None and not forced.shadow:  # it may have become a shadow since
        return forced
    return matching_rule(settings.rules, row.tags)


def settle(change: Change, settings: Settings, series_id: int) -> int | None:
    """A series is complete: make the job that its rule asks for, of all objects that are here.

    Jobs made before are superseded: what they have delivered stays, as the same objects. If one of them was to be
    held when unlike the training, so is the new one, whatever its rule says: only an admin may send what was held.

    Each shadow rule that fits makes a job as well, unless the rule that decides leaves the series alone on purpose.

    Returns:
        The job's id, or that of a shadow rule; None when there is none, for the reason that the series now bears.
    """
    (row,) = change.read(SeriesRow, select(series).where(series.c.id == series_id))
    rule = rule_for(settings, row)
    again = row.reason == PROCESS_AGAIN
    left_alone = "no rule fits" if rule is None else "" if rule.process else f"rule {rule.name} leaves it alone"
    keeps_hold = rule is not None and not rule.hold_unlike and _has_hold(change, series_id)
    by_rule = f"processed again by rule {rule.name}" if rule is not None and again else LATE_OBJECTS
    supersede(change, series_id, left_alone or by_rule)
    shadows = shadow_rules(settings.rules, row.tags) if rule is None or rule.process else []
    made = [_add_job(change, series_id, shadow, again=again) for shadow in shadows]
    job = None
    if rule is not None and rule.process:
        job = _add_job(change, series_id, rule, again=again, keeps_hold=keeps_hold)
    change.move(series, series_id, SeriesState.SETTLED, reason=left_alone)
    return job if job is not None else next(iter(made), None)


def _add_job(change: Change, series_id: int, rule: Rule, *, again: bool, keeps_hold: bool = False) -> int:
    """Make the job of a rule, of all objects that are here."""
    here = (instances.c.series_id == series_id) & (instances.c.file.is_not(None))
    sources = change.execute(select(instances.c.id, instances.c.size, instances.c.decoded_bytes).where(here)).all()
    needed_bytes = sum(max(source.size, source.decoded_bytes) for source in sources)  # derived files are not compressed
    job = change.add(
        jobs,
        series_id=series_id,
        state=JobState.QUEUED,
        rule=rule.name,
        strength=f"{rule.strength:g}",
        priority=PRIORITIES["later" if rule.shadow else rule.priority],
        send_to=list(rule.send_to),
        hold_unlike=int(rule.hold_unlike or keeps_hold),
        again=int(again),
        shadow=int(rule.shadow),
        note="to be held if unlike the training, as an earlier job was" if keeps_hold else "",
        created_at=now(),
        updated_at=now(),
        needed_bytes=min(needed_bytes, LARGEST_INTEGER),
    )
    for source in sources:
        change.execute(job_sources.insert().values(job_id=job, instance_id=source.id))
    return job


def _has_hold(change: Change, series_id: int) -> bool:
    """Whether a job of the series was to be held; with one superseded in the queue nobody may evade that either."""
    held = (jobs.c.series_id == series_id) & (jobs.c.hold_unlike == 1) & (jobs.c.shadow == 0)
    return change.execute(select(jobs.c.id).where(held).limit(1)).first() is not None


def supersede(change: Change, series_id: int, reason: str) -> None:
    """End the older jobs of a series: a newer job, or the decision for none, takes their place."""
    for row in change.read(JobRow, select(jobs).where(jobs.c.series_id == series_id)):
        if JOBS.allows(row.state, JobState.SUPERSEDED):
            change.move(jobs, row.id, JobState.SUPERSEDED, reason=reason)


def retry(change: Change, job_id: int, actor: str) -> None:
    """Try a job again: from the start, or only the delivery if that was what failed.

    Raises:
        NotAllowedNow: the job is neither failed, refused nor cancelled, and no delivery of it has failed.
    """
    row = next(iter(change.read(JobRow, select(jobs).where(jobs.c.id == job_id))), None)
    state = row.state if row else None
    of_job = (deliveries.c.job_id == job_id) & (deliveries.c.state == DeliveryState.FAILED)
    failed = list(change.execute(select(deliveries.c.id).where(of_job)).scalars())
    if state not in RETRIED and not (state is JobState.SENDING and failed):
        raise NotAllowedNow(
            f"job {job_id} is {state or 'absent'}",
            allowed="failed, refused or cancelled jobs, and those with failed deliveries",
            cure="wait for its end",
        )
    if state is JobState.SENDING or (state is JobState.FAILED and row is not None and row.folder):
        for delivery in failed:
            change.move(deliveries, delivery, DeliveryState.WAITING, attempts=0, refused=0)
        if state is JobState.FAILED:
            change.move(jobs, job_id, JobState.SENDING, reason="")
    else:
        change.move(jobs, job_id, JobState.QUEUED, reason="", attempts=0, device="", room_tries=0)
    change.note(actor, "retry", f"job {job_id}")


def release(change: Change, job_id: int, actor: str) -> None:
    """Send what was held back: somebody has looked at it.

    Raises:
        NotAllowedNow: the job is not held.
    """
    row = next(iter(change.read(JobRow, select(jobs).where(jobs.c.id == job_id))), None)
    if row is None or row.state is not JobState.HELD:
        raise NotAllowedNow(
            f"job {job_id} is {row.state if row else 'absent'}",
            allowed="held jobs",
            cure="look at it again: it has changed meanwhile",
        )
    note = "; ".join(filter(None, (row.note, row.reason, f"released by {actor}")))
    change.move(jobs, job_id, JobState.SENDING, reason="", note=note)
    change.note(actor, "release", f"job {job_id}", row.reason)


def cancel(change: Change, job_id: int, actor: str) -> None:
    """End a job that has not ended; what has been delivered stays delivered.

    Raises:
        NotAllowedNow: it has ended.
    """
    change.move(jobs, job_id, JobState.CANCELLED, reason=f"by {actor}")
    change.note(actor, "cancel", f"job {job_id}")


def process_again(change: Change, series_id: int, rule: str | None, actor: str) -> None:
    """Process a series once more, by the rule named, or by the first that fits.

    Raises:
        NotAllowedNow: it is still coming in, or its files have been removed.
    """
    here = (instances.c.series_id == series_id) & (instances.c.file.is_not(None))
    if not change.execute(select(instances.c.id).where(here).limit(1)).first():
        raise NotAllowedNow(
            f"series {series_id} has no files here any more",
            allowed="series whose files are here",
            cure="send it again",
        )
    change.move(series, series_id, SeriesState.RECEIVING, reason=PROCESS_AGAIN)
    change.execute(update(series).where(series.c.id == series_id).values(forced_rule=rule))
    change.note(actor, "process", f"series {series_id}", rule or "")
