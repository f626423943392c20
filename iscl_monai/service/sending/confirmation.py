"""Proof that a peer has what it said it took: it commits itself, its search finds the objects, or its word is enough.

Nothing is ever confirmed by waiting: an answer that does not come is asked for again, and its lack is told as the
reason of the deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import Select, exists, select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.log import log
from iscl_monai.service.receiving.promises import report_of
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.dicomweb import RefusedError, Web, value
from iscl_monai.service.sending.dimse import Line, UnreachableError
from iscl_monai.service.sending.patience import Patience
from iscl_monai.service.settings import Peer, Settings

HOLD_S = 5.0  # that an association is kept open for an answer on it; later ones come on the peer's own
ASK = "confirmation"
Row = Mapping[str, Any]


class Confirmation(Protocol):
    """Confirms what was sent to one peer."""

    def step(self) -> float:
        """Do what there is to do now; seconds until there may be more, infinite if only others can bring it about.

        Raises:
            UnreachableError: the peer cannot be spoken with.
        """
        ...


def unproven(destination: str) -> Select[Any]:
    """Sent deliveries of jobs that have nothing left to send there, job by job."""
    others = deliveries.alias()
    left = exists().where(
        others.c.job_id == deliveries.c.job_id, others.c.destination == destination, others.c.state == "waiting"
    )
    return _of_sending_jobs(destination, "sent").where(~left)


def _of_sending_jobs(destination: str, state: str) -> Select[Any]:
    return (
        select(deliveries)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(deliveries.c.state == state, deliveries.c.destination == destination, jobs.c.state == "sending")
        .order_by(jobs.c.priority, jobs.c.id, deliveries.c.id)
    )


class ByStatus:
    """Success is all that the peer ever tells.

    Args:
        store: the database.
        peer: the destination.
    """

    def __init__(self, store: Store, peer: Peer) -> None:
        self.store = store
        self.peer = peer

    def step(self) -> float:
        """See :class:`Confirmation`."""
        rows = self.store.rows(_of_sending_jobs(self.peer.name, "sent"))
        if rows:
            with self.store.writing() as change:
                outbox.confirmed(change, [row["id"] for row in rows], "status of the peer")
        return float("inf")


class ByQuery:
    """QIDO-RS finds the objects.

    Args:
        store: the database.
        settings: of the node.
        web: the server.
        patience: of the lane.
    """

    def __init__(self, store: Store, settings: Settings, web: Web, patience: Patience) -> None:
        self.store = store
        self.sending = settings.sending
        self.web = web
        self.peer = web.peer
        self.patience = patience
        self._since: dict[int, float] = {}  # when each delivery was looked for first

    def step(self) -> float:
        """See :class:`Confirmation`."""
        rows = self.store.rows(unproven(self.peer.name))
        self._since = {row["id"]: self._since.get(row["id"], self.patience.clock()) for row in rows}
        for (study, series), group in groupby(rows, lambda row: (row["study_uid"], row["series_uid"])):
            if self.patience.due((ASK, series)):
                self._look(study, series, list(group))
        return float("inf")  # the lane knows when patience ends

    def _look(self, study: str, series: str, rows: Sequence[Row]) -> None:
        path = f"/studies/{study}/series/{series}/instances"
        reason = "it was sent, and the peer's search does not find it"
        try:
            there = {uid for found in self.web.search(path) for uid in value(found, "00080018")}
        except RefusedError as error:  # about this series: the others are looked for all the same
            there, reason = set(), str(error)
        missing = [row for row in rows if row["sop_instance_uid"] not in there]
        given_s = self.peer.commitment_timeout_s
        with self.store.writing() as change:
            outbox.confirmed(change, [row["id"] for row in rows if row not in missing], "QIDO-RS")
            for row in missing:
                if self.patience.clock() - self._since[row["id"]] >= given_s:
                    outbox.refused(change, row, reason, limit=self.sending.refused_tries)
                else:
                    outbox.not_proven(change, [row], reason, limit=self.sending.tries)
        (self.patience.failed if missing else self.patience.ended)((ASK, series))


@dataclass
class _Pending:
    """A request whose answer has not come."""

    until: float
    association: Association | None = None
    hold_until: float = field(default=0.0)


class ByCommitment:
    """The peer commits itself to keep the objects (PS3.4 annex J); its answer may come on any association.

    Args:
        store: the database.
        settings: of the node.
        line: to the peer.
        patience: of the lane.
    """

    def __init__(self, store: Store, settings: Settings, line: Line, patience: Patience) -> None:
        self.store = store
        self.sending = settings.sending
        self.line = line
        self.peer = line.peer
        self.patience = patience
        self._pending: dict[str, _Pending] = {}

    def step(self) -> float:
        """See :class:`Confirmation`."""
        self._expire()
        rows = self.store.rows(unproven(self.peer.name))
        if rows and self.patience.due(ASK):
            self._ask_all(rows)
        clock = self.patience.clock()
        waits = [one.hold_until - clock for one in self._pending.values() if one.association is not None]
        return max(0.0, min([*waits, *(one.until - clock for one in self._pending.values())], default=float("inf")))

    def let_go(self) -> None:
        """Close what is held open for answers."""
        for one in self._pending.values():
            self._release(one)

    def _expire(self) -> None:
        """Have asked again what was not answered in time, or was asked before the node started."""
        clock = self.patience.clock()
        asked: dict[str, list[Row]] = {}
        for row in self.store.rows(_of_sending_jobs(self.peer.name, "asked")):
            asked.setdefault(row["transaction_uid"], []).append(row)
        for uid in list(self._pending):
            one = self._pending[uid]
            if uid not in asked or clock >= one.hold_until:
                self._release(one)
            if uid not in asked or clock >= one.until:
                del self._pending[uid]
        for uid in set(asked) - set(self._pending):
            self._back(asked[uid], "the storage commitment asked for was not answered")

    def _ask_all(self, rows: Sequence[Row]) -> None:
        """One association for all jobs, one request for each; it is kept open for a while, for answers on it."""
        wanted = [build_context(StorageCommitmentPushModel)]
        association = self._open(wanted, rows)
        if association is None:
            return
        uids = []
        try:
            for _, group in groupby(rows, lambda row: (row["job_id"], row["transaction_uid"].rpartition(".")[0])):
                uids.append(self._ask(association, list(group)))
        finally:
            asked = [self._pending[uid] for uid in uids if uid in self._pending]
            for one in asked:
                one.association, one.hold_until = association, self.patience.clock() + HOLD_S
            if not asked:
                self.line.close(association)

    def _open(self, wanted: list[PresentationContext], rows: Sequence[Row]) -> Association | None:
        try:
            return self.line.open(wanted, [(evt.EVT_N_EVENT_REPORT, self._answered)])
        except UnreachableError as error:
            self.patience.failed(ASK)
            self._back(rows, f"storage commitment: {error}")
            return None

    def _ask(self, association: Association, rows: Sequence[Row]) -> str:
        """Committed before it leaves the house: the answer may be faster than our next line."""
        uid = outbox.transaction(rows[0]["transaction_uid"])
        with self.store.writing() as change:
            rows = [row for row in rows if outbox.move(change, row["id"], ("sent",), "asked", transaction_uid=uid)]
        if not rows:
            return uid  # somebody was faster
        self._pending[uid] = _Pending(self.patience.clock() + self.peer.commitment_timeout_s)
        try:
            status, _ = association.send_n_action(
                request(uid, rows), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            code = status.get("Status")
        except RuntimeError:  # the association has ended
            code = None
        if code is None or (code != 0 and not 0xB000 <= code <= 0xBFFF):
            del self._pending[uid]
            self.patience.failed(ASK)
            told = "no answer" if code is None else f"status 0x{code:04X}"
            self._back(rows, f"the peer does not take a request for storage commitment: {told}")
        else:
            self.patience.ended(ASK)
            log.info("commitment.asked", peer=self.peer.name, transaction=uid, objects=len(rows))
        return uid

    def _back(self, rows: Sequence[Row], reason: str) -> None:
        with self.store.writing() as change:
            outbox.not_proven(change, rows, reason, limit=self.sending.tries)

    def _answered(self, event: evt.Event) -> tuple[int, None]:
        """The answer has come on the association that we asked on."""
        try:
            outbox.reported(self.store, *report_of(event.event_information))
        except StoreUnavailable:
            return 0x0213, None  # resource limitation: it has to tell us again
        except Exception as error:  # a data set may be anything
            log.warning("commitment.not_readable", peer=self.peer.name, error=type(error).__name__)
            return 0x0115, None
        return 0x0000, None

    def _release(self, one: _Pending) -> None:
        association, one.association = one.association, None
        if association is not None and all(other.association is not association for other in self._pending.values()):
            self.line.close(association)


def request(transaction_uid: str, rows: Sequence[Row]) -> Dataset:
    """What is asked: the objects, by their UIDs."""
    asked = Dataset()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = []
    for row in rows:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row["sop_class_uid"], row["sop_instance_uid"]
        asked.ReferencedSOPSequence.append(item)
    return asked
