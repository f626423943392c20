"""What may become of a series, a job and a delivery: every state, and every way between two of them, in one table.

A row changes its state by :meth:`iscl_monai.service.database.store.Change.move` alone, which refuses what is not in the
table. A state that nothing leaves is an end; the others are picked up again when the node starts after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SERIES = {
    "receiving": {"settled"},  # it has been quiet for long enough: there is a job now, or a reason why not
    "settled": {"receiving"},  # a late slice has come, or somebody asks again
}

JOB = {
    "queued": {"running", "cancelled", "superseded"},
    "running": {"sending", "refused", "failed", "queued", "cancelled", "superseded"},  # queued: node or worker died
    "sending": {"done", "failed", "cancelled", "superseded"},
    "refused": {"queued", "cancelled", "superseded"},  # somebody asks again, or has seen it
    "failed": {"queued", "sending", "cancelled", "superseded"},  # sending: only the delivery had failed
    "cancelled": {"queued", "superseded"},
    "done": set(),
    "superseded": set(),  # late slices came: a newer job has all of them
}

DELIVERY = {
    "waiting": {"sent", "failed"},
    "sent": {"asked", "confirmed", "waiting"},
    "asked": {"confirmed", "waiting", "sent", "failed"},  # sent: no answer came, ask again
    "failed": {"waiting"},
    "confirmed": set(),
}

COMMITMENT = {  # what others asked us to promise
    "owed": {"reported", "failed"},
    "reported": set(),
    "failed": {"owed"},
}


@dataclass(frozen=True)
class Machine:
    """One table of transitions.

    Args:
        name: of the rows that it rules, which is the name of their table too.
        ways: from each state to the states that may follow.
    """

    name: str
    ways: Mapping[str, frozenset[str]]

    def allows(self, before: str, after: str) -> bool:
        """Whether there is a way from one state to the other."""
        return after in self.ways.get(before, frozenset())

    @property
    def ends(self) -> frozenset[str]:
        """States that nothing leaves."""
        return frozenset(state for state, following in self.ways.items() if not following)


def _machine(name: str, ways: Mapping[str, set[str]]) -> Machine:
    return Machine(name, {state: frozenset(following) for state, following in ways.items()})


MACHINES = {
    machine.name: machine
    for machine in (
        _machine("series", SERIES),
        _machine("jobs", JOB),
        _machine("deliveries", DELIVERY),
        _machine("commitments", COMMITMENT),
    )
}

OPEN_JOBS = ("queued", "running", "sending")  # nobody has to do anything about these
NEEDS_A_PERSON = ("failed", "refused")
