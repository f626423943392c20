"""The rows of ``deliveries``: what has to reach whom, what each peer answered, and when that ends a job.

An object goes ``waiting`` -> ``sent`` (the peer answered success) -> ``asked`` (storage commitment was requested) ->
``confirmed``. Only ``confirmed`` counts: a peer that answered success may lose the object all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, select, update

from iscl_monai.service.database.rows import DeliveryRow, JobRow
from iscl_monai.service.database.states import DELIVERIES, OPEN_DELIVERIES, DeliveryState, JobState
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.log import log

LONGEST_REASON = 500

# Failure Reasons of a storage commitment (PS3.3 C.14.1.1) after which the object is not just sent again:
PERMANENT_FAILURES = ("0x0119", "0x0122")  # class / instance conflict, class not supported: another try cannot help
DUPLICATE_TRANSACTION = "0x0131"  # says nothing about the object: request it again under another UID


@dataclass(frozen=True)
class DerivedObject:
    """A derived object that lies on the disk, ready to be sent.

    Args:
        sop_instance_uid: its UIDs.
        sop_class_uid: as above.
        series_uid: as above.
        study_uid: as above.
        file: below the data folder.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    file: str


def add_deliveries(change: Change, job_id: int, derived: Sequence[DerivedObject], destinations: Iterable[str]) -> None:
    """Write down what a job has to deliver, in the transaction that lets it be sent; repeating it adds nothing.

    What an earlier job of the series has delivered to a destination already is confirmed from the start, unless a
    person wants the series processed again, since it is missing there. Rows of an earlier attempt of the same job
    are taken up again; those for objects it does not make any more are deleted unless they were delivered, as their
    files are gone.
    """
    (job,) = change.read(JobRow, select(jobs).where(jobs.c.id == job_id))
    of_job = change.read(DeliveryRow, select(deliveries).where(deliveries.c.job_id == job_id))
    known = {(row.destination, row.sop_instance_uid): row for row in of_job}
    needed = {(destination, one.sop_instance_uid): one for destination in destinations for one in derived}
    for key, row in known.items():
        if key not in needed and row.state is not DeliveryState.CONFIRMED:
            change.execute(delete(deliveries).where(deliveries.c.id == row.id))
    for key, one in needed.items():
        if key not in known:
            _add(change, job_id, None if job.again else job.series_id, key[0], one)
        elif known[key].state is not DeliveryState.CONFIRMED:
            _restart(change, known[key], one.file)


def _restart(change: Change, row: DeliveryRow, file: str) -> None:
    if row.state is not DeliveryState.WAITING:
        change.move(deliveries, row.id, DeliveryState.WAITING)
    fresh = {"file": file, "attempts": 0, "refused": 0, "reason": "", "transaction_uid": ""}
    change.execute(update(deliveries).where(deliveries.c.id == row.id).values(**fresh))


def _add(change: Change, job_id: int, series_id: int | None, destination: str, one: DerivedObject) -> None:
    earlier = change.execute(
        select(jobs.c.id)
        .join(deliveries, deliveries.c.job_id == jobs.c.id)
        .where(deliveries.c.sop_instance_uid == one.sop_instance_uid, deliveries.c.destination == destination)
        .where(deliveries.c.state == DeliveryState.CONFIRMED, jobs.c.series_id == series_id)
        .where(jobs.c.folder.is_not(None))
        .order_by(jobs.c.id)
        .limit(1)
    ).scalar_one_or_none()
    state: dict[str, Any] = {"state": DeliveryState.WAITING}
    if earlier is not None:
        state = {"state": DeliveryState.CONFIRMED, "proof": f"delivered by job {earlier}"}
    change.add(deliveries, job_id=job_id, destination=destination, updated_at=now(), **asdict(one), **state)


def move_if(change: Change, row_id: int, before: Iterable[DeliveryState], after: DeliveryState, **values: Any) -> bool:
    """Bring a delivery into another state if it is still in one of those that were seen; whether it was."""
    state = change.execute(select(deliveries.c.state).where(deliveries.c.id == row_id)).scalar_one_or_none()
    if state is None or state not in before or not DELIVERIES.allows(state, after):
        return False  # changed meanwhile: by a person, a report that came twice, a job that made its objects anew
    change.move(deliveries, row_id, after, **values)
    return True


def record_refusal(change: Change, row: DeliveryRow, reason: str, *, limit: int) -> None:
    """The peer answered that it does not take an object: it waits for another try, or fails after ``limit`` of them."""
    count = row.refused + 1
    values = {"refused": count, "reason": reason[:LONGEST_REASON], "transaction_uid": ""}
    waiting = DeliveryState.WAITING
    if row.state is not waiting and not move_if(change, row.id, (row.state,), waiting, **values):
        return
    change.execute(update(deliveries).where(deliveries.c.id == row.id).values(**values))
    if count >= limit and move_if(change, row.id, (waiting,), DeliveryState.FAILED):
        finish_job(change, row.job_id)


def record_unreachable(change: Change, row_ids: Sequence[int], reason: str, *, limit: int) -> None:
    """A try did not reach the peer with these deliveries, which were waiting."""
    of_rows = deliveries.c.id.in_(row_ids) & (deliveries.c.state == DeliveryState.WAITING)
    values = {"attempts": deliveries.c.attempts + 1, "reason": reason[:LONGEST_REASON], "updated_at": now()}
    change.execute(update(deliveries).where(of_rows).values(**values))
    exhausted = change.read(DeliveryRow, select(deliveries).where(of_rows, deliveries.c.attempts >= limit))
    for row in exhausted:
        move_if(change, row.id, (DeliveryState.WAITING,), DeliveryState.FAILED)
    for job_id in {row.job_id for row in exhausted}:
        finish_job(change, job_id)


def record_unproven(change: Change, rows: Iterable[DeliveryRow], reason: str, *, limit: int) -> None:
    """The peer answered success for these objects, and could not prove it this time: proof is requested again."""
    for row in rows:
        values = {"attempts": row.attempts + 1, "reason": reason[:LONGEST_REASON]}
        if row.attempts + 1 >= limit:
            fail(change, row, reason)
        elif not move_if(change, row.id, (DeliveryState.ASKED,), DeliveryState.SENT, **values):
            still_sent = (deliveries.c.id == row.id) & (deliveries.c.state == DeliveryState.SENT)
            change.execute(update(deliveries).where(still_sent).values(**values))


def fail(change: Change, row: DeliveryRow, reason: str) -> None:
    """An object cannot be delivered however often one tries."""
    if row.state is DeliveryState.SENT:
        move_if(change, row.id, (DeliveryState.SENT,), DeliveryState.WAITING)
    before = (DeliveryState.WAITING, DeliveryState.ASKED)
    if move_if(change, row.id, before, DeliveryState.FAILED, reason=reason[:LONGEST_REASON]):
        finish_job(change, row.job_id)


def confirm(change: Change, row_ids: Iterable[int], proof: str) -> None:
    """The peer has these objects, and this proves it."""
    job_ids = set()
    for row_id in row_ids:
        before = (DeliveryState.SENT, DeliveryState.ASKED)
        if move_if(change, row_id, before, DeliveryState.CONFIRMED, proof=proof, reason=""):
            job_ids.add(change.execute(select(deliveries.c.job_id).where(deliveries.c.id == row_id)).scalar_one())
    for job_id in job_ids:
        finish_job(change, job_id)


def new_transaction_uid(earlier: str = "") -> str:
    """A new UID for a storage commitment, which shows that it requests the same as an earlier one did.

    A slow archive may answer after we have requested again: its answer to the first request is as good.
    """
    if not earlier:
        return f"2.25.{uuid.uuid4().int}.1"
    root, _, count = earlier.rpartition(".")
    return f"{root}.{int(count) + 1}"


def record_report(
    store: Store,
    transaction_uid: str,
    confirmed_uids: Iterable[str],
    failed: Mapping[str, str],
    *,
    by: str | None = None,
) -> int:
    """A peer has reported what it commits itself to. A report that comes twice changes nothing.

    Args:
        store: the database.
        transaction_uid: of our request.
        confirmed_uids: SOP Instance UIDs that it keeps.
        failed: SOP Instance UIDs that it does not, each with its Failure Reason (0008,1197): ``0x0112`` and words.
        by: name of the peer that reports; what another one was requested is not its to answer. None: that one.

    Returns:
        How many deliveries the report was about; 0 when we never requested this.
    """
    root = transaction_uid.rpartition(".")[0]
    of_request = (deliveries.c.transaction_uid > f"{root}.") & (deliveries.c.transaction_uid < f"{root}/")  # "/": "."+1
    if by is not None:
        of_request &= deliveries.c.destination == by
    kept = set(confirmed_uids)
    with store.writing() as change:
        rows = change.read(DeliveryRow, select(deliveries).where(of_request)) if root else []
        confirm(change, [row.id for row in rows if row.sop_instance_uid in kept], "storage commitment")
        for row in rows:
            reason = failed.get(row.sop_instance_uid)
            if reason is not None and row.state in (DeliveryState.SENT, DeliveryState.ASKED):
                _record_not_kept(change, row, reason)
    counts = {"transaction": transaction_uid, "kept": len(kept), "not_kept": len(failed), "known": len(rows)}
    (log.info if rows else log.warning)("commitment.answered", **counts)
    return len(rows)


def _record_not_kept(change: Change, row: DeliveryRow, failure_reason: str) -> None:
    reason = f"storage commitment failed: {failure_reason}"[:LONGEST_REASON]
    values = {"transaction_uid": "", "refused": row.refused + 1, "reason": reason}
    if failure_reason.startswith(PERMANENT_FAILURES):
        fail(change, row, reason)
    elif failure_reason.startswith(DUPLICATE_TRANSACTION):
        if not move_if(change, row.id, (DeliveryState.ASKED,), DeliveryState.SENT, **values):
            change.execute(update(deliveries).where(deliveries.c.id == row.id).values(**values))
    else:
        move_if(change, row.id, (DeliveryState.SENT, DeliveryState.ASKED), DeliveryState.WAITING, **values)


def forget_commitment_requests(change: Change, destination: str) -> None:
    """Wait for no reports of commitment any more: the settings want another proof now."""
    requested = (deliveries.c.destination == destination) & (deliveries.c.state == DeliveryState.ASKED)
    for row_id in change.execute(select(deliveries.c.id).where(requested)).scalars().all():
        change.move(deliveries, row_id, DeliveryState.SENT, transaction_uid="", reason="")


def fail_often_refused(change: Change, destination: str, *, limit: int) -> None:
    """Fail deliveries that a peer has refused often enough, in whatever way; a person may retry them."""
    often = (deliveries.c.destination == destination) & (deliveries.c.refused >= limit)
    states = (DeliveryState.WAITING, DeliveryState.SENT)
    for row in change.read(DeliveryRow, select(deliveries).where(often, deliveries.c.state.in_(states))):
        fail(change, row, row.reason)


def finish_job(change: Change, job_id: int) -> None:
    """A job that is sending and has nothing left to do is done, or failed for the first reason that a peer gave."""
    state = change.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    of_job = select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
    rows = change.read(DeliveryRow, of_job)
    if state != JobState.SENDING or any(row.state in OPEN_DELIVERIES for row in rows):
        return
    failed = [row for row in rows if row.state is DeliveryState.FAILED]
    if failed:
        first = f"{failed[0].destination}: {failed[0].reason}"
        reason = f"{len(failed)} of {len(rows)} objects not delivered; {first}"
        change.move(jobs, job_id, JobState.FAILED, reason=reason[:LONGEST_REASON])
    else:
        change.move(jobs, job_id, JobState.DONE, reason="")
