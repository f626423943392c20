"""The one door for objects that come in, by C-STORE, STOW-RS or a pull: on the disk and in the database, or refused."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select, update

from iscl_monai.durable import sync_folder
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import Change, Store, now
from iscl_monai.service.database.tables import instances, refusals, series
from iscl_monai.service.log import log
from iscl_monai.service.receiving.examination import SOP_CLASSES as SOP_CLASSES
from iscl_monai.service.receiving.examination import UnsuitableError, examined, flushed_digest, same_content
from iscl_monai.service.receiving.examination import is_uid as is_uid
from iscl_monai.service.rules import RULE_TAGS
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space

COMING = "coming"
SOURCES = "sources"


@dataclass(frozen=True)
class Verdict:
    """What became of an object that somebody sent.

    Args:
        kind: ``stored`` or ``duplicate``: it is ours now, whatever happens; ``unsuitable``: it is not taken, and never
            will be; ``busy``: not now; ``offered``: only the wish to send such objects was turned down.
        reason: why not, in words without patient data.
        sop_class_uid: its SOP Class UID, "" if unknown.
        sop_instance_uid: its SOP Instance UID, "" if unknown.
        mismatch: it is not the object that the request named.
    """

    kind: Literal["stored", "duplicate", "unsuitable", "busy", "offered"]
    reason: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    mismatch: bool = False

    @property
    def taken(self) -> bool:
        """Whether success may be answered."""
        return self.kind in ("stored", "duplicate")


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
        for folder in (COMING, SOURCES):
            (self.data / folder).mkdir(exist_ok=True)
        sync_folder(self.data)

    def new_part(self) -> Path:
        """A name for an object that is coming in, on the disk where it will stay."""
        return self.data / COMING / f"{secrets.token_hex(12)}.part"

    def accept(
        self, part: Path, sender: str, *, announced: tuple[str, str] | None = None, study: str | None = None
    ) -> Verdict:
        """Make an object ours, or say why not. The part is gone afterwards in any case.

        Success is told only after the bytes are flushed to the disk and their row is committed.

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
            return Verdict("busy", "the node cannot write its database now", *(announced or ()))
        except OSError as error:
            verdict = Verdict("busy", f"the node cannot store now: {error.strerror or error}"[:300])
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if not verdict.taken:
            self.list_refusal(sender, verdict)
        return verdict

    def list_refusal(self, sender: str, verdict: Verdict) -> None:
        """Have it on the page of what was not taken; a database that is full must not make it worse."""
        with suppress(StoreUnavailable), self.store.writing() as change:
            change.add(
                refusals,
                at=now(),
                sender=sender[:64],
                sop_class_uid=verdict.sop_class_uid if is_uid(verdict.sop_class_uid) else "",
                sop_instance_uid=verdict.sop_instance_uid if is_uid(verdict.sop_instance_uid) else "",
                status=verdict.kind,
                reason=verdict.reason[:500],
            )

    def _accept(self, part: Path, sender: str, announced: tuple[str, str] | None, study: str | None) -> Verdict:
        size = part.stat().st_size
        told = self.space.refuses()
        if told:
            return Verdict("busy", told, *(announced or ()))
        try:
            if size > self.largest_bytes:
                raise UnsuitableError(f"{size >> 20} MB, allowed are {self.largest_bytes >> 20}")
            found = examined(part, announced, study, self.largest_bytes)
        except UnsuitableError as reason:
            named = announced or reason.named
            return Verdict("unsuitable", str(reason), *named, mismatch=reason.mismatch)
        tags, syntax = {**found.tags, "sender": sender}, found.syntax
        digest = flushed_digest(part, found)
        place = self._place(tags)
        try:
            part.rename(place)
        except FileNotFoundError:  # retention has just removed the folder, which was empty
            place.parent.mkdir(exist_ok=True)
            part.rename(place)
        kept = False
        try:
            sync_folder(place.parent)
            sync_folder(place.parent.parent)
            with self.store.writing() as change:
                verdict, series_id = self._enter(change, tags, syntax, place, size, digest, sender)
            kept = verdict.kind == "stored"
        finally:
            if not kept:
                place.unlink(missing_ok=True)
        if kept:
            self.arrived(series_id)
        return verdict

    def _place(self, tags: dict[str, Any]) -> Path:
        """Names are digests: a UID from outside never becomes part of a path. A token keeps two senders apart."""
        folder = self.data / SOURCES / _short(f"{tags['StudyInstanceUID']}|{tags['SeriesInstanceUID']}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{file_prefix(tags['SOPInstanceUID'])}-{secrets.token_hex(4)}.dcm"

    def _enter(
        self, change: Change, tags: dict[str, Any], syntax: str, place: Path, size: int, digest: str, sender: str
    ) -> tuple[Verdict, int]:
        named = (tags["SOPClassUID"], tags["SOPInstanceUID"])
        file = str(place.relative_to(self.data))
        wanted = instances.c.sop_instance_uid == tags["SOPInstanceUID"]
        known = change.execute(select(instances).where(wanted)).mappings().one_or_none()
        if known is None:
            series_id = _series(change, tags)
            change.add(
                instances,
                series_id=series_id,
                sop_instance_uid=tags["SOPInstanceUID"],
                sop_class_uid=tags["SOPClassUID"],
                transfer_syntax_uid=syntax,
                file=file,
                size=size,
                sha256=digest,
                sender=sender[:64],
                received_at=now(),
            )
            return Verdict("stored", "", *named), series_id
        if known["series_id"] != _known_series(change, tags):
            return Verdict("unsuitable", "this SOP Instance UID came before as part of another series", *named), 0
        if not self._is_here(known):  # removed long ago, or lost with a disk; who sends it again wants it done again
            if known["sha256"] != digest:
                return Verdict(
                    "unsuitable", "an object with this SOP Instance UID and other content came before", *named
                ), 0
            fresh = {"file": file, "size": size, "received_at": now(), "sender": sender[:64]}
            change.execute(update(instances).where(wanted).values(**fresh))
            return Verdict("stored", "came again after its file had gone", *named), _series(change, tags)
        if known["sha256"] == digest or same_content(self.data / known["file"], place):
            return Verdict("duplicate", "", *named), 0
        return Verdict("unsuitable", "an object with this SOP Instance UID and other content is here", *named), 0

    def _is_here(self, known: Any) -> bool:
        """Whether the file of a row is there, whole: only then is the same object a duplicate."""
        try:
            return known["file"] is not None and (self.data / known["file"]).stat().st_size == known["size"]
        except OSError:
            return False


def file_prefix(sop_instance_uid: str) -> str:
    """What the names of an object's files begin with."""
    return _short(sop_instance_uid)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _series(change: Change, tags: dict[str, Any]) -> int:
    """The row of the object's series, receiving again if it had been settled."""
    known = _known_series(change, tags)
    if known is None:
        shown = {tag: tags[tag] for tag in RULE_TAGS}
        return change.add(
            series,
            study_uid=tags["StudyInstanceUID"],
            series_uid=tags["SeriesInstanceUID"],
            state="receiving",
            reason="",
            tags=shown,
            first_at=now(),
            last_at=now(),
        )
    (state,) = change.execute(select(series.c.state).where(series.c.id == known)).one()
    if state == "settled":
        change.move(series, known, "receiving", last_at=now(), reason="")
    else:
        change.execute(update(series).where(series.c.id == known).values(last_at=now()))
    return known


def _known_series(change: Change, tags: dict[str, Any]) -> int | None:
    wanted = (series.c.study_uid == tags["StudyInstanceUID"]) & (series.c.series_uid == tags["SeriesInstanceUID"])
    return change.execute(select(series.c.id).where(wanted)).scalar_one_or_none()


class Arrivals:
    """When each series was heard of last, by a clock that does not jump; after a start all begin anew."""

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
