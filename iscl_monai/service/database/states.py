"""What may become of a series, a job, a delivery and a commitment: every state, and every way between two of them.

A row changes its state by :meth:`iscl_monai.service.database.store.Change.move` alone, which refuses what is not in the
table. A state that nothing leaves is an end; the others are picked up again when the node starts after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar


class State(str, Enum):
    """A state of a row, which is the text that stands in the database and on the pages."""

    def __str__(self) -> str:  # as enum.StrEnum, which Python 3.10 lacks
        return str(self.value)


class SeriesState(State):
    """Of a series that comes in."""

    RECEIVING = "receiving"
    SETTLED = "settled"


class JobState(State):
    """Of the work on a series."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    SENDING = "sending"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DONE = "done"
    SUPERSEDED = "superseded"


class DeliveryState(State):
    """Of one derived object on its way to one destination."""

    WAITING = "waiting"
    SENT = "sent"
    ASKED = "asked"
    FAILED = "failed"
    CONFIRMED = "confirmed"


class CommitmentState(State):
    """Of a storage commitment that a peer has requested from us."""

    OWED = "owed"
    REPORTED = "reported"
    FAILED = "failed"


AnyState = TypeVar("AnyState", bound=State)


@dataclass(frozen=True)
class Machine(Generic[AnyState]):
    """One table of transitions.

    Args:
        name: of the rows that it rules, which is the name of their table too.
        ways: from each state to the states that may follow.
    """

    name: str
    ways: Mapping[AnyState, frozenset[AnyState]]

    def allows(self, before: AnyState, after: AnyState) -> bool:
        """Whether there is a way from one state to the other."""
        return after in self.ways.get(before, frozenset())

    @property
    def ends(self) -> frozenset[AnyState]:
        """States that nothing leaves."""
        return frozenset(state for state, following in self.ways.items() if not following)


def _machine(name: str, ways: Mapping[AnyState, set[AnyState]]) -> Machine[AnyState]:
    return Machine(name, {state: frozenset(following) for state, following in ways.items()})


SERIES = _machine(
    "series",
    {
        SeriesState.RECEIVING: {SeriesState.SETTLED},  # quiet for long enough: there is a job now, or a reason why not
        SeriesState.SETTLED: {SeriesState.RECEIVING},  # a late slice has come, or somebody wants it processed again
    },
)

JOBS = _machine(
    "jobs",
    {
        JobState.QUEUED: {JobState.RUNNING, JobState.CANCELLED, JobState.SUPERSEDED},
        JobState.RUNNING: {
            JobState.SENDING,
            JobState.HELD,  # unlike the training, and its rule wants an admin to look at it first
            JobState.REFUSED,
            JobState.FAILED,
            JobState.QUEUED,  # the node or the worker died
            JobState.CANCELLED,
            JobState.SUPERSEDED,
        },
        JobState.HELD: {JobState.SENDING, JobState.CANCELLED, JobState.SUPERSEDED},  # released, or not
        JobState.SENDING: {JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED},
        # Somebody wants it done again, or has seen it:
        JobState.REFUSED: {JobState.QUEUED, JobState.CANCELLED, JobState.SUPERSEDED},
        JobState.FAILED: {
            JobState.QUEUED,
            JobState.SENDING,  # only the delivery had failed
            JobState.CANCELLED,
            JobState.SUPERSEDED,
        },
        JobState.CANCELLED: {JobState.QUEUED, JobState.SUPERSEDED},
        JobState.DONE: set(),
        JobState.SUPERSEDED: set(),  # a newer job has all objects: late ones came, or a person wanted it done again
    },
)

DELIVERIES = _machine(
    "deliveries",
    {
        DeliveryState.WAITING: {DeliveryState.SENT, DeliveryState.FAILED},
        DeliveryState.SENT: {DeliveryState.ASKED, DeliveryState.CONFIRMED, DeliveryState.WAITING},
        DeliveryState.ASKED: {
            DeliveryState.CONFIRMED,
            DeliveryState.WAITING,
            DeliveryState.SENT,  # no answer came: request the commitment again
            DeliveryState.FAILED,
        },
        DeliveryState.FAILED: {DeliveryState.WAITING},
        DeliveryState.CONFIRMED: set(),
    },
)

COMMITMENTS = _machine(
    "commitments",
    {
        CommitmentState.OWED: {CommitmentState.REPORTED, CommitmentState.FAILED},
        CommitmentState.REPORTED: set(),
        CommitmentState.FAILED: {CommitmentState.OWED},
    },
)

MACHINES: Mapping[str, Machine[Any]] = {machine.name: machine for machine in (SERIES, JOBS, DELIVERIES, COMMITMENTS)}

OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING, JobState.SENDING)  # nobody has to do anything about these
NO_ROOM_TRIES = 8  # of a queued job that there was no room for, about ten minutes: then it needs a person, too
NEEDS_A_PERSON = (JobState.HELD, JobState.FAILED, JobState.REFUSED)
OPEN_DELIVERIES = (DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.ASKED)
