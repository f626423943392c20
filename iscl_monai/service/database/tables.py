"""The tables of the node. No name, birth date or number of a patient is in them: pages read those from the files."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from iscl_monai.service.database.states import CommitmentState, DeliveryState, JobState, SeriesState, State

metadata = MetaData()


def _text_of(kind: type[State]) -> Enum:
    """A column of text that is read as a state; the database itself knows nothing of that."""
    return Enum(kind, native_enum=False, length=16, values_callable=lambda states: [str(state) for state in states])


# Times are ISO 8601 in UTC, for people: no decision of the node is made by the wall clock, which may jump.

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("state", _text_of(SeriesState), nullable=False),
    Column("reason", Text, nullable=False, default=""),  # why there is no job
    Column("tags", JSON, nullable=False),  # what rules look at (rules.RULE_TAGS), of the first object that came
    Column("first_at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("forced_rule", String(64)),  # the rule a person chose, which goes before the tags
    Column("study_date", String(8), nullable=False, default="", server_default=""),  # YYYYMMDD; "": not known
    # Keyed digests of Patient ID and Accession Number (search_keys); "": none, or it came before they were kept
    Column("patient_key", String(64), nullable=False, default="", server_default=""),
    Column("accession_key", String(64), nullable=False, default="", server_default=""),
    UniqueConstraint("study_uid", "series_uid"),
    Index("series_by_state", "state"),
    Index("series_by_study_date", "study_date"),
    Index("series_by_patient", "patient_key"),
    Index("series_by_accession", "accession_key"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False, unique=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("file", Text),  # below the data folder; None when retention has removed it
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("received_at", String(32), nullable=False),
    Column("decoded_bytes", Integer, nullable=False, default=0, server_default="0"),  # of its pixels; 0: not known
    Index("instances_by_series", "series_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_id", ForeignKey("series.id"), nullable=False),
    Column("state", _text_of(JobState), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("strength", String(16), nullable=False),  # as text: it is part of the derived UIDs
    Column("priority", Integer, nullable=False, default=1),  # 0 urgent, 1 normal, 2 later
    Column("send_to", JSON, nullable=False),  # names of peers
    # 1: unlike the training, it is held until an admin has released it
    Column("hold_unlike", Integer, nullable=False, default=0, server_default="0"),
    Column("attempts", Integer, nullable=False, default=0),  # how often a worker has taken it
    Column("device", String(16), nullable=False, default=""),  # "cpu" after the GPU had too little memory
    Column("again", Integer, nullable=False, default=0),  # 1: a person wants it processed again
    Column("note", Text, nullable=False, default=""),  # what a person should know, e.g. a fallback
    Column("reason", Text, nullable=False, default=""),  # of refused, failed, cancelled; why it waits, or is held
    Column("claim", String(32), nullable=False, default=""),  # of the worker that runs it; an older one may not finish
    Column("derivation", String(64), nullable=False, default=""),  # identity of model and settings
    Column("moment", String(40), nullable=False, default=""),  # date and time that the derived objects bear
    Column("folder", Text),  # with the derived files, below the data folder; None when there are none (any more)
    Column("result", JSON),  # what was made and measured (working.result)
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("needed_bytes", Integer, nullable=False, default=0, server_default="0"),  # on the disk, for what it makes
    Column("room_tries", Integer, nullable=False, default=0, server_default="0"),  # how often there was no room for it
    Column("progress", JSON),  # of a running one: slices done and in all, seconds left (working.progress)
    Column(
        "shadow", Integer, nullable=False, default=0, server_default="0"
    ),  # 1: made to be compared, by a shadow rule
    Index("jobs_by_state", "state", "priority", "id"),
    Index("jobs_by_series", "series_id"),
)

job_sources = Table(  # the objects a job works on: those that were there when it was made
    "job_sources",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("instance_id", ForeignKey("instances.id"), primary_key=True),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),  # of the derived object
    Column("sop_class_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("file", Text, nullable=False),  # below the data folder
    Column("state", _text_of(DeliveryState), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),  # tries that did not get through
    Column("refused", Integer, nullable=False, default=0),  # tries that got through, and were answered with a failure
    Column("reason", Text, nullable=False, default=""),  # what the peer answered last
    Column("transaction_uid", String(64), nullable=False, default=""),  # of the storage commitment requested
    Column("proof", String(64), nullable=False, default=""),  # how it was confirmed
    Column("updated_at", String(32), nullable=False),
    UniqueConstraint("job_id", "destination", "sop_instance_uid"),
    Index("deliveries_by_state", "state", "destination"),
    Index("deliveries_by_object", "sop_instance_uid", "destination"),
    Index("deliveries_by_transaction", "transaction_uid"),
)

commitments = Table(
    "commitments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transaction_uid", String(64), nullable=False),
    Column("peer", String(64), nullable=False),
    Column("asked", JSON, nullable=False),  # [[SOP Class UID, SOP Instance UID], ...]
    Column("state", _text_of(CommitmentState), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("peer", "transaction_uid"),
)

refusals = Table(  # what was not taken from a sender
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(128), nullable=False),
    Column("detail", Text, nullable=False, default=""),
)

users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("password", Text, nullable=False),  # argon2; never anything else
    Column("role", String(16), nullable=False),  # viewer, operator, admin
    Column("created_at", String(32), nullable=False),
    Column("sessions_since", String(32), nullable=False),  # older sessions are not valid any more
)

ended_sessions = Table(  # that were logged out, and would be valid otherwise
    "ended_sessions",
    metadata,
    Column("session", String(64), primary_key=True),
    Column("ended_at", String(32), nullable=False),
)

probe = Table(  # one row, written and read back to prove that the database can be written
    "probe",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token", String(32), nullable=False),
)

paused_destinations = Table(
    "paused_destinations",
    metadata,
    Column("name", String(64), primary_key=True),  # of the peer
    Column("paused_by", String(64), nullable=False),
    Column("paused_at", String(32), nullable=False),
)

notices = Table(  # what needs a person, or did so until lately, and who has been told (notify.notices)
    "notices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cause", String(200), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("opened_at", String(32), nullable=False),
    Column("resolved_at", String(32), nullable=False),  # "" while it lasts
    Column("announced", JSON, nullable=False),  # by channel: 1 its beginning, 2 its end
)
