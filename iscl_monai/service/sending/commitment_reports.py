"""Reports of storage commitment to the peers that requested it, repeated until each has been received (PS3.4 J.3.3)."""

from __future__ import annotations

import time
from collections.abc import Callable
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

from iscl_monai.service.database.rows import CommitmentRow, InstanceRow
from iscl_monai.service.database.states import CommitmentState
from iscl_monai.service.database.store import Move, Store
from iscl_monai.service.database.tables import commitments, instances
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.log import log
from iscl_monai.service.loop import AFTER_A_FAULT_S, Loop
from iscl_monai.service.receiving.commitment_requests import References, references_of
from iscl_monai.service.sending.dimse import DimseClient, UnreachableError, presentation_contexts
from iscl_monai.service.settings import Settings

GRACE_S = 5.0
LOOKS_EVERY_S = 60.0  # when nothing is known to be owed; a new request wakes the loop
ALL_KEPT, SOME_FAILED = 1, 2  # event types
NO_SUCH_INSTANCE, CLASS_CONFLICT, PROCESSING_FAILURE = 0x0112, 0x0119, 0x0110  # Failure Reasons, PS3.3 C.14.1.1
UIDS_AT_ONCE = 500  # parameters of a query; SQLite has a limit


def event_report(store: Store, transaction_uid: str, references: References) -> tuple[int, Dataset]:
    """What can be reported now of the objects of a request: kept are those whose row and whole file are here.

    Returns:
        Event type (1: all are kept, 2: some are not) and Event Information.
    """
    rows = _instances(store, [uid for _, uid in references])
    kept: list[Dataset] = []
    failed: list[Dataset] = []
    for sop_class_uid, sop_instance_uid in references:
        reason = _failure_reason(store.data, sop_class_uid, rows.get(sop_instance_uid))
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        if reason:
            item.FailureReason = reason
        (failed if reason else kept).append(item)
    information = Dataset()
    information.TransactionUID = transaction_uid
    if kept:
        information.ReferencedSOPSequence = kept
    if failed:
        information.FailedSOPSequence = failed
    return (SOME_FAILED if failed else ALL_KEPT), information


def _instances(store: Store, uids: list[str]) -> dict[str, InstanceRow]:
    found: dict[str, InstanceRow] = {}
    for begin in range(0, len(uids), UIDS_AT_ONCE):
        some = instances.c.sop_instance_uid.in_(uids[begin : begin + UIDS_AT_ONCE])
        found.update({row.sop_instance_uid: row for row in store.read(InstanceRow, select(instances).where(some))})
    return found


def _failure_reason(data: Path, sop_class_uid: str, row: InstanceRow | None) -> int:
    """Why an object is not kept; 0 if it is."""
    if row is None or row.file is None:
        return NO_SUCH_INSTANCE
    if row.sop_class_uid != sop_class_uid:
        return CLASS_CONFLICT
    try:
        return 0 if (data / row.file).stat().st_size == row.size else PROCESSING_FAILURE
    except OSError:
        return PROCESSING_FAILURE


class CommitmentReporter:
    """Sends the reports that are owed to each peer, on an association that we open for them.

    Args:
        settings: of the node.
        store: the database.
        clock: seconds that do not jump.
    """

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.store = store
        self.loop = Loop("commitment reports", self.step)
        self._clock = clock
        self._pause: dict[str, tuple[float, float]] = {}  # per peer: not before, and how long it was
        self._client: DimseClient | None = None
        store.observe(self._observe_move)

    def start(self) -> None:
        """Begin, with what was owed before the node started."""
        self.loop.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; whether in time. What is owed stays owed in the database."""
        if self.loop.stop(min(GRACE_S, timeout_s)):
            return True
        client = self._client
        if client is not None:
            client.abort_all()  # a peer that keeps us waiting now gets its report after the next start
        return self.loop.stop(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.loop.alive

    def step(self) -> float:
        """Send the reports that are due; seconds until there is something to do."""
        waits = [LOOKS_EVERY_S]
        for name, rows in self._owed_by_peer().items():
            left_s = self._pause.get(name, (0.0, 0.0))[0] - self._clock()
            if left_s <= 0:
                left_s = AFTER_A_FAULT_S  # unless it is known better
                with self.loop.guard(f"peer {name}"):
                    left_s = self._report_to(name, rows)
            if left_s > 0:
                waits.append(left_s)
            if self.loop.stopping:
                break
        return min(waits)

    def _owed_by_peer(self) -> dict[str, list[CommitmentRow]]:
        """Every request that can be read; one that cannot keeps no other from its report."""
        owed: dict[str, list[CommitmentRow]] = {}
        of_state = select(commitments.c.id).where(commitments.c.state == CommitmentState.OWED)
        ids = self.store.values(of_state.order_by(commitments.c.id))
        for row_id in ids:
            with self.loop.guard(f"request {row_id}"):
                (row,) = self.store.read(CommitmentRow, select(commitments).where(commitments.c.id == row_id))
                references_of(row)
                owed.setdefault(row.peer, []).append(row)
        names = {f"request {row_id}" for row_id in ids} | {f"peer {name}" for name in owed}
        self.loop.forget(lambda member: member not in names)
        return owed

    def _observe_move(self, move: Move, committed: bool) -> None:
        if committed and move.table == commitments.name and move.after == CommitmentState.OWED:
            self.loop.wake()

    def _report_to(self, name: str, rows: list[CommitmentRow]) -> float:
        """Send everything that a peer is owed; seconds to wait if it did not receive some of it."""
        peer = self.settings.peer(name)
        if peer is None or peer.host is None or peer.port is None:
            for row in rows:
                self._record_attempt(row, CommitmentState.FAILED, "this peer has no host and port any more")
            return 0.0
        unreceived = self._send(peer, rows)
        if not unreceived:
            self._pause.pop(name, None)
            return 0.0
        sending = self.settings.sending
        pause_s = min(2 * self._pause.get(name, (0.0, sending.first_wait_s / 2))[1], sending.longest_wait_s)
        self._pause[name] = (self._clock() + pause_s, pause_s)
        for row, reason in unreceived:
            given_up = row.attempts + 1 >= sending.tries
            self._record_attempt(row, CommitmentState.FAILED if given_up else CommitmentState.OWED, reason)
        return pause_s

    def _send(self, peer: Peer, rows: list[CommitmentRow]) -> list[tuple[CommitmentRow, str]]:
        """Send reports on one association; those that were not received, each with the reason."""
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)  # who reports is the SCP
        self._client = DimseClient(self.settings, peer)
        try:
            contexts = presentation_contexts([StorageCommitmentPushModel])
            with self._client.association(contexts, roles=[role]) as association:
                return self._send_each(association, peer, rows)
        except UnreachableError as reason:
            return [(row, str(reason)) for row in rows]
        finally:
            self._client = None

    def _send_each(
        self, association: Association, peer: Peer, rows: list[CommitmentRow]
    ) -> list[tuple[CommitmentRow, str]]:
        unreceived = []
        for row in rows:
            reason = self._send_n_event_report(association, row)
            if reason:
                unreceived.append((row, reason))
            else:
                self._record_attempt(row, CommitmentState.REPORTED, "")
                log.info("commitment.reported", peer=peer.name, transaction_uid=row.transaction_uid)
        return unreceived

    def _send_n_event_report(self, association: Association, row: CommitmentRow) -> str:
        """Why a report was not received; "" if it was."""
        if not association.is_established:
            return "it ended the association"
        event_type, information = event_report(self.store, row.transaction_uid, references_of(row))
        try:
            status, _ = association.send_n_event_report(
                information, event_type, UID(StorageCommitmentPushModel), UID(StorageCommitmentPushModelInstance)
            )
        except (ValueError, RuntimeError):
            return "it does not take storage commitment reports"
        except Exception as error:  # a report that cannot be encoded, or a response that is none
            log.exception("commitment.fault", peer=row.peer, error=type(error).__name__)
            return f"the node cannot send it ({type(error).__name__}), see the log"
        if "Status" not in status:
            return "it did not answer"
        return "" if status.Status == 0 else f"it answered 0x{status.Status:04X}"

    def _record_attempt(self, row: CommitmentRow, state: CommitmentState, reason: str) -> None:
        values: dict[str, Any] = {"reason": reason, "attempts": row.attempts + 1}
        with self.store.writing() as change:
            if state is CommitmentState.OWED:
                change.execute(commitments.update().where(commitments.c.id == row.id).values(**values))
            else:
                change.move(commitments, row.id, state, **values)
        if reason:
            log.warning("commitment.unheard", peer=row.peer, state=state, reason=reason)
