"""What the page of destinations shows of each peer: whether it answers, what waits for it, and what it said last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from iscl_monai.service.database.states import OPEN_DELIVERIES, DeliveryState, JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.sending.echoes import PeerEcho
from iscl_monai.service.sending.pausing import Pause, pauses
from iscl_monai.service.settings import Settings

UNDELIVERED = (*OPEN_DELIVERIES, DeliveryState.FAILED)
LIVE_JOBS = (JobState.SENDING, JobState.HELD, JobState.FAILED)


@dataclass(frozen=True)
class PeerStatus:
    """One peer.

    Args:
        peer: its settings.
        echo: whether it answers; None if it cannot be asked.
        pause: by whom it was paused; None if it is not.
        backlog: deliveries to it that are not confirmed, by state; those of held jobs are under ``held``.
        last_success_at: when it has confirmed an object last, UTC; "" if it never has.
        last_reason: what it said last of an object that it has not confirmed.
    """

    peer: Peer
    echo: PeerEcho | None
    pause: Pause | None
    backlog: Mapping[str, int]
    last_success_at: str
    last_reason: str

    @property
    def address(self) -> str:
        """Where it is."""
        peer = self.peer
        if peer.url:
            return peer.url
        return f"{peer.ae_title} at {peer.host}:{peer.port}" if peer.port else f"{peer.ae_title}, calls only"

    @property
    def roles(self) -> str:
        """What it is to the node."""
        named = {
            "may send": self.peer.may_send and not self.peer.url,
            "receives": self.peer.can_receive,
            "is swept": self.peer.sweep,
        }
        return ", ".join(role for role, true in named.items() if true)

    @property
    def state(self) -> str:
        """In one word, or two."""
        if self.pause is not None:
            return "paused"
        if self.echo is None:
            return "not asked"
        if self.echo.answer is None:
            return "not asked yet"
        return "no answer" if self.echo.answer.failure else "answers"


def peer_statuses(settings: Settings, store: Store, echoes: Mapping[str, PeerEcho]) -> list[PeerStatus]:
    """Every peer of the settings, in their order."""
    paused, backlog = pauses(store), _backlog(store)
    return [
        PeerStatus(
            peer,
            echoes.get(peer.name),
            paused.get(peer.name),
            backlog.get(peer.name, {}),
            _last_success(store, peer.name),
            _last_reason(store, peer.name),
        )
        for peer in settings.peers
    ]


def _backlog(store: Store) -> dict[str, dict[str, int]]:
    by = (deliveries.c.destination, deliveries.c.state, jobs.c.state)
    counted = select(*by, func.count()).join(jobs, jobs.c.id == deliveries.c.job_id)
    live = (deliveries.c.state.in_(UNDELIVERED), jobs.c.state.in_(LIVE_JOBS))
    found: dict[str, dict[str, int]] = {}
    for name, state, job_state, count in store.tuples(counted.where(*live).group_by(*by)):
        shown = str(JobState.HELD) if job_state == JobState.HELD else str(state)
        of_peer = found.setdefault(name, {})
        of_peer[shown] = of_peer.get(shown, 0) + count
    return found


def _last_success(store: Store, name: str) -> str:
    """Of the newest confirmed row, which the index finds however many there are."""
    confirmed = (deliveries.c.destination == name) & (deliveries.c.state == DeliveryState.CONFIRMED)
    newest = select(deliveries.c.updated_at).where(confirmed).order_by(deliveries.c.id.desc()).limit(1)
    return next(iter(store.values(newest)), "")


def _last_reason(store: Store, name: str) -> str:
    undelivered = (deliveries.c.destination == name) & deliveries.c.state.in_(UNDELIVERED)
    newest = (
        select(deliveries.c.reason)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(undelivered, deliveries.c.reason != "", jobs.c.state.in_(LIVE_JOBS))
        .order_by(deliveries.c.updated_at.desc())
        .limit(1)
    )
    return next(iter(store.values(newest)), "")
