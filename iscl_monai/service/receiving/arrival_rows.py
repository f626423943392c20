"""The rows of objects that come in: what is new, what is here already, and what contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from iscl_monai.service.database.prepared import Prepared
from iscl_monai.service.database.rows import InstanceRow
from iscl_monai.service.database.states import SeriesState
from iscl_monai.service.database.store import Change, now
from iscl_monai.service.database.tables import instances, series
from iscl_monai.service.receiving.decoded_size import decoded_bytes
from iscl_monai.service.receiving.verdict import Verdict
from iscl_monai.service.rules import RULE_TAGS

CORRECTION = "what was denoised keeps the first version: correct it in the PACS, or send the series with new UIDs"
BOTH_COMING = "the same object is coming from two senders at once"

FIND_INSTANCE = Prepared(select(instances).where(instances.c.sop_instance_uid == bindparam("sop_instance_uid")))
ADD_INSTANCE = Prepared(insert(instances).values({c.name: bindparam(c.name) for c in instances.c if c.name != "id"}))
FIND_SERIES = Prepared(
    select(series.c.id, series.c.state).where(
        series.c.study_uid == bindparam("study_uid"), series.c.series_uid == bindparam("series_uid")
    )
)
TOUCH_SERIES = Prepared(update(series).where(series.c.id == bindparam("of_id")).values(last_at=bindparam("last_at")))


@dataclass(frozen=True)
class Arrival:
    """An object whose file is in its place, on the disk, before it is written into the database.

    Args:
        tags: what is kept of its tags.
        syntax: Transfer Syntax UID.
        path: its file.
        size: of the file, bytes.
        digest: SHA-256 of transfer syntax and data set.
        sender: AE title or client's name.
        compared: digest of the object of this SOP Instance UID that is here, once the two have been compared.
        difference: what differs between them, in words; "" if nothing does.
    """

    tags: dict[str, Any]
    syntax: str
    path: Path
    size: int
    digest: str
    sender: str
    compared: str = ""
    difference: str = ""


@dataclass(frozen=True)
class Recorded:
    """What was found and written.

    Args:
        verdict: of the object; None if it has to be compared with another one first, and nothing was written.
        series_id: of a stored object.
        other: the object of the same SOP Instance UID and another digest that it has to be compared with.
    """

    verdict: Verdict | None
    series_id: int = 0
    other: InstanceRow | None = None


@dataclass(frozen=True)
class _SeriesFound:
    """The columns of ``series`` that are read for every object."""

    id: int
    state: str


def record_arrival(change: Change, new: Arrival, data: Path) -> Recorded:
    """Write an object into the database, or find that it is a duplicate or in conflict; and its series.

    Args:
        change: the transaction.
        new: the object.
        data: the data folder.
    """
    sop_uids = (new.tags["SOPClassUID"], new.tags["SOPInstanceUID"])
    known = FIND_INSTANCE.read(change.connection, InstanceRow, sop_instance_uid=sop_uids[1])
    if not known:
        series_id = _series_of(change, new.tags)
        ADD_INSTANCE.run(change.connection, series_id=series_id, **_columns(new, data))
        return Recorded(Verdict("stored", "", *sop_uids), series_id)
    (row,) = known
    of_series = _find_series(change, new.tags)
    if of_series is None or row.series_id != of_series.id:
        return Recorded(Verdict("unsuitable", "this SOP Instance UID came before as part of another series", *sop_uids))
    # removed by retention, or lost with a disk; whoever resends wants it done again
    if not has_whole_file(row, data):
        return _record_again(change, new, row, data)
    if row.sha256 == new.digest:
        return _duplicate(change, new, of_series)
    if not new.compared:
        return Recorded(None, other=row)
    if new.compared != row.sha256:
        return Recorded(Verdict("busy", BOTH_COMING, *sop_uids))
    if not new.difference:
        return _duplicate(change, new, of_series)
    reason = f"{new.difference} differs from the object of this SOP Instance UID that is here; {CORRECTION}"
    return Recorded(Verdict("unsuitable", reason, *sop_uids, other_version=True))


def _duplicate(change: Change, new: Arrival, of_series: _SeriesFound) -> Recorded:
    """An object that is here. Success is answered for it, too: its file stays from now on as long as a new one's."""
    if of_series.state == SeriesState.SETTLED:  # else its files stay, and whoever waits for the last object waits on
        TOUCH_SERIES.run(change.connection, of_id=of_series.id, last_at=now())
    return Recorded(Verdict("duplicate", "", new.tags["SOPClassUID"], new.tags["SOPInstanceUID"]))


def _record_again(change: Change, new: Arrival, row: InstanceRow, data: Path) -> Recorded:
    """An object that was here before, and whose file is gone."""
    sop_uids = (new.tags["SOPClassUID"], new.tags["SOPInstanceUID"])
    if row.sha256 != new.digest:
        reason = "an object with this SOP Instance UID and other content came before"
        return Recorded(Verdict("unsuitable", reason, *sop_uids))
    columns = _columns(new, data)
    fresh = {name: columns[name] for name in ("file", "size", "received_at", "sender", "decoded_bytes")}
    change.execute(update(instances).where(instances.c.id == row.id).values(**fresh))
    return Recorded(Verdict("stored", "came again after its file had gone", *sop_uids), _series_of(change, new.tags))


def _columns(new: Arrival, data: Path) -> dict[str, Any]:
    return {
        "sop_instance_uid": new.tags["SOPInstanceUID"],
        "sop_class_uid": new.tags["SOPClassUID"],
        "transfer_syntax_uid": new.syntax,
        "file": str(new.path.relative_to(data)),
        "size": new.size,
        "sha256": new.digest,
        "sender": new.sender[:64],
        "received_at": now(),
        "decoded_bytes": decoded_bytes(new.tags, new.syntax, new.size),
    }


def has_whole_file(row: InstanceRow, data: Path) -> bool:
    """Whether the file of a row is there, whole: only then is the same object a duplicate."""
    try:
        return row.file is not None and (data / row.file).stat().st_size == row.size
    except OSError:
        return False


def _series_of(change: Change, tags: dict[str, Any]) -> int:
    """Id of the object's series, which is made, or receiving again, if need be."""
    known = _find_series(change, tags)
    if known is None:
        return change.add(
            series,
            study_uid=tags["StudyInstanceUID"],
            series_uid=tags["SeriesInstanceUID"],
            state=SeriesState.RECEIVING,
            reason="",
            tags={tag: tags[tag] for tag in RULE_TAGS if tag in tags},
            study_date=tags["StudyDate"][:8],
            patient_key=tags["patient_key"],
            accession_key=tags["accession_key"],
            first_at=now(),
            last_at=now(),
        )
    if known.state == SeriesState.SETTLED:
        change.move(series, known.id, SeriesState.RECEIVING, last_at=now(), reason="")
    else:
        TOUCH_SERIES.run(change.connection, of_id=known.id, last_at=now())
    return known.id


def _find_series(change: Change, tags: dict[str, Any]) -> _SeriesFound | None:
    uids = {"study_uid": tags["StudyInstanceUID"], "series_uid": tags["SeriesInstanceUID"]}
    found = FIND_SERIES.read(change.connection, _SeriesFound, **uids)
    return found[0] if found else None
