"""Storage commitment asked of us: what we owe is on the disk before we say yes, and is answered until it was heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import select

from iscl_monai.service.database.store import Move, Store, now
from iscl_monai.service.database.tables import commitments, instances
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import is_uid
from iscl_monai.service.sending.dimse import Line, UnreachableError, contexts
from iscl_monai.service.settings import Peer, Settings

GRACE_S = 5.0
LOOK_S = 60.0  # when nothing is known to be owed; a new debt wakes it
NO_INSTANCE, CONFLICT, CANNOT = 0x0112, 0x0119, 0x0110  # PS3.3 C.14.1.1
NO_ACTION, NO_ARGUMENT, BAD_ARGUMENT, REPEATED = 0x0123, 0x0114, 0x0115, 0x0210
IN_WORDS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class / instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
IN_A_QUERY = 500  # parameters; SQLite has a limit

Pairs = list[tuple[str, str]]


def owe(store: Store, peer: Peer | None, request: Any, asked: Dataset) -> tuple[int, str]:
    """Note a request for storage commitment (N-ACTION).

    Args:
        store: the database.
        peer: who asks.
        request: the primitive.
        asked: Action Information.

    Returns:
        Status to answer, and the reason if it is no success.

    Raises:
        StoreUnavailable: it could not be written; nothing is owed.
    """
    if request.ActionTypeID != 1:
        return NO_ACTION, "only action type 1 is known"
    if request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
        return NO_INSTANCE, "not the well-known instance of storage commitment"
    if peer is None or peer.port is None:
        return CANNOT, "no port is configured to report to"
    transaction = str(asked.get("TransactionUID") or "")
    pairs = _referenced(asked.get("ReferencedSOPSequence") or ())
    if not transaction or not pairs:
        return NO_ARGUMENT, "Transaction UID or Referenced SOP Sequence is missing"
    if not all(is_uid(uid) for uid in (transaction, *(uid for pair in pairs for uid in pair))):
        return BAD_ARGUMENT, "a UID is none (PS3.5 9.1)"
    return _noted(store, peer.name, transaction, pairs)


def _noted(store: Store, peer: str, transaction: str, pairs: Pairs) -> tuple[int, str]:
    wanted = (commitments.c.peer == peer) & (commitments.c.transaction_uid == transaction)
    with store.writing() as change:
        known = change.execute(select(commitments).where(wanted)).mappings().one_or_none()
        if known is None:
            change.add(
                commitments,
                transaction_uid=transaction,
                peer=peer,
                asked=[list(pair) for pair in pairs],
                state="owed",
                created_at=now(),
            )
            return 0, ""
        if known["state"] == "reported" or [tuple(pair) for pair in known["asked"]] != pairs:
            return REPEATED, "this Transaction UID has been used before"
        if known["state"] == "failed":
            change.move(commitments, known["id"], "owed", attempts=0)
        return 0, ""


def _referenced(items: Iterable[Dataset]) -> Pairs:
    return [(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in items]


def report_of(told: Dataset) -> tuple[str, list[str], dict[str, str]]:
    """What a peer reports of a transaction of ours.

    Returns:
        Its UID, the SOP Instance UIDs that the peer keeps, and those it does not with the reason.
    """
    confirmed = [uid for _, uid in _referenced(told.get("ReferencedSOPSequence") or ())]
    failed = {}
    for item in told.get("FailedSOPSequence") or ():
        code = int(item.get("FailureReason") or 0)
        words = IN_WORDS.get(code, "no reason known here")
        failed[str(item.ReferencedSOPInstanceUID)] = f"0x{code:04X} {words}"
    return str(told.TransactionUID), confirmed, failed


def answer_to(store: Store, transaction: str, pairs: Pairs) -> tuple[int, Dataset]:
    """What can be said now of the objects of a request: kept are those whose row and whole file are here.

    Returns:
        Event type (1: all are kept, 2: some are not) and Event Information (PS3.4 J.3.3).
    """
    rows = _rows(store, [uid for _, uid in pairs])
    kept: list[Dataset] = []
    failed: list[Dataset] = []
    for sop_class, uid in pairs:
        reason = _lacking(store.data, sop_class, rows.get(uid))
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        if reason:
            item.FailureReason = reason
        (failed if reason else kept).append(item)
    told = Dataset()
    told.TransactionUID = transaction
    if kept:
        told.ReferencedSOPSequence = kept
    if failed:
        told.FailedSOPSequence = failed
    return (2 if failed else 1), told


def _rows(store: Store, uids: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for begin in range(0, len(uids), IN_A_QUERY):
        some = instances.c.sop_instance_uid.in_(uids[begin : begin + IN_A_QUERY])
        found.update({row["sop_instance_uid"]: row for row in store.rows(select(instances).where(some))})
    return found


def _lacking(data: Path, sop_class: str, row: Any) -> int:
    if row is None or row["file"] is None:
        return NO_INSTANCE
    if row["sop_class_uid"] != sop_class:
        return CONFLICT
    try:
        return 0 if (data / row["file"]).stat().st_size == row["size"] else CANNOT
    except OSError:
        return CANNOT


class Promises:
    """Reports to peers what they asked for, each on an association that we open for it.

    Args:
        settings: of the node.
        store: the database.
        clock: seconds that do not jump.
    """

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.store = store
        self.loop = Loop("promises", self.step)
        self._clock = clock
        self._pause: dict[str, tuple[float, float]] = {}  # per peer: not before, and how long it was
        self._line: Line | None = None
        store.observe(self._moved)

    def start(self) -> None:
        """Begin, with what was owed before."""
        self.loop.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; whether in time. What is owed stays so."""
        if self.loop.stop(min(GRACE_S, timeout_s)):
            return True
        line = self._line
        if line is not None:
            line.hang_up()  # whoever keeps us waiting now is told later
        return self.loop.stop(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.loop.alive

    def step(self) -> float:
        """Report what is due; seconds until there is something to do."""
        owed: dict[str, list[Any]] = {}
        for row in self.store.rows(select(commitments).where(commitments.c.state == "owed").order_by(commitments.c.id)):
            owed.setdefault(row["peer"], []).append(row)
        waits = [LOOK_S]
        for name, rows in owed.items():
            left_s = self._pause.get(name, (0.0, 0.0))[0] - self._clock()
            if left_s <= 0:
                left_s = self._report_to(name, rows)
            if left_s > 0:
                waits.append(left_s)
            if self.loop.stopping:
                break
        return min(waits)

    def _moved(self, move: Move, committed: bool) -> None:
        if committed and move.table == commitments.name and move.after == "owed":
            self.loop.wake()

    def _report_to(self, name: str, rows: list[Any]) -> float:
        """Everything that a peer is owed; seconds to wait when something of it was not heard."""
        peer = self.settings.peer(name)
        if peer is None or peer.host is None or peer.port is None:
            for row in rows:
                self._settle(row, "failed", "this peer has no host and port any more")
            return 0.0
        unheard = self._spoken(peer, rows)
        if not unheard:
            self._pause.pop(name, None)
            return 0.0
        sending = self.settings.sending
        pause_s = min(2 * self._pause.get(name, (0.0, sending.first_wait_s / 2))[1], sending.longest_wait_s)
        self._pause[name] = (self._clock() + pause_s, pause_s)
        for row, reason in unheard:
            self._settle(row, "failed" if row["attempts"] + 1 >= sending.tries else "owed", reason)
        return pause_s

    def _spoken(self, peer: Peer, rows: list[Any]) -> list[tuple[Any, str]]:
        """Report on one association; the rows that were not heard, each with the reason."""
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)  # who reports is the SCP
        self._line = Line(self.settings, peer)
        try:
            with self._line.opened(contexts([StorageCommitmentPushModel]), roles=[role]) as association:
                return self._all_told(association, peer, rows)
        except UnreachableError as reason:
            return [(row, str(reason)) for row in rows]
        finally:
            self._line = None

    def _all_told(self, association: Association, peer: Peer, rows: list[Any]) -> list[tuple[Any, str]]:
        unheard = []
        for row in rows:
            reason = self._told(association, row)
            if reason:
                unheard.append((row, reason))
            else:
                self._settle(row, "reported", "")
                log.info("commitment.reported", peer=peer.name, transaction_uid=row["transaction_uid"])
        return unheard

    def _told(self, association: Association, row: Any) -> str:
        """Why a report was not heard; "" if it was."""
        if not association.is_established:
            return "it ended the association"
        kind, told = answer_to(self.store, row["transaction_uid"], [(pair[0], pair[1]) for pair in row["asked"]])
        try:
            status, _ = association.send_n_event_report(
                told, kind, UID(StorageCommitmentPushModel), UID(StorageCommitmentPushModelInstance)
            )
        except (ValueError, RuntimeError):
            return "it does not take storage commitment reports"
        if "Status" not in status:
            return "it did not answer"
        return "" if status.Status == 0 else f"it answered 0x{status.Status:04X}"

    def _settle(self, row: Any, state: str, reason: str) -> None:
        """Note what came of a try."""
        values = {"reason": reason, "attempts": row["attempts"] + 1}
        with self.store.writing() as change:
            if state == "owed":
                change.execute(commitments.update().where(commitments.c.id == row["id"]).values(**values))
            else:
                change.move(commitments, row["id"], state, **values)
        if reason:
            log.warning("commitment.unheard", peer=row["peer"], state=state, reason=reason)
