"""Destinations that a person has paused: their deliveries wait, and no association is opened for them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import paused_destinations


@dataclass(frozen=True)
class Pause:
    """A row of ``paused_destinations``.

    Args:
        name: of the peer.
        paused_by: the person.
        paused_at: UTC.
    """

    name: str
    paused_by: str
    paused_at: str

    @property
    def description(self) -> str:
        """For the health check."""
        return f"paused by {self.paused_by} since {self.paused_at[:16].replace('T', ' ')} UTC"


def pauses(store: Store) -> dict[str, Pause]:
    """Every destination that is paused, by its name."""
    return {row.name: row for row in store.read(Pause, select(paused_destinations))}


def pause(change: Change, name: str, actor: str) -> None:
    """Pause a destination; what waits for it is kept.

    Raises:
        NotAllowedNow: it is paused already.
    """
    known = select(paused_destinations.c.name).where(paused_destinations.c.name == name)
    if change.execute(known).first() is not None:
        raise NotAllowedNow(f"{name} is paused already", allowed="destinations that are not", cure="resume it")
    change.execute(paused_destinations.insert().values(name=name, paused_by=actor[:64], paused_at=now()))
    change.note(actor, "pause destination", name)


def resume(change: Change, name: str, actor: str) -> None:
    """Resume a destination.

    Raises:
        NotAllowedNow: it is not paused.
    """
    removed = change.execute(paused_destinations.delete().where(paused_destinations.c.name == name))
    if not removed.rowcount:
        raise NotAllowedNow(f"{name} is not paused", allowed="paused destinations", cure="look at it again")
    change.note(actor, "resume destination", name)
