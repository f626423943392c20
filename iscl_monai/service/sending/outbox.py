"""The rows of ``deliveries``: what has to reach whom, what each peer said, and when a job is done by that.

An object goes ``waiting`` -> ``sent`` (the peer answered success) -> ``asked`` (it was asked to commit itself) ->
``confirmed``. Only ``confirmed`` counts: a peer that answered success may lose the object all the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, select, update

from iscl_monai.service.database.states import MACHINES
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.log import log

OPEN = ("waiting", "sent", "asked")
LONGEST_REASON = 500

# Failure Reasons of a storage commitment (PS3.3 C.14.1.1) after which the object is not just sent again:
NEVER = (
    "0x0119",
    "0x0122",
)  # conflict of class and instance, class not supported: sending the same object again cannot help
DUPLICATE_TRANSACTION = "0x0131"  # says nothing about the object: ask again under another UID


@dataclass(frozen=True)
class Derived:
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


def enlist(change: Change, job_id: int, derived: Sequence[Derived], destinations: Iterable[str]) -> None:
    """Write down what a job has to deliver, in the transaction that lets it be sent; repeating it adds nothing.

    What an earlier job of the series has delivered to a destination already is confirmed from the start, unless a
    person asked for the series again: then somebody misses it there. Rows of an
    earlier attempt of the same job are taken up again; those for objects it does not make any more are deleted unless
    they were delivered, as their files are gone.
    """
    job = change.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one()
    of_job = select(deliveries).where(deliveries.c.job_id == job_id)
    known = {(row["destination"], row["sop_instance_uid"]): row for row in change.execute(of_job).mappings()}
    wanted = {(destination, one.sop_instance_uid): one for destination in destinations for one in derived}
    for key, row in known.items():
        if key not in wanted and row["state"] != "confirmed":
            change.execute(delete(deliveries).where(deliveries.c.id == row["id"]))
    for key, one in wanted.items():
        if key not in known:
            _add(change, job_id, None if job["again"] else job["series_id"], key[0], one)
        elif known[key]["state"] != "confirmed":
            if known[key]["state"] != "waiting":
                change.move(deliveries, known[key]["id"], "waiting")
            fresh = {"file": one.file, "attempts": 0, "refused": 0, "reason": "", "transaction_uid": ""}
            change.execute(update(deliveries).where(deliveries.c.id == known[key]["id"]).values(**fresh))


def _add(change: Change, job_id: int, series_id: int | None, destination: str, one: Derived) -> None:
    earlier = change.execute(
        select(jobs.c.id)
        .join(deliveries, deliveries.c.job_id == jobs.c.id)
        .where(deliveries.c.sop_instance_uid == one.sop_instance_uid, deliveries.c.destination == destination)
        .where(deliveries.c.state == "confirmed", jobs.c.series_id == series_id, jobs.c.folder.is_not(None))
        .order_by(jobs.c.id)
        .limit(1)
    ).scalar_one_or_none()
    told = {"state": "waiting"} if earlier is None else {"state": "confirmed", "proof": f"delivered by job {earlier}"}
    change.add(deliveries, job_id=job_id, destination=destination, updated_at=now(), **asdict(one), **told)


def move(change: Change, row_id: int, before: Iterable[str], after: str, **values: Any) -> bool:
    """Bring a delivery into another state if it is still in one of those that were seen; whether it was."""
    state = str(change.execute(select(deliveries.c.state).where(deliveries.c.id == row_id)).scalar_one_or_none())
    if state not in before or not MACHINES["deliveries"].allows(state, after):
        return False  # somebody was faster: a person, an answer that came twice, a job that made its objects anew
    change.move(deliveries, row_id, after, **values)
    return True


def refused(change: Change, row: Mapping[str, Any], reason: str, *, limit: int) -> None:
    """The peer answered that it does not take an object: it waits for another try, or has had enough of them."""
    count = row["refused"] + 1
    told = {"refused": count, "reason": reason[:LONGEST_REASON], "transaction_uid": ""}
    if row["state"] != "waiting" and not move(change, row["id"], (row["state"],), "waiting", **told):
        return
    change.execute(update(deliveries).where(deliveries.c.id == row["id"]).values(**told))
    if count >= limit and move(change, row["id"], ("waiting",), "failed"):
        finish(change, row["job_id"])


def not_reached(change: Change, row_ids: Sequence[int], reason: str, *, limit: int) -> None:
    """A try did not get through for these deliveries, which were waiting."""
    of_rows = deliveries.c.id.in_(row_ids) & (deliveries.c.state == "waiting")
    told = {"attempts": deliveries.c.attempts + 1, "reason": reason[:LONGEST_REASON], "updated_at": now()}
    change.execute(update(deliveries).where(of_rows).values(**told))
    given_up = change.execute(
        select(deliveries.c.id, deliveries.c.job_id).where(of_rows, deliveries.c.attempts >= limit)
    ).all()
    for row in given_up:
        move(change, row.id, ("waiting",), "failed")
    for job_id in {row.job_id for row in given_up}:
        finish(change, job_id)


def not_proven(change: Change, rows: Iterable[Mapping[str, Any]], reason: str, *, limit: int) -> None:
    """The peer said that it has these objects, and could not prove it this time: it is asked again."""
    for row in rows:
        told = {"attempts": row["attempts"] + 1, "reason": reason[:LONGEST_REASON]}
        if row["attempts"] + 1 >= limit:
            impossible(change, row, reason)
        elif not move(change, row["id"], ("asked",), "sent", **told):
            still = (deliveries.c.id == row["id"]) & (deliveries.c.state == "sent")
            change.execute(update(deliveries).where(still).values(**told))


def impossible(change: Change, row: Mapping[str, Any], reason: str) -> None:
    """An object cannot be delivered however often one tries."""
    if row["state"] == "sent":
        move(change, row["id"], ("sent",), "waiting")
    if move(change, row["id"], ("waiting", "asked"), "failed", reason=reason[:LONGEST_REASON]):
        finish(change, row["job_id"])


def confirmed(change: Change, row_ids: Iterable[int], proof: str) -> None:
    """The peer has these objects, and this proves it."""
    touched = set()
    for row_id in row_ids:
        if move(change, row_id, ("sent", "asked"), "confirmed", proof=proof, reason=""):
            touched.add(change.execute(select(deliveries.c.job_id).where(deliveries.c.id == row_id)).scalar_one())
    for job_id in touched:
        finish(change, job_id)


def transaction(earlier: str = "") -> str:
    """A new UID for a storage commitment, which tells that it asks the same as an earlier one did.

    A slow archive may answer after we have asked again: its answer to the first request is as good.
    """
    if not earlier:
        return f"2.25.{uuid.uuid4().int}.1"
    root, _, count = earlier.rpartition(".")
    return f"{root}.{int(count) + 1}"


def reported(
    store: Store,
    transaction_uid: str,
    confirmed_uids: Iterable[str],
    failed: Mapping[str, str],
    *,
    by: str | None = None,
) -> int:
    """A peer has answered what it commits itself to. An answer that comes twice changes nothing.

    Args:
        store: the database.
        transaction_uid: of our request.
        confirmed_uids: SOP Instance UIDs that it keeps.
        failed: SOP Instance UIDs that it does not, each with its Failure Reason (0008,1197): ``0x0112 in words``.
        by: name of the peer that says so; what another one was asked is not its to answer. None: the one asked.

    Returns:
        How many deliveries the answer was about; 0 when we never asked this.
    """
    root = transaction_uid.rpartition(".")[0]
    asked = (deliveries.c.transaction_uid > f"{root}.") & (deliveries.c.transaction_uid < f"{root}/")  # "/" is "."+1
    if by is not None:
        asked &= deliveries.c.destination == by
    kept = set(confirmed_uids)
    with store.writing() as change:
        rows = change.execute(select(deliveries).where(asked)).mappings().all() if root else []
        confirmed(change, [row["id"] for row in rows if row["sop_instance_uid"] in kept], "storage commitment")
        for row in rows:
            reason = failed.get(row["sop_instance_uid"])
            if reason is not None and row["state"] in ("sent", "asked"):
                _not_kept(change, dict(row), reason)
    told = {"transaction": transaction_uid, "kept": len(kept), "not_kept": len(failed), "known": len(rows)}
    (log.info if rows else log.warning)("commitment.answered", **told)
    return len(rows)


def _not_kept(change: Change, row: Mapping[str, Any], why: str) -> None:
    reason = f"storage commitment failed: {why}"[:LONGEST_REASON]
    told = {"transaction_uid": "", "refused": row["refused"] + 1, "reason": reason}
    if why.startswith(NEVER):
        impossible(change, row, reason)
    elif why.startswith(DUPLICATE_TRANSACTION):
        if not move(change, row["id"], ("asked",), "sent", **told):
            change.execute(update(deliveries).where(deliveries.c.id == row["id"]).values(**told))
    else:
        move(change, row["id"], ("sent", "asked"), "waiting", **told)


def forget_questions(change: Change, destination: str) -> None:
    """Nobody waits for answers about commitment any more: the settings want another proof now."""
    asked = (deliveries.c.destination == destination) & (deliveries.c.state == "asked")
    for row_id in change.execute(select(deliveries.c.id).where(asked)).scalars().all():
        change.move(deliveries, row_id, "sent", transaction_uid="", reason="")


def give_up(change: Change, destination: str, *, limit: int) -> None:
    """Have deliveries failed that a peer has refused often enough, in whatever way; a person may ask again."""
    enough = (deliveries.c.destination == destination) & (deliveries.c.refused >= limit)
    found = select(deliveries).where(enough, deliveries.c.state.in_(("waiting", "sent")))
    for row in change.execute(found).mappings().all():
        impossible(change, dict(row), row["reason"])


def finish(change: Change, job_id: int) -> None:
    """A job that is sending and has nothing left to do is done, or failed for the first reason that a peer gave."""
    state = change.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    of_job = select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
    rows = change.execute(of_job).mappings().all()
    if state != "sending" or any(row["state"] in OPEN for row in rows):
        return
    failed = [row for row in rows if row["state"] == "failed"]
    if failed:
        told = f"{len(failed)} of {len(rows)} objects not delivered; {failed[0]['destination']}: {failed[0]['reason']}"
        change.move(jobs, job_id, "failed", reason=told[:LONGEST_REASON])
    else:
        change.move(jobs, job_id, "done", reason="")
