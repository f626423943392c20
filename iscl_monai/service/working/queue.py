"""What becomes of a series that is complete: a job, or a reason why not; and what a person may do about a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.database.states import MACHINES
from iscl_monai.service.database.store import Change, now
from iscl_monai.service.database.tables import deliveries, instances, job_sources, jobs, series
from iscl_monai.service.rules import PRIORITIES, Rule, matching_rule
from iscl_monai.service.settings import Settings

NO_RULE_QUIET_S = 30.0
ASKED = "asked again"


def rule_of(settings: Settings, row: Mapping[str, Any]) -> Rule | None:
    """The rule for a row of ``series``: the one somebody asked for, or the first that fits."""
    forced = settings.rule(row["forced_rule"]) if row["forced_rule"] else None
    return forced or matching_rule(settings.rules, row["tags"])


def settle(change: Change, settings: Settings, series_id: int) -> int | None:
    """A series is complete: make the job that its rule asks for, of all objects that are here.

    Jobs made before for fewer objects are superseded: what they have delivered stays, as the same objects.

    Returns:
        The job's id; None when there is none, for the reason that the series now bears.
    """
    row = change.execute(select(series).where(series.c.id == series_id)).mappings().one()
    rule = rule_of(settings, dict(row))
    if rule is None or not rule.process:
        reason = "no rule fits" if rule is None else f"rule {rule.name} leaves it alone"
        supersede(change, series_id, reason)
        change.move(series, series_id, "settled", reason=reason)
        return None
    here = (instances.c.series_id == series_id) & (instances.c.file.is_not(None))
    sources = list(change.execute(select(instances.c.id).where(here)).scalars())
    supersede(change, series_id)
    job = change.add(
        jobs,
        series_id=series_id,
        state="queued",
        rule=rule.name,
        strength=f"{rule.strength:g}",
        priority=PRIORITIES[rule.priority],
        send_to=list(rule.send_to),
        again=int(row["reason"] == ASKED),
        created_at=now(),
        updated_at=now(),
    )
    for source in sources:
        change.execute(job_sources.insert().values(job_id=job, instance_id=source))
    change.move(series, series_id, "settled", reason="")
    return job


def supersede(change: Change, series_id: int, reason: str = "more objects of the series came") -> None:
    """Let a newer job, or the decision for none, take the place of whatever older ones of the series may still do."""
    for row in change.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.series_id == series_id)).all():
        if MACHINES["jobs"].allows(row.state, "superseded"):
            change.move(jobs, row.id, "superseded", reason=reason)


def retry(change: Change, job_id: int, who: str) -> None:
    """Somebody asks again: from the start, or only the delivery if that was what failed.

    Raises:
        NotAllowedNow: the job is neither failed, refused nor cancelled, and no delivery of it has failed.
    """
    row = change.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
    state = row["state"] if row else "absent"
    of_job = (deliveries.c.job_id == job_id) & (deliveries.c.state == "failed")
    failed = list(change.execute(select(deliveries.c.id).where(of_job)).scalars())
    if state not in ("failed", "refused", "cancelled") and not (state == "sending" and failed):
        raise NotAllowedNow(
            f"job {job_id} is {state}",
            allowed="failed, refused or cancelled jobs, and those with failed deliveries",
            cure="wait for its end",
        )
    if state == "sending" or (state == "failed" and row is not None and row["folder"]):
        for delivery in failed:
            change.move(deliveries, delivery, "waiting", attempts=0, refused=0)
        if state == "failed":
            change.move(jobs, job_id, "sending", reason="")
    else:
        change.move(jobs, job_id, "queued", reason="", attempts=0, device="")
    change.note(who, "retry", f"job {job_id}")


def cancel(change: Change, job_id: int, who: str) -> None:
    """Somebody wants a job not to go on; what has been delivered stays delivered.

    Raises:
        NotAllowedNow: it has ended.
    """
    change.move(jobs, job_id, "cancelled", reason=f"by {who}")
    change.note(who, "cancel", f"job {job_id}")


def ask_again(change: Change, series_id: int, rule: str | None, who: str) -> None:
    """Somebody wants a series processed, by the rule named, or by the first that fits.

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
    change.move(series, series_id, "receiving", reason=ASKED)
    change.execute(update(series).where(series.c.id == series_id).values(forced_rule=rule))
    change.note(who, "process", f"series {series_id}", rule or "")
