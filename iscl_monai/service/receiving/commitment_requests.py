"""Storage commitment as it comes in (PS3.4 annex J): requests, noted on the disk before we accept them, and reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModelInstance
from sqlalchemy import select

from iscl_monai.service.database.rows import CommitmentRow
from iscl_monai.service.database.states import CommitmentState
from iscl_monai.service.database.store import Store, now
from iscl_monai.service.database.tables import commitments
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.receiving.intake import is_uid

SUCCESS = 0x0000
PROCESSING_FAILURE, NO_SUCH_INSTANCE, NO_SUCH_ACTION = 0x0110, 0x0112, 0x0123  # PS3.7 annex C
NO_SUCH_ARGUMENT, INVALID_ARGUMENT, DUPLICATE_INVOCATION = 0x0114, 0x0115, 0x0210
FAILURE_REASONS = {  # PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class / instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}

References = list[tuple[str, str]]  # SOP Class UID and SOP Instance UID of each object


def note_request(store: Store, peer: Peer | None, request: Any, information: Dataset) -> tuple[int, str]:
    """Note a request for storage commitment (N-ACTION, PS3.4 J.3.2); from then on we owe a report.

    Args:
        store: the database.
        peer: the requestor; None if it is unknown.
        request: the primitive.
        information: Action Information.

    Returns:
        Status to answer, and the reason if it is no success.

    Raises:
        StoreUnavailable: it could not be written; nothing is owed.
    """
    if request.ActionTypeID != 1:
        return NO_SUCH_ACTION, "only action type 1 is known"
    if request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
        return NO_SUCH_INSTANCE, "not the well-known instance of storage commitment"
    if peer is None or peer.port is None:
        return PROCESSING_FAILURE, "no port is configured to report to"
    transaction_uid = str(information.get("TransactionUID") or "")
    references = _references(information.get("ReferencedSOPSequence") or ())
    if not transaction_uid or not references:
        return NO_SUCH_ARGUMENT, "Transaction UID or Referenced SOP Sequence is missing"
    if not all(is_uid(uid) for uid in (transaction_uid, *(uid for pair in references for uid in pair))):
        return INVALID_ARGUMENT, "a UID is none (PS3.5 9.1)"
    return _write_request(store, peer.name, transaction_uid, references)


def _write_request(store: Store, peer: str, transaction_uid: str, references: References) -> tuple[int, str]:
    same = (commitments.c.peer == peer) & (commitments.c.transaction_uid == transaction_uid)
    with store.writing() as change:
        known = change.read(CommitmentRow, select(commitments).where(same))
        if not known:
            change.add(
                commitments,
                transaction_uid=transaction_uid,
                peer=peer,
                asked=[list(pair) for pair in references],
                state=CommitmentState.OWED,
                created_at=now(),
            )
            return SUCCESS, ""
        (row,) = known
        if row.state is CommitmentState.REPORTED or references_of(row) != references:
            return DUPLICATE_INVOCATION, "this Transaction UID has been used before"
        if row.state is CommitmentState.FAILED:
            change.move(commitments, row.id, CommitmentState.OWED, attempts=0)
        return SUCCESS, ""


def references_of(row: CommitmentRow) -> References:
    """The objects that a request is about."""
    return [(sop_class_uid, sop_instance_uid) for sop_class_uid, sop_instance_uid in row.asked]


def _references(items: Iterable[Dataset]) -> References:
    return [(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in items]


def read_report(information: Dataset) -> tuple[str, list[str], dict[str, str]]:
    """What a peer reports (N-EVENT-REPORT, PS3.4 J.3.3) of a commitment that we requested.

    Args:
        information: Event Information.

    Returns:
        Transaction UID, the SOP Instance UIDs that the peer keeps, and those it does not with the Failure Reason.
    """
    confirmed = [uid for _, uid in _references(information.get("ReferencedSOPSequence") or ())]
    failed = {}
    for item in information.get("FailedSOPSequence") or ():
        code = int(item.get("FailureReason") or 0)
        meaning = FAILURE_REASONS.get(code, "no reason known here")
        failed[str(item.ReferencedSOPInstanceUID)] = f"0x{code:04X} {meaning}"
    return str(information.TransactionUID), confirmed, failed
