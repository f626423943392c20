"""Sends derived objects to their destinations: a thread for each, so that a slow one holds up no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from sqlalchemy import select

from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.database.states import OPEN_DELIVERIES, DeliveryState, JobState
from iscl_monai.service.database.store import Move, Store
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.sending.carriers import Carrier, ConnectionLostError, SendResult, StoreSCU
from iscl_monai.service.sending.commitment import ByCommitment
from iscl_monai.service.sending.confirmation import ByQuery, ByStatus, Confirmation, unconfirmed
from iscl_monai.service.sending.dicomweb import DicomWebClient
from iscl_monai.service.sending.dimse import DimseClient, UnreachableError
from iscl_monai.service.sending.pausing import Pause, pauses
from iscl_monai.service.sending.stow import StowRS
from iscl_monai.service.settings import Settings

AT_ONCE = 500  # deliveries on one association
IDLE_S = 60.0  # between two looks when nothing wakes the loop
END_S = 3.0  # for an object that is on its way when the node stops
PEER = "peer"  # key of the backoff for the peer as a whole; single deliveries have their ids


class Sender:
    """Sends to all destinations.

    Args:
        settings: of the node.
        store: the database; changes by others wake the loops.
        clock: monotonic, in seconds.
    """

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.destinations = {
            peer.name: DestinationSender(settings, store, peer, clock) for peer in settings.peers if peer.can_receive
        }
        self._outbox_loop = Loop("outbox", self._close_orphans)
        store.observe(self._observe_move)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread, for the health check."""
        return (self._outbox_loop, *(destination.loop for destination in self.destinations.values()))

    @property
    def alive(self) -> bool:
        """Whether all threads run."""
        return all(loop.alive for loop in self.loops)

    def start(self) -> None:
        """Begin; what was on its way when the node stopped goes on."""
        for loop in self.loops:
            loop.start()

    def wake(self) -> None:
        """There is something to do."""
        for loop in self.loops:
            loop.wake()

    def read_pause(self, name: str) -> None:
        """A person has paused a destination, or resumed it."""
        if name in self.destinations:
            self.destinations[name].read_pause()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; an object that takes too long is cut off, to be sent again. Whether all threads have ended in time."""
        for loop in self.loops:
            loop.stop(0)
        orderly = time.monotonic() + min(END_S, timeout_s)
        for loop in self.loops:
            loop.stop(max(0.0, orderly - time.monotonic()))
        for destination in self.destinations.values():
            destination.abort()
        end = time.monotonic() + timeout_s
        # each of them, also if one was too late
        ended = [loop.stop(max(0.0, end - time.monotonic())) for loop in self.loops]
        return all(ended)

    def _observe_move(self, move: Move, committed: bool) -> None:
        if not committed:
            return
        if move.table == deliveries.name:
            for destination in self.destinations.values():
                destination.observe_move(move)
        if (move.table, move.after) in ((deliveries.name, DeliveryState.WAITING), (jobs.name, JobState.SENDING)):
            self.wake()

    def _close_orphans(self) -> float:
        """Fail deliveries to peers that are no more in the settings, and finish jobs that have nothing to send."""
        still_open = select(deliveries.c.job_id).where(deliveries.c.state.in_(OPEN_DELIVERIES))
        orphaned = still_open.where(deliveries.c.destination.not_in(self.destinations))
        to_close = jobs.c.id.in_(orphaned) | jobs.c.id.not_in(still_open)
        found = self.store.values(select(jobs.c.id).where(jobs.c.state == JobState.SENDING, to_close))
        for job_id in found:
            with self._outbox_loop.guard(f"job {job_id}"):
                self._close_orphans_of(job_id)
        names = {f"job {job_id}" for job_id in found}
        self._outbox_loop.forget(lambda member: member not in names)
        return IDLE_S

    def _close_orphans_of(self, job_id: int) -> None:
        open_there = (deliveries.c.job_id == job_id) & deliveries.c.state.in_(OPEN_DELIVERIES)
        orphans = select(deliveries).where(open_there, deliveries.c.destination.not_in(self.destinations))
        with self.store.writing() as change:
            for row in change.read(DeliveryRow, orphans):
                outbox.fail(change, row, f"the settings have no peer {row.destination} that can receive")
            outbox.finish_job(change, job_id)


class DestinationSender:
    """Sends to one destination.

    Args:
        settings: of the node.
        store: the database.
        peer: the destination.
        clock: monotonic, in seconds.
    """

    def __init__(self, settings: Settings, store: Store, peer: Peer, clock: Callable[[], float]) -> None:
        self.store = store
        self.peer = peer
        self.sending = settings.sending
        self.backoff = Backoff(self.sending.first_wait_s, self.sending.longest_wait_s, clock)
        self.carrier, self.confirmation = _carrier_and_confirmation(settings, store, peer, self.backoff)
        self.loop = Loop(f"sender {peer.name}", self.step)
        self._peer_full = False  # the peer answered that it has no room now
        self._unreachable = ""  # why the peer could not be reached last time
        self.pause: Pause | None = None  # a person has paused it

    @property
    def trouble(self) -> str:
        """Why nothing gets to the peer, or is not proven there; "" when the last try succeeded."""
        return self._unreachable or self.confirmation.trouble

    def read_pause(self) -> None:
        """Find out whether a person has paused it, or resumed it; then it goes on at once."""
        self.pause = pauses(self.store).get(self.peer.name)
        self.loop.wake()

    def step(self) -> float:
        """Send what waits, then prove what was sent; seconds to wait."""
        since = self.backoff.clock()
        self.pause = pauses(self.store).get(self.peer.name)
        if self.pause is not None:
            self._release_associations()
            return IDLE_S
        with self.loop.guard("deliveries refused often"), self.store.writing() as change:
            outbox.fail_often_refused(change, self.peer.name, limit=self.sending.refused_tries)
        if not isinstance(self.confirmation, ByCommitment):
            with self.loop.guard("requests for commitment"), self.store.writing() as change:
                outbox.forget_commitment_requests(change, self.peer.name)
        more = self.backoff.is_due(PEER) and self._deliver()
        wait_s = IDLE_S
        if self.backoff.is_due(PEER) and not self.loop.stopping:
            wait_s = min(wait_s, self._confirm())
        if self.loop.stopping:
            self._release_associations()
        return 0.0 if more else min(wait_s, self.backoff.next_due_s(since))

    def observe_move(self, move: Move) -> None:
        """A delivery, perhaps one to this destination, has changed its state."""
        if move.after in (DeliveryState.CONFIRMED, DeliveryState.FAILED):
            self.backoff.reset(move.row)
        elif move.before in (DeliveryState.SENT, DeliveryState.ASKED) and move.after == DeliveryState.WAITING:
            self.backoff.failed(move.row)  # the peer has lost it: a while later it may keep it

    def abort(self) -> None:
        """End at once whatever is going on with the peer."""
        self.carrier.abort()

    def _release_associations(self) -> None:
        if isinstance(self.confirmation, ByCommitment):
            self.confirmation.release_all()

    def _confirm(self) -> float:
        try:
            return self.confirmation.step()
        except UnreachableError as error:
            self.backoff.failed(PEER)
            self._unreachable = str(error)
            log.warning("sender.unreachable", peer=self.peer.name, reason=str(error))
            rows = [] if self.loop.stopping else self.store.read(DeliveryRow, unconfirmed(self.peer.name))
            with self.store.writing() as change:
                outbox.record_unproven(change, rows, str(error), limit=self.sending.tries)
            return IDLE_S

    def _due_ids(self) -> list[int]:
        waiting = (
            select(deliveries.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.state == DeliveryState.WAITING, deliveries.c.destination == self.peer.name)
            .where(jobs.c.state == JobState.SENDING)
            .order_by(jobs.c.priority, jobs.c.id, deliveries.c.id)
        )
        due = [row_id for row_id in self.store.values(waiting) if self.backoff.is_due(row_id)]
        return sorted(due, key=self.backoff.failures)  # what has failed before goes last, and holds up no other

    def _deliver(self) -> bool:
        """Send one batch; whether there may be another one at once."""
        ids = self._due_ids()
        if not ids:
            return False
        found = self.store.read(DeliveryRow, select(deliveries).where(deliveries.c.id.in_(ids[:AT_ONCE])))
        rows = {row.id: row for row in found}
        self._peer_full = False
        try:
            batch = [rows[row_id] for row_id in ids[:AT_ONCE]]
            with closing(self.carrier.send_all(batch, self._still_wanted)) as results:
                for result in results:
                    self._unreachable = ""
                    self._record(result)
                    self._peer_full = self._peer_full or result.kind == "later"  # no use to offer it the rest now
        except UnreachableError as error:
            self._record_unreachable(error, ids)
            return False
        if self._peer_full:
            self.backoff.failed(PEER)
            self._unreachable = "it answers that it has no room"
            return False
        self.backoff.reset(PEER)
        return len(ids) > AT_ONCE and not self.loop.stopping

    def _still_wanted(self, row: DeliveryRow) -> bool:
        """Whether it still waits: a person may have cancelled its job meanwhile."""
        waiting = (
            select(deliveries.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.id == row.id, deliveries.c.state == DeliveryState.WAITING)
            .where(jobs.c.state == JobState.SENDING)
        )
        to_send = not self.loop.stopping and not self._peer_full and self.pause is None
        return to_send and bool(self.store.values(waiting))

    def _record(self, result: SendResult) -> None:
        row, reason = result.delivery, result.reason[: outbox.LONGEST_REASON]
        with self.store.writing() as change:
            if result.kind == "sent":
                outbox.move_if(change, row.id, (DeliveryState.WAITING,), DeliveryState.SENT, reason=reason, attempts=0)
            elif result.kind == "refused":
                outbox.record_refusal(change, row, reason, limit=self.sending.refused_tries)
            elif result.kind == "later":
                outbox.record_unreachable(change, [row.id], reason, limit=self.sending.tries)
            else:
                outbox.fail(change, row, reason)
        if result.kind == "sent":
            self.backoff.reset(row.id)
            self.backoff.reset(PEER)
        else:
            self.backoff.failed(row.id)
            log.warning("sender.not_sent", peer=self.peer.name, delivery=row.id, kind=result.kind)

    def _record_unreachable(self, error: UnreachableError, ids: Sequence[int]) -> None:
        """The peer is left alone for a while; an object that was on its way goes last, as it may be what broke it."""
        if self.loop.stopping:
            return  # it was us who ended it
        self.backoff.failed(PEER)
        self._unreachable = str(error)
        tried = [error.delivery.id] if isinstance(error, ConnectionLostError) else list(ids)
        for row_id in tried if isinstance(error, ConnectionLostError) else ():
            self.backoff.failed(row_id)
        with self.store.writing() as change:
            outbox.record_unreachable(change, tried, str(error), limit=self.sending.tries)
        log.warning("sender.unreachable", peer=self.peer.name, waiting=len(ids), reason=str(error))


def _carrier_and_confirmation(
    settings: Settings, store: Store, peer: Peer, backoff: Backoff
) -> tuple[Carrier, Confirmation]:
    if peer.url is not None:
        web_client = DicomWebClient(peer, settings.node.timeout_s)
        confirmation: Confirmation = (
            ByQuery(store, settings, web_client, backoff) if peer.confirm == "query" else ByStatus(store, peer)
        )
        return StowRS(web_client, settings.data), confirmation
    client = DimseClient(settings, peer)
    if peer.confirm == "commitment":
        confirmation = ByCommitment(store, settings, client, backoff)
    else:
        confirmation = ByStatus(store, peer)
    return StoreSCU(client, settings.data), confirmation
