"""Takes objects that come in, by C-STORE, STOW-RS or WADO-RS: on the disk and in the database, or refused."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from iscl_monai.durable import sync_folder
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.group_commit import GroupCommit
from iscl_monai.service.database.store import Change, Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.arrival_rows import BOTH_COMING, Arrival, Recorded, record_arrival
from iscl_monai.service.receiving.comparison import other_content
from iscl_monai.service.receiving.examination import (
    OF_PATIENT,
    UnsuitableError,
    examine,
    flush_and_digest,
)
from iscl_monai.service.receiving.examination import SOP_CLASSES as SOP_CLASSES
from iscl_monai.service.receiving.examination import is_uid as is_uid
from iscl_monai.service.receiving.patient import FREE_TEXTS, age_years, without_number
from iscl_monai.service.receiving.refusals import RefusalList
from iscl_monai.service.receiving.source_folders import SourceFolders
from iscl_monai.service.receiving.spooled_file import SpooledFile
from iscl_monai.service.receiving.verdict import Verdict as Verdict
from iscl_monai.service.search_keys import SearchKeys
from iscl_monai.service.settings import Settings
from iscl_monai.service.space import Space

COMING = "coming"


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
        self._folders = SourceFolders(self.data)
        self._rows: GroupCommit[Arrival, Recorded] = GroupCommit(store, self._record)
        (self.data / COMING).mkdir(exist_ok=True)
        sync_folder(self.data)

    def new_part(self) -> Path:
        """A name for an object that is coming in, on the disk where it will stay."""
        return self.data / COMING / f"{secrets.token_hex(12)}.part"

    def accept(
        self,
        part: Path,
        sender: str,
        *,
        announced: tuple[str, str] | None = None,
        study: str | None = None,
        spooled: SpooledFile | None = None,
    ) -> Verdict:
        """Take an object, or refuse it with a reason. The part is gone afterwards in any case.

        Success is returned only after the bytes are flushed to the disk and their row is committed.

        Args:
            part: a complete DICOM Part 10 file, from :meth:`new_part`.
            sender: AE title or client's name.
            announced: SOP Class and Instance UID that the request named, which the object must bear.
            study: Study Instance UID that the request named, which the object must bear.
            spooled: what is known of the file already, as its File Meta Information was written here.
        """
        try:
            verdict = self._accept(part, sender, announced, study, spooled)
        except StoreUnavailable as error:  # locked or full: the sender has to keep it, and no list can be written
            log.error("intake.store", error=str(error))
            verdict = Verdict("busy", "the node cannot write its database now", *(announced or ()))
            self.refusals.count_unlisted(verdict)
            return verdict
        except OSError as error:
            verdict = Verdict("busy", f"the node cannot store now: {error.strerror or error}"[:300])
        except Exception as error:  # pynetdicom would answer for us, and tell nobody here
            log.exception("intake.fault", error=type(error).__name__)
            verdict = Verdict("busy", f"a fault of ours ({type(error).__name__}), see the log", *(announced or ()))
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if not verdict.taken:
            self.record_refusal(sender, verdict)
        return verdict

    def record_refusal(self, sender: str, verdict: Verdict) -> None:
        """Count it, and write it down for the page of refusals."""
        self.refusals.record(sender, verdict)

    def _accept(
        self,
        part: Path,
        sender: str,
        announced: tuple[str, str] | None,
        study: str | None,
        spooled: SpooledFile | None,
    ) -> Verdict:
        size = part.stat().st_size
        no_room = self.space.no_room_reason()
        if no_room:
            return Verdict("busy", no_room, *(announced or ()))
        try:
            if size > self.largest_bytes:
                raise UnsuitableError(f"{size >> 20} MB, allowed are {self.largest_bytes >> 20}")
            found = examine(part, announced, study, self.largest_bytes, spooled)
        except UnsuitableError as reason:
            sop_uids = announced or reason.sop_uids
            return Verdict("unsuitable", str(reason), *sop_uids, mismatch=reason.mismatch)
        digest = spooled.flush() if spooled else flush_and_digest(part, found)
        tags = self._tags_to_keep(found.tags, sender)
        series_uids = (tags["StudyInstanceUID"], tags["SeriesInstanceUID"])
        path = self._folders.move_in(part, series_uids, tags["SOPInstanceUID"])
        kept = False
        try:
            self._folders.sync(path.parent)
            verdict, series_id = self._commit(Arrival(tags, found.syntax, path, size, digest, sender))
            kept = verdict.kind == "stored"
        finally:
            if not kept:
                path.unlink(missing_ok=True)
        if kept:
            self.arrived(series_id)
        return verdict

    def _commit(self, new: Arrival) -> tuple[Verdict, int]:
        """Write its rows, together with those of others that come now; the verdict, and the id of its series."""
        recorded = self._rows.submit(new)
        if recorded.other is not None:  # decoding takes a moment, in which nobody else should wait to write
            difference = other_content(self.data / str(recorded.other.file), new.path)
            recorded = self._rows.submit(replace(new, compared=recorded.other.sha256, difference=difference))
        if recorded.verdict is None:  # the other one has changed meanwhile
            return Verdict("busy", BOTH_COMING, new.tags["SOPClassUID"], new.tags["SOPInstanceUID"]), 0
        return recorded.verdict, recorded.series_id

    def _record(self, change: Change, new: Arrival) -> Recorded:
        return record_arrival(change, new, self.data)

    def _tags_to_keep(self, tags: dict[str, Any], sender: str) -> dict[str, Any]:
        """What is kept of the tags: neither the patient's number, though the series is found by it, nor birth date."""
        number, born = tags["PatientID"], tags["PatientBirthDate"]
        kept = {tag: text for tag, text in tags.items() if tag not in OF_PATIENT}
        kept |= {tag: without_number(tags[tag], number) for tag in FREE_TEXTS}
        kept["PatientAge"] = age_years(tags["PatientAge"], born, tags["StudyDate"])
        keys = {"patient_key": self._keys.of(number), "accession_key": self._keys.of(tags["AccessionNumber"])}
        return {**kept, **keys, "sender": sender}


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
