"""The one door for objects that come in, by C-STORE, STOW-RS or a pull: on the disk and in the database, or refused."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from sqlalchemy import select, update

from iscl_monai.dicom.headers import CT_IMAGE_STORAGE, MULTIFRAME_CT, text_of
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.durable import sync_folder
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.log import log
from iscl_monai.service.settings import RULE_TAGS, Settings
from iscl_monai.service.space import Space
from iscl_monai.service.store import Change, Store, now
from iscl_monai.service.tables import instances, refusals, series

SOP_CLASSES = (CT_IMAGE_STORAGE, *sorted(MULTIFRAME_CT))
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID")
COMING = "coming"
SOURCES = "sources"


@dataclass(frozen=True)
class Verdict:
    """What became of an object that somebody sent.

    Args:
        kind: ``stored`` or ``duplicate``: it is ours now, whatever happens; ``unsuitable``: it is not taken, and never
            will be; ``busy``: not now.
        reason: why not, in words without patient data.
        sop_class_uid: its SOP Class UID, "" if unknown.
        sop_instance_uid: its SOP Instance UID, "" if unknown.
        mismatch: it is not the object that the request named.
    """

    kind: Literal["stored", "duplicate", "unsuitable", "busy"]
    reason: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    mismatch: bool = False

    @property
    def taken(self) -> bool:
        """Whether success may be answered."""
        return self.kind in ("stored", "duplicate")


class UnsuitableError(Exception):
    """Carries the reason out of a check of this module, and which object it is about as soon as that is known."""

    mismatch = False
    named = ("", "")  # SOP Class and Instance UID


class MismatchError(UnsuitableError):
    """The object is not the one that the request named."""

    mismatch = True


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
        (self.data / COMING).mkdir(exist_ok=True)

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
                sop_class_uid=verdict.sop_class_uid[:64],
                sop_instance_uid=verdict.sop_instance_uid[:64],
                status=verdict.kind,
                reason=verdict.reason[:500],
            )

    def _accept(self, part: Path, sender: str, announced: tuple[str, str] | None, study: str | None) -> Verdict:
        size = part.stat().st_size
        told = self.space.refuses()
        if told:
            return Verdict("busy", told, *(announced or ()))
        tags: dict[str, Any] = {}
        try:
            if size > self.largest_bytes:
                raise UnsuitableError(f"{size >> 20} MB, allowed are {self.largest_bytes >> 20}")
            tags, syntax = _examined(part, announced, study, self.largest_bytes)
        except UnsuitableError as reason:
            named = announced or reason.named
            return Verdict("unsuitable", str(reason), *named, mismatch=reason.mismatch)
        tags["sender"] = sender
        digest = _flushed_digest(part, syntax)
        place = self._place(tags)
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
        return folder / f"{_short(tags['SOPInstanceUID'])}-{secrets.token_hex(4)}.dcm"

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
        if known["file"] is None:  # finished and removed long ago; who sends it again wants it done again
            if known["sha256"] != digest:
                return Verdict(
                    "unsuitable", "an object with this SOP Instance UID and other content came before", *named
                ), 0
            change.execute(update(instances).where(wanted).values(file=file, received_at=now(), sender=sender[:64]))
            return Verdict("stored", "came again after its files had been removed", *named), _series(change, tags)
        if known["sha256"] == digest or _same_content(self.data / known["file"], place):
            return Verdict("duplicate", "", *named), 0
        return Verdict("unsuitable", "an object with this SOP Instance UID and other content is here", *named), 0


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


def _examined(
    part: Path, announced: tuple[str, str] | None, study: str | None, largest_bytes: int
) -> tuple[dict[str, Any], str]:
    """The tags we need and the transfer syntax, of a file that may be anything."""
    try:
        with without_warnings():
            meta = pydicom.filereader.read_file_meta_info(part)
            syntax = str(meta.get("TransferSyntaxUID", ""))
            if syntax == DeflatedExplicitVRLittleEndian:
                _check_inflates(part, largest_bytes)
            wanted = [tag for tag in (*UIDS, *RULE_TAGS, "Rows") if tag != "sender"]
            dataset = pydicom.dcmread(part, stop_before_pixels=True, specific_tags=wanted)
            tags: dict[str, Any] = {tag: text_of(dataset, tag) for tag in wanted}
    except UnsuitableError:
        raise
    except Exception as error:  # hostile bytes make pydicom raise nearly anything
        raise UnsuitableError(f"not readable as DICOM ({type(error).__name__})") from error
    for keyword in UIDS:
        if not is_uid(tags[keyword]):
            raise UnsuitableError(f"{keyword} is {tags[keyword][:70]!r}, which is no UID (PS3.5 9.1)")
    try:
        _check_wanted(tags, str(meta.get("MediaStorageSOPInstanceUID", "")), announced, study)
    except UnsuitableError as reason:
        reason.named = (tags["SOPClassUID"], tags["SOPInstanceUID"])
        raise
    return tags, syntax


def _check_wanted(tags: dict[str, Any], meta_uid: str, announced: tuple[str, str] | None, study: str | None) -> None:
    """Whether it is what the request named, and what we work with."""
    if announced is not None and announced != (tags["SOPClassUID"], tags["SOPInstanceUID"]):
        raise MismatchError("the object is not the one that the request named")
    if study is not None and study != tags["StudyInstanceUID"]:
        raise MismatchError("the object belongs to another study than the one that the request named")
    if tags["SOPClassUID"] not in SOP_CLASSES:
        raise UnsuitableError(f"SOP Class {pydicom.uid.UID(tags['SOPClassUID']).name} is no CT image")
    if (meta_uid or tags["SOPInstanceUID"]) != tags["SOPInstanceUID"]:
        raise UnsuitableError("file meta information and data set name different SOP Instance UIDs")
    if not tags["Rows"]:
        raise UnsuitableError("it ends early, or has no Rows")


def is_uid(text: str) -> bool:
    """Whether it has the form of a UID (PS3.5 9.1); leading zeros, which some scanners write, are let pass."""
    return len(text) <= 64 and re.fullmatch(r"\d+(\.\d+)+", text, re.ASCII) is not None


def _check_inflates(part: Path, largest_bytes: int) -> None:
    """A deflated file of 1 MB can hold 1 GB: stop counting at the limit, before anything else inflates it."""
    with part.open("rb") as file:
        _skip_meta(file)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = 0
        while block := file.read(65536):
            while block and not inflater.eof:
                inflated += len(inflater.decompress(block, 2**20))
                block = inflater.unconsumed_tail
                if inflated > largest_bytes:
                    raise UnsuitableError(f"inflates to more than {largest_bytes >> 20} MB")


def _skip_meta(file: BinaryIO) -> None:
    """Go to where the data set begins."""
    pydicom.filereader.read_preamble(file, force=False)
    pydicom.filereader._read_file_meta_info(file)  # no public function leaves the file there


def _flushed_digest(part: Path, syntax: str) -> str:
    """SHA-256 of transfer syntax and data set, of a file whose bytes are on the disk when this returns.

    The file meta information is left out: it tells of the sender, and differs when the same object comes twice.
    """
    digest = hashlib.sha256(syntax.encode())
    with part.open("rb") as file:
        _skip_meta(file)
        while block := file.read(2**20):
            digest.update(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set, encoded in different native ways; compressed ones are not decoded."""
    try:
        with without_warnings():
            first, second = pydicom.dcmread(one), pydicom.dcmread(other)
            syntaxes = {first.file_meta.TransferSyntaxUID, second.file_meta.TransferSyntaxUID}
            if len(syntaxes) > 1 and (not syntaxes <= set(NATIVE) or ExplicitVRBigEndian in syntaxes):
                return False
            return {e.tag: e.value for e in first.iterall()} == {e.tag: e.value for e in second.iterall()}
    except Exception:
        return False  # what cannot be compared is not the same


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
