"""Brings derived objects to their destinations: a thread for each, so that a slow one holds up nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from sqlalchemy import select

from iscl_monai.service.database.store import Move, Store
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.carriers import Answer, Carrier, CutError, Row, StoreSCU
from iscl_monai.service.sending.confirmation import ByCommitment, ByQuery, ByStatus, Confirmation, unproven
from iscl_monai.service.sending.dicomweb import Web
from iscl_monai.service.sending.dimse import Line, UnreachableError
from iscl_monai.service.sending.patience import Patience
from iscl_monai.service.sending.stow import StowRS
from iscl_monai.service.settings import Peer, Settings

AT_ONCE = 500  # deliveries on one association
IDLE_S = 60.0  # between two looks when nobody wakes us
END_S = 3.0  # for an object that is on its way when the node stops
PEER = "peer"


class Sender:
    """All destinations.

    Args:
        settings: of the node.
        store: the database; what others change in it wakes us.
        clock: monotonic, in seconds.
    """

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.lanes = {peer.name: Lane(settings, store, peer, clock) for peer in settings.peers if peer.can_receive}
        self._keeper = Loop("outbox", self._keep)
        store.observe(self._observed)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread, for whoever watches whether they are alive."""
        return (self._keeper, *(lane.loop for lane in self.lanes.values()))

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

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; an object that takes too long is cut off, to be sent again. Whether all threads have ended in time."""
        for loop in self.loops:
            loop.stop(0)
        orderly = time.monotonic() + min(END_S, timeout_s)
        for loop in self.loops:
            loop.stop(max(0.0, orderly - time.monotonic()))
        for lane in self.lanes.values():
            lane.hang_up()
        end = time.monotonic() + timeout_s
        ended = [loop.stop(max(0.0, end - time.monotonic())) for loop in self.loops]  # each is given its chance
        return all(ended)

    def _observed(self, move: Move, committed: bool) -> None:
        for lane in self.lanes.values() if move.table == deliveries.name and committed else ():
            lane.observed(move)
        if committed and (move.table, move.after) in (("deliveries", "waiting"), ("jobs", "sending")):
            self.wake()

    def _keep(self) -> float:
        """Nothing waits unseen: for a peer that is in the settings no more, or in a job that has nothing to send."""
        sending = select(jobs.c.id).where(jobs.c.state == "sending")
        homeless = (
            select(deliveries)
            .where(deliveries.c.job_id.in_(sending), deliveries.c.state.in_(outbox.OPEN))
            .where(deliveries.c.destination.not_in(self.lanes))
        )
        if self.store.rows(sending):
            with self.store.writing() as change:
                for row in change.execute(homeless).mappings().all():
                    told = f"the settings have no peer {row['destination']} that can receive"
                    outbox.impossible(change, dict(row), told)
                for job_id in change.execute(sending).scalars().all():
                    outbox.finish(change, job_id)
        return IDLE_S


class Lane:
    """One destination.

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
        self.patience = Patience(self.sending.first_wait_s, self.sending.longest_wait_s, clock)
        self.carrier, self.confirmation = _ways(settings, store, peer, self.patience)
        self.loop = Loop(f"sender {peer.name}", self.step)
        self._full = False  # the peer says that it has no room now

    def step(self) -> float:
        """Send what waits, then prove what was sent; seconds to wait."""
        since = self.patience.clock()
        with self.store.writing() as change:
            outbox.give_up(change, self.peer.name, limit=self.sending.refused_tries)
            if not isinstance(self.confirmation, ByCommitment):
                outbox.forget_questions(change, self.peer.name)
        more = self.patience.due(PEER) and self._deliver()
        wait_s = IDLE_S
        if self.patience.due(PEER) and not self.loop.stopping:
            wait_s = min(wait_s, self._confirm())
        if self.loop.stopping and isinstance(self.confirmation, ByCommitment):
            self.confirmation.let_go()
        return 0.0 if more else min(wait_s, self.patience.soonest_s(since))

    def observed(self, move: Move) -> None:
        """A delivery, perhaps one of ours, has changed its state."""
        if move.after in ("confirmed", "failed"):
            self.patience.ended(move.row)
        elif move.before in ("sent", "asked") and move.after == "waiting":
            self.patience.failed(move.row)  # the peer has lost it: a while later it may keep it

    def hang_up(self) -> None:
        """End at once whatever is going on with the peer."""
        self.carrier.hang_up()

    def _confirm(self) -> float:
        try:
            return self.confirmation.step()
        except UnreachableError as error:
            self.patience.failed(PEER)
            log.warning("sender.unreachable", peer=self.peer.name, reason=str(error))
            rows = [] if self.loop.stopping else self.store.rows(unproven(self.peer.name))
            with self.store.writing() as change:
                outbox.not_proven(change, rows, str(error), limit=self.sending.tries)
            return IDLE_S

    def _waiting(self) -> list[int]:
        of_ours = (
            select(deliveries.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.state == "waiting", deliveries.c.destination == self.peer.name)
            .where(jobs.c.state == "sending")
            .order_by(jobs.c.priority, jobs.c.id, deliveries.c.id)
        )
        due = [row["id"] for row in self.store.rows(of_ours) if self.patience.due(row["id"])]
        return sorted(due, key=self.patience.count)  # what has made trouble goes last, and keeps nobody out

    def _deliver(self) -> bool:
        """One batch; whether there may be another one at once."""
        ids = self._waiting()
        if not ids:
            return False
        found = {
            row["id"]: row for row in self.store.rows(select(deliveries).where(deliveries.c.id.in_(ids[:AT_ONCE])))
        }
        self._full = False
        try:
            with closing(self.carrier.carry([found[one] for one in ids[:AT_ONCE]], self._wanted)) as answers:
                for answer in answers:
                    self._write(answer)
                    self._full = self._full or answer.kind == "later"  # no use to offer it the rest now
        except UnreachableError as error:
            self._failed(error, ids)
            return False
        if self._full:
            self.patience.failed(PEER)
            return False
        self.patience.ended(PEER)
        return len(ids) > AT_ONCE and not self.loop.stopping

    def _wanted(self, row: Row) -> bool:
        """Whether it still waits: a person may have cancelled its job meanwhile."""
        still = (
            select(deliveries.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(deliveries.c.id == row["id"], deliveries.c.state == "waiting", jobs.c.state == "sending")
        )
        return not self.loop.stopping and not self._full and bool(self.store.rows(still))

    def _write(self, answer: Answer) -> None:
        row, told = answer.row, answer.reason[: outbox.LONGEST_REASON]
        with self.store.writing() as change:
            if answer.kind == "sent":
                outbox.move(change, row["id"], ("waiting",), "sent", reason=told, attempts=0)
            elif answer.kind == "refused":
                outbox.refused(change, row, told, limit=self.sending.refused_tries)
            elif answer.kind == "later":
                outbox.not_reached(change, [row["id"]], told, limit=self.sending.tries)
            else:
                outbox.impossible(change, row, told)
        if answer.kind == "sent":
            self.patience.ended(row["id"])
            self.patience.ended(PEER)
        else:
            self.patience.failed(row["id"])
            log.warning("sender.not_sent", peer=self.peer.name, delivery=row["id"], kind=answer.kind)

    def _failed(self, error: UnreachableError, ids: Sequence[int]) -> None:
        """The peer is left alone for a while; an object that was on its way goes last, as it may be what broke it."""
        if self.loop.stopping:
            return  # it was us who ended it
        self.patience.failed(PEER)
        tried = [error.row["id"]] if isinstance(error, CutError) else list(ids)
        for row_id in tried if isinstance(error, CutError) else ():
            self.patience.failed(row_id)
        with self.store.writing() as change:
            outbox.not_reached(change, tried, str(error), limit=self.sending.tries)
        log.warning("sender.unreachable", peer=self.peer.name, waiting=len(ids), reason=str(error))


def _ways(settings: Settings, store: Store, peer: Peer, patience: Patience) -> tuple[Carrier, Confirmation]:
    if peer.url is not None:
        web = Web(peer, settings.node.timeout_s)
        proof: Confirmation = (
            ByQuery(store, settings, web, patience) if peer.confirm == "query" else ByStatus(store, peer)
        )
        return StowRS(web, settings.data), proof
    line = Line(settings, peer)
    proof = ByCommitment(store, settings, line, patience) if peer.confirm == "commitment" else ByStatus(store, peer)
    return StoreSCU(line, settings.data), proof
