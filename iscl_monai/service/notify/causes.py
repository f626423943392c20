"""What needs a person now: parts of the node that are not well, and jobs that wait for somebody.

A sentence has names of settings, states and numbers of rows alone: no description, no UID, no patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from iscl_monai.service.database.states import NEEDS_A_PERSON, NO_ROOM_TRIES, DeliveryState, JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, jobs

PART, JOB = "part ", "job "  # what keys of causes begin with


@dataclass(frozen=True)
class Cause:
    """Something that needs a person.

    Args:
        key: the same as long as it is the same cause.
        sentence: for the person.
    """

    key: str
    sentence: str


def is_certain(key: str) -> bool:
    """Whether a cause is the state of a row, which no next try mends; else it may be over in a moment."""
    return key.startswith(JOB)


def causes_of_parts(health: Mapping[str, tuple[bool, str]]) -> list[Cause]:
    """Parts of the node that are not well."""
    unwell = [(name, text) for name, (well, text) in health.items() if not well]
    return [Cause(f"{PART}{name}", f"{name} is not well{f': {text}' if text else ''}") for name, text in unwell]


def causes_of_jobs(store: Store) -> list[Cause]:
    """Jobs that wait for somebody; those of shadow rules are a trial, and call nobody."""
    columns = (jobs.c.id, jobs.c.series_id, jobs.c.rule, jobs.c.state)
    failed = select(deliveries.c.job_id).where(deliveries.c.state == DeliveryState.FAILED)
    partly = (jobs.c.state == JobState.SENDING) & jobs.c.id.in_(failed)
    without_room = (jobs.c.state == JobState.QUEUED) & (jobs.c.room_tries >= NO_ROOM_TRIES)
    waiting = (jobs.c.shadow == 0) & (jobs.c.state.in_(NEEDS_A_PERSON) | partly | without_room)
    found = []
    for job_id, series_id, rule, state in store.tuples(select(*columns).where(waiting).order_by(jobs.c.id)):
        what = {JobState.SENDING: "cannot be delivered to everybody", JobState.QUEUED: "waits for room on the disk"}
        described = what.get(state, f"is {state}")
        found.append(Cause(f"{JOB}{job_id} {state}", f"series {series_id}: job {job_id} (rule {rule}) {described}"))
    return found
