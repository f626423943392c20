"""Rows of the tables as the rest of the node reads them: frozen, and typed, so that mypy knows every column.

Each class has the columns of its table in :mod:`iscl_monai.service.database.tables`, where they are explained; a test
compares the two. They are made by :meth:`iscl_monai.service.database.store.Store.read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iscl_monai.service.database.states import CommitmentState, DeliveryState, JobState, SeriesState


@dataclass(frozen=True)
class SeriesRow:
    """A row of ``series``."""

    id: int
    study_uid: str
    series_uid: str
    state: SeriesState
    reason: str
    tags: dict[str, Any]
    first_at: str
    last_at: str
    forced_rule: str | None
    study_date: str
    patient_key: str
    accession_key: str


@dataclass(frozen=True)
class InstanceRow:
    """A row of ``instances``."""

    id: int
    series_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file: str | None
    size: int
    sha256: str
    sender: str
    received_at: str
    decoded_bytes: int


@dataclass(frozen=True)
class JobRow:
    """A row of ``jobs``."""

    id: int
    series_id: int
    state: JobState
    rule: str
    strength: str
    priority: int
    send_to: list[str]
    hold_unlike: int
    attempts: int
    device: str
    again: int
    note: str
    reason: str
    claim: str
    derivation: str
    moment: str
    folder: str | None
    result: dict[str, Any] | None
    created_at: str
    updated_at: str
    needed_bytes: int
    room_tries: int
    progress: dict[str, Any] | None
    shadow: int


@dataclass(frozen=True)
class DeliveryRow:
    """A row of ``deliveries``."""

    id: int
    job_id: int
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    file: str
    state: DeliveryState
    attempts: int
    refused: int
    reason: str
    transaction_uid: str
    proof: str
    updated_at: str


@dataclass(frozen=True)
class CommitmentRow:
    """A row of ``commitments``."""

    id: int
    transaction_uid: str
    peer: str
    asked: list[list[str]]
    state: CommitmentState
    attempts: int
    reason: str
    created_at: str


@dataclass(frozen=True)
class RefusalRow:
    """A row of ``refusals``."""

    id: int
    at: str
    sender: str
    sop_class_uid: str
    sop_instance_uid: str
    status: str
    reason: str


@dataclass(frozen=True)
class AuditRow:
    """A row of ``audit``."""

    id: int
    at: str
    who: str
    action: str
    object: str
    detail: str
