"""Proof by storage commitment: requests to a peer, and what becomes of those that it does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.database.states import DeliveryState
from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.commitment_requests import read_report
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.sending.confirmation import BACKOFF_KEY, of_sending_jobs, unconfirmed
from iscl_monai.service.sending.dimse import DimseClient, UnreachableError
from iscl_monai.service.settings import Settings

HOLD_S = 5.0  # that an association is kept open for a report on it; later ones come on the peer's own


@dataclass
class _PendingRequest:
    """A request whose report has not come."""

    until: float
    association: Association | None = None
    hold_until: float = field(default=0.0)


class ByCommitment:
    """The peer commits itself to keep the objects (PS3.4 annex J); its report may come on any association.

    Args:
        store: the database.
        settings: of the node.
        client: of the peer.
        backoff: of the destination.
    """

    def __init__(self, store: Store, settings: Settings, client: DimseClient, backoff: Backoff) -> None:
        self.store = store
        self.sending = settings.sending
        self.client = client
        self.peer = client.peer
        self.backoff = backoff
        self._pending: dict[str, _PendingRequest] = {}
        self.trouble = ""

    def step(self) -> float:
        """See :class:`Confirmation`."""
        self._expire_unanswered()
        rows = self.store.read(DeliveryRow, unconfirmed(self.peer.name))
        if rows and self.backoff.is_due(BACKOFF_KEY):
            self._request_all(rows)
        clock = self.backoff.clock()
        times = [pending.until for pending in self._pending.values()]
        times += [pending.hold_until for pending in self._pending.values() if pending.association is not None]
        return max(0.0, min(times, default=float("inf")) - clock)

    def release_all(self) -> None:
        """Close the associations that are held open for reports."""
        for pending in self._pending.values():
            self._release(pending)

    def _expire_unanswered(self) -> None:
        """Take back requests that were not answered in time, or made before the node started: they are made again."""
        clock = self.backoff.clock()
        requested: dict[str, list[DeliveryRow]] = {}
        for row in self.store.read(DeliveryRow, of_sending_jobs(self.peer.name, DeliveryState.ASKED)):
            requested.setdefault(row.transaction_uid, []).append(row)
        for uid in list(self._pending):
            pending = self._pending[uid]
            if uid not in requested or clock >= pending.hold_until:
                self._release(pending)
            if uid not in requested or clock >= pending.until:
                del self._pending[uid]
            if uid not in requested:
                self.trouble = ""  # its report has come
        for uid in set(requested) - set(self._pending):
            self._record_unproven(requested[uid], "the storage commitment asked for was not answered")

    def _request_all(self, rows: Sequence[DeliveryRow]) -> None:
        """One association for all jobs, one request for each; it is kept open for a while, for reports on it."""
        association = self._open_association(rows)
        if association is None:
            return
        uids = []
        try:
            for _, group in groupby(rows, lambda row: (row.job_id, row.transaction_uid.rpartition(".")[0])):
                uids.append(self._request(association, list(group)))
        finally:
            accepted = [self._pending[uid] for uid in uids if uid in self._pending]
            for pending in accepted:
                pending.association, pending.hold_until = association, self.backoff.clock() + HOLD_S
            if not accepted:
                self.client.close(association)

    def _open_association(self, rows: Sequence[DeliveryRow]) -> Association | None:
        contexts = [build_context(StorageCommitmentPushModel)]
        try:
            return self.client.open(contexts, [(evt.EVT_N_EVENT_REPORT, self._handle_n_event_report)])
        except UnreachableError as error:
            self.backoff.failed(BACKOFF_KEY)
            self._record_unproven(rows, f"storage commitment: {error}")
            return None

    def _request(self, association: Association, rows: Sequence[DeliveryRow]) -> str:
        """Request a commitment; written down before it is sent, as the report may be faster than our next line."""
        uid = outbox.new_transaction_uid(rows[0].transaction_uid)
        sent, asked = DeliveryState.SENT, DeliveryState.ASKED
        with self.store.writing() as change:
            rows = [row for row in rows if outbox.move_if(change, row.id, (sent,), asked, transaction_uid=uid)]
        if not rows:
            return uid  # all of them have changed their state meanwhile
        self._pending[uid] = _PendingRequest(self.backoff.clock() + self.peer.commitment_timeout_s)
        try:
            status, _ = association.send_n_action(
                action_information(uid, rows), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            code = status.get("Status")
        except RuntimeError:  # the association has ended
            code = None
        except Exception as error:  # these UIDs cannot be encoded, or the response is none: the other jobs go on
            log.exception("commitment.fault", peer=self.peer.name, error=type(error).__name__)
            code = None
        if code is None or (code != 0 and not 0xB000 <= code <= 0xBFFF):
            del self._pending[uid]
            self.backoff.failed(BACKOFF_KEY)
            status_text = "no answer" if code is None else f"status 0x{code:04X}"
            self._record_unproven(rows, f"the peer does not take a request for storage commitment: {status_text}")
        else:
            self.backoff.reset(BACKOFF_KEY)
            log.info("commitment.asked", peer=self.peer.name, transaction=uid, objects=len(rows))
        return uid

    def _record_unproven(self, rows: Sequence[DeliveryRow], reason: str) -> None:
        self.trouble = reason
        with self.store.writing() as change:
            outbox.record_unproven(change, rows, reason, limit=self.sending.tries)

    def _handle_n_event_report(self, event: evt.Event) -> tuple[int, None]:
        """The report has come on the association of the request."""
        try:
            outbox.record_report(self.store, *read_report(event.event_information))
        except StoreUnavailable:
            return 0x0213, None  # resource limitation: it has to report again
        except Exception as error:  # a data set may be anything
            log.warning("commitment.not_readable", peer=self.peer.name, error=type(error).__name__)
            return 0x0115, None
        return 0x0000, None

    def _release(self, pending: _PendingRequest) -> None:
        association, pending.association = pending.association, None
        if association is not None and all(other.association is not association for other in self._pending.values()):
            self.client.close(association)


def action_information(transaction_uid: str, rows: Sequence[DeliveryRow]) -> Dataset:
    """Action Information of a request: the objects, by their UIDs (PS3.4 J.3.2.1.1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = []
    for row in rows:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row.sop_class_uid, row.sop_instance_uid
        information.ReferencedSOPSequence.append(item)
    return information
