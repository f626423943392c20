"""Proof that a peer has what it accepted: storage commitment, a search that finds the objects, or its status alone.

Nothing is ever confirmed by waiting: a report that does not come is requested again, and its lack becomes the reason
of the deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

from sqlalchemy import Select, exists, select

from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.database.states import DeliveryState, JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.sending.dicomweb import DicomWebClient, RefusedError, json_values
from iscl_monai.service.sending.dimse import UnreachableError
from iscl_monai.service.settings import Settings

BACKOFF_KEY = "confirmation"


class Confirmation(Protocol):
    """Confirms what was sent to one peer."""

    trouble: str
    """Why the peer proved nothing last time; "" if it did, or nothing was requested."""

    def step(self) -> float:
        """Do what there is to do now; seconds until there may be more, infinite if only others can cause that.

        Raises:
            UnreachableError: the peer cannot be reached.
        """
        ...


def unconfirmed(destination: str) -> Select[Any]:
    """Sent deliveries of jobs that have nothing left to send there, job by job."""
    others = deliveries.alias()
    left = exists().where(
        others.c.job_id == deliveries.c.job_id,
        others.c.destination == destination,
        others.c.state == DeliveryState.WAITING,
    )
    return of_sending_jobs(destination, DeliveryState.SENT).where(~left)


def of_sending_jobs(destination: str, state: DeliveryState) -> Select[Any]:
    """Deliveries in a state, of jobs that are sending."""
    return (
        select(deliveries)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(deliveries.c.state == state, deliveries.c.destination == destination, jobs.c.state == JobState.SENDING)
        .order_by(jobs.c.priority, jobs.c.id, deliveries.c.id)
    )


class ByStatus:
    """The status of success is the only proof that the peer gives.

    Args:
        store: the database.
        peer: the destination.
    """

    trouble = ""

    def __init__(self, store: Store, peer: Peer) -> None:
        self.store = store
        self.peer = peer

    def step(self) -> float:
        """See :class:`Confirmation`."""
        rows = self.store.read(DeliveryRow, of_sending_jobs(self.peer.name, DeliveryState.SENT))
        if rows:
            with self.store.writing() as change:
                outbox.confirm(change, [row.id for row in rows], "status of the peer")
        return float("inf")


class ByQuery:
    """Objects are confirmed when QIDO-RS finds them.

    Args:
        store: the database.
        settings: of the node.
        client: of the server.
        backoff: of the destination.
    """

    def __init__(self, store: Store, settings: Settings, client: DicomWebClient, backoff: Backoff) -> None:
        self.store = store
        self.sending = settings.sending
        self.client = client
        self.peer = client.peer
        self.backoff = backoff
        self._first_query: dict[int, float] = {}  # time of the first query for each delivery
        self.trouble = ""

    def step(self) -> float:
        """See :class:`Confirmation`."""
        rows = self.store.read(DeliveryRow, unconfirmed(self.peer.name))
        self._first_query = {row.id: self._first_query.get(row.id, self.backoff.clock()) for row in rows}
        if not rows:
            self.trouble = ""
        of_series = [(key, list(group)) for key, group in groupby(rows, lambda row: (row.study_uid, row.series_uid))]
        of_series.sort(
            key=lambda pair: self.backoff.failures((BACKOFF_KEY, pair[0][1]))
        )  # what failed before goes last
        answered = False
        for (study, series), group in of_series:
            if not self.backoff.is_due((BACKOFF_KEY, series)):
                continue
            try:
                self._query(study, series, group)
            except UnreachableError as error:
                self.backoff.failed((BACKOFF_KEY, series))
                if not answered:  # it may be the peer; else it is this series, as the peer has answered for another one
                    raise
                self._record_unproven(group, str(error))
            answered = True
        return float("inf")  # the destination knows when the backoff ends

    def _record_unproven(self, rows: Sequence[DeliveryRow], reason: str) -> None:
        self.trouble = reason
        with self.store.writing() as change:
            outbox.record_unproven(change, rows, reason, limit=self.sending.tries)

    def _query(self, study: str, series: str, rows: Sequence[DeliveryRow]) -> None:
        path = f"/studies/{study}/series/{series}/instances"
        reason = "it was sent, and the peer's search does not find it"
        try:
            found = {uid for item in self.client.search(path) for uid in json_values(item, "00080018")}
        except RefusedError as error:  # about this series: the others are queried all the same
            found, reason = set(), str(error)
        missing = [row for row in rows if row.sop_instance_uid not in found]
        self.trouble = reason if missing else ""
        timeout_s = self.peer.commitment_timeout_s
        with self.store.writing() as change:
            outbox.confirm(change, [row.id for row in rows if row not in missing], "QIDO-RS")
            for row in missing:
                if self.backoff.clock() - self._first_query[row.id] >= timeout_s:
                    outbox.record_refusal(change, row, reason, limit=self.sending.refused_tries)
                else:
                    outbox.record_unproven(change, [row], reason, limit=self.sending.tries)
        (self.backoff.failed if missing else self.backoff.reset)((BACKOFF_KEY, series))
