"""Takes objects that come in, by C-STORE, STOW-RS or WADO-RS: on the disk and in the database, or refused."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from iscl_monai.durable import sync_folder
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.rows import InstanceRow
from iscl_monai.service.database.states import SeriesState
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import instances, series
from iscl_monai.service.log import log
from iscl_monai.service.receiving.decoded_size import decoded_bytes
from iscl_monai.service.receiving.examination import (
    OF_PATIENT,
    UnsuitableError,
    examine,
    flush_and_digest,
    other_content,
)
from iscl_monai.service.receiving.examination import SOP_CLASSES as SOP_CLASSES
from iscl_monai.service.receiving.examination import is_uid as is_uid
from iscl_monai.service.receiving.patient import FREE_TEXTS, age_years, without_number
from iscl_monai.service.receiving.refusals import RefusalList
from iscl_monai.service.receiving.verdict import Verdict as Verdict
from iscl_monai.service.rules import RULE_TAGS
from iscl_monai.service.search_keys import SearchKeys
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space

CORRECTION = "what was denoised keeps the first version: correct it in the PACS, or send the series with new UIDs"
COMING = "coming"
SOURCES = "sources"


@dataclass(frozen=True)
class _Arrival:
    """An object whose file is in its place, before it is written into the database."""

    tags: dict[str, Any]
    syntax: str
    path: Path
    size: int
    digest: str
    sender: str


class Intake:
    """Takes objects.

    Args:
        store: the database.
        settings: of the node.
        space: of the data folder.
        arrived: called with the series' id after every object that was stored.
    """

    def __init__(self, store: Store, settings: Settings, space: Space, arrived: Callable[[int], None]) -> None:
        self.store = store
        self.data = settings.data
        self.largest_bytes = settings.node.max_object_mb * 2**20
        self.space = space
        self.arrived = arrived
        self.refusals = RefusalList(store)
        self._keys = SearchKeys(settings.data)
        for folder in (COMING, SOURCES):
            (self.data / folder).mkdir(exist_ok=True)
        sync_folder(self.data)

    def new_part(self) -> Path:
        """A name for an object that is coming in, on the disk where it will stay."""
        return self.data / COMING / f"{secrets.token_hex(12)}.part"

    def accept(
        self, part: Path, sender: str, *, announced: tuple[str, str] | None = None, study: str | None = None
    ) -> Verdict:
        """Take an object, or refuse it with a reason. The part is gone afterwards in any case.

        Success is returned only after the bytes are flushed to the disk and their row is committed.

        Args:
            part: a complete DICOM Part 10 file, from :meth:`new_part`.
            sender: AE title or client's name.
            announced: SOP Class and Instance UID that the request named, which the object must bear.
            study: Study Instance UID that the request named, which the object must bear.
        """
        try:
            verdict = self._accept(part, sender, announced, study)
        except StoreUnavailable as error:  # locked or full: the sender has to keep it, and no list can be written
            log.error("intake.store", error=str(error))
            verdict = Verdict("busy", "the node cannot write its database now", *(announced or ()))
            self.refusals.count_unlisted(verdict)
            return verdict
        except OSError as error:
            verdict = Verdict("busy", f"the node cannot store now: {error.strerror or error}"[:300])
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if not verdict.taken:
            self.record_refusal(sender, verdict)
        return verdict

    def record_refusal(self, sender: str, verdict: Verdict) -> None:
        """Count it, and write it down for the page of refusals."""
        self.refusals.record(sender, verdict)

    def _accept(self, part: Path, sender: str, announced: tuple[str, str] | None, study: str | None) -> Verdict:
        size = part.stat().st_size
        no_room = self.space.no_room_reason()
        if no_room:
            return Verdict("busy", no_room, *(announced or ()))
        try:
            if size > self.largest_bytes:
                raise UnsuitableError(f"{size >> 20} MB, allowed are {self.largest_bytes >> 20}")
            found = examine(part, announced, study, self.largest_bytes)
        except UnsuitableError as reason:
            sop_uids = announced or reason.sop_uids
            return Verdict("unsuitable", str(reason), *sop_uids, mismatch=reason.mismatch)
        digest = flush_and_digest(part, found)
        tags = self._tags_to_keep(found.tags, sender)
        path = self._new_path(tags)
        try:
            part.rename(path)
        except FileNotFoundError:  # retention has just removed the folder, which was empty
            path.parent.mkdir(exist_ok=True)
            part.rename(path)
        kept = False
        try:
            sync_folder(path.parent)
            sync_folder(path.parent.parent)
            arrival = _Arrival(tags, found.syntax, path, size, digest, sender)
            known = self._compared(arrival)  # decoding takes a moment, in which nobody else should wait to write
            with self.store.writing() as change:
                verdict, series_id = self._record(change, arrival, known)
            kept = verdict.kind == "stored"
        finally:
            if not kept:
                path.unlink(missing_ok=True)
        if kept:
            self.arrived(series_id)
        return verdict

    def _tags_to_keep(self, tags: dict[str, Any], sender: str) -> dict[str, Any]:
        """What is kept of the tags: neither the patient's number, though the series is found by it, nor birth date."""
        number, born = tags["PatientID"], tags["PatientBirthDate"]
        kept = {tag: text for tag, text in tags.items() if tag not in OF_PATIENT}
        kept |= {tag: without_number(tags[tag], number) for tag in FREE_TEXTS}
        kept["PatientAge"] = age_years(tags["PatientAge"], born, tags["StudyDate"])
        keys = {"patient_key": self._keys.of(number), "accession_key": self._keys.of(tags["AccessionNumber"])}
        return {**kept, **keys, "sender": sender}

    def _new_path(self, tags: dict[str, Any]) -> Path:
        """Names are digests: a UID from outside never becomes part of a path. A token keeps two senders apart."""
        folder = self.data / SOURCES / _short_digest(f"{tags['StudyInstanceUID']}|{tags['SeriesInstanceUID']}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{file_prefix(tags['SOPInstanceUID'])}-{secrets.token_hex(4)}.dcm"

    def _compared(self, new: _Arrival) -> tuple[str, str]:
        """The digest of the object of this SOP Instance UID that is here, if any, and what differs in the new one."""
        same_uid = instances.c.sop_instance_uid == new.tags["SOPInstanceUID"]
        for row in self.store.read(InstanceRow, select(instances).where(same_uid)):
            if row.sha256 != new.digest and self._has_whole_file(row):
                return row.sha256, other_content(self.data / str(row.file), new.path)
        return "", ""

    def _record(self, change: Change, new: _Arrival, compared: tuple[str, str]) -> tuple[Verdict, int]:
        """Write an object into the database, or find that it is a duplicate or in conflict; and its series."""
        sop_uids = (new.tags["SOPClassUID"], new.tags["SOPInstanceUID"])
        same_uid = instances.c.sop_instance_uid == new.tags["SOPInstanceUID"]
        known = change.read(InstanceRow, select(instances).where(same_uid))
        if not known:
            series_id = _series_of(change, new.tags)
            change.add(instances, series_id=series_id, **self._columns(new))
            return Verdict("stored", "", *sop_uids), series_id
        (row,) = known
        if row.series_id != _known_series(change, new.tags):
            return Verdict("unsuitable", "this SOP Instance UID came before as part of another series", *sop_uids), 0
        # removed by retention, or lost with a disk; whoever resends wants it done again
        if not self._has_whole_file(row):
            if row.sha256 != new.digest:
                reason = "an object with this SOP Instance UID and other content came before"
                return Verdict("unsuitable", reason, *sop_uids), 0
            columns = self._columns(new)
            fresh = {name: columns[name] for name in ("file", "size", "received_at", "sender", "decoded_bytes")}
            change.execute(update(instances).where(same_uid).values(**fresh))
            return Verdict("stored", "came again after its file had gone", *sop_uids), _series_of(change, new.tags)
        if row.sha256 == new.digest:
            return Verdict("duplicate", "", *sop_uids), 0
        digest, difference = compared
        if digest != row.sha256:
            return Verdict("busy", "the same object is coming from two senders at once", *sop_uids), 0
        if not difference:
            return Verdict("duplicate", "", *sop_uids), 0
        reason = f"{difference} differs from the object of this SOP Instance UID that is here; {CORRECTION}"
        return Verdict("unsuitable", reason, *sop_uids, other_version=True), 0

    def _columns(self, new: _Arrival) -> dict[str, Any]:
        return {
            "sop_instance_uid": new.tags["SOPInstanceUID"],
            "sop_class_uid": new.tags["SOPClassUID"],
            "transfer_syntax_uid": new.syntax,
            "file": str(new.path.relative_to(self.data)),
            "size": new.size,
            "sha256": new.digest,
            "sender": new.sender[:64],
            "received_at": now(),
            "decoded_bytes": decoded_bytes(new.tags, new.syntax, new.size),
        }

    def _has_whole_file(self, row: InstanceRow) -> bool:
        """Whether the file of a row is there, whole: only then is the same object a duplicate."""
        try:
            return row.file is not None and (self.data / row.file).stat().st_size == row.size
        except OSError:
            return False


def file_prefix(sop_instance_uid: str) -> str:
    """What the names of an object's files begin with."""
    return _short_digest(sop_instance_uid)


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _series_of(change: Change, tags: dict[str, Any]) -> int:
    """Id of the object's series, which is made, or receiving again, if need be."""
    known = _known_series(change, tags)
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
    (state,) = change.execute(select(series.c.state).where(series.c.id == known)).one()
    if state == SeriesState.SETTLED:
        change.move(series, known, SeriesState.RECEIVING, last_at=now(), reason="")
    else:
        change.execute(update(series).where(series.c.id == known).values(last_at=now()))
    return known


def _known_series(change: Change, tags: dict[str, Any]) -> int | None:
    same_uids = (series.c.study_uid == tags["StudyInstanceUID"]) & (series.c.series_uid == tags["SeriesInstanceUID"])
    return change.execute(select(series.c.id).where(same_uids)).scalar_one_or_none()


class Arrivals:
    """When the last object of each series came, by a clock that does not jump; after a start all begin anew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._last: dict[int, float] = {}
        self._lock = threading.Lock()

    def __call__(self, series_id: int) -> None:
        """An object of the series has come."""
        with self._lock:
            self._last[series_id] = self.clock()

    def quiet_s(self, series_id: int) -> float:
        """Seconds since then; 0 for a series that is new to this process, which starts to count now."""
        with self._lock:
            return self.clock() - self._last.setdefault(series_id, self.clock())

    def forget(self, series_id: int) -> None:
        """It has been settled."""
        with self._lock:
            self._last.pop(series_id, None)
