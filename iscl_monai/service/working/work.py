"""Take a job, denoise its series, and hand the derived objects to the outbox: what the worker process does."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from iscl_monai.dicom.headers import read_header
from iscl_monai.durable import sync_folder
from iscl_monai.errors import DicomRefusal, MemoryRefusal, NotAllowedNow, OutputRefusal, Refusal, StoreUnavailable
from iscl_monai.inference.denoiser import SliceDenoiser
from iscl_monai.inference.plan import Plan
from iscl_monai.inference.series import Outcome, denoise_series
from iscl_monai.inference.stream import DenoisedSlice
from iscl_monai.quality.regions import RegionMeasurement
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import instances, job_sources, jobs
from iscl_monai.service.log import log
from iscl_monai.service.sending.outbox import Derived, enlist, finish
from iscl_monai.service.space import MB, Space
from iscl_monai.service.working.resume import JOBS
from iscl_monai.version import __version__

TELLING_TAGS = ("PatientID", "PatientName")  # their values do not belong into a reason
LOOKS_EVERY_S = 1.0  # whether the job is still wanted
MEASURED_SLICES = 24

Row = Mapping[str, Any]


class NotWantedError(Exception):
    """Somebody cancelled the job, newer slices superseded it, or the node stops."""


def take(store: Store, space: Space) -> Row | None:
    """Claim the next job: the most urgent, and of these the oldest; None when there is none, or no room for it."""
    with store.writing() as change:
        waiting = select(jobs).where(jobs.c.state == "queued").order_by(jobs.c.priority, jobs.c.id).limit(1)
        row = change.execute(waiting).mappings().one_or_none()
        if row is None:
            return None
        lacking = _lacking_room(store, space, row["id"])
        if lacking:
            if row["reason"] != lacking:
                change.execute(jobs.update().where(jobs.c.id == row["id"]).values(reason=lacking))
            return None
        claim = secrets.token_hex(8)
        change.move(jobs, row["id"], "running", claim=claim, reason="", attempts=row["attempts"] + 1)
        return {**row, "claim": claim, "attempts": row["attempts"] + 1}


def _lacking_room(store: Store, space: Space, job_id: int) -> str:
    needed = sum(row["size"] for row in store.rows(_sources(job_id)))
    left = space.free_bytes - needed
    if left >= space.limits.reserve_mb * MB // 2:  # what comes in stops at the reserve: the other half is for the work
        return ""
    return f"waits for room: {needed // MB} MB are needed, {space.free_bytes // MB} MB are free"


def _sources(job_id: int) -> Any:
    mine = job_sources.c.job_id == job_id
    return select(instances).join(job_sources, job_sources.c.instance_id == instances.c.id).where(mine)


class Work:
    """Runs jobs, one after the other; several of these may share a model.

    Args:
        store: the database.
        space: of the data folder.
        denoiser_for: gives the denoiser of a strength, on a device ("" is the usual one).
        threads: slices at the same time; None: as many as are useful.
        stopping: whether the node stops.
    """

    def __init__(
        self,
        store: Store,
        space: Space,
        denoiser_for: Callable[[float, str], SliceDenoiser],
        *,
        threads: int | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.store = store
        self.space = space
        self.denoiser_for = denoiser_for
        self.threads = threads
        self.stopping = stopping
        self._owed: list[tuple[Row, str, dict[str, Any]]] = []  # jobs given up while the database could not be written

    def once(self) -> bool:
        """Run the next job to its end; False when there was none, or it has to wait for something."""
        self._pay()
        job = take(self.store, self.space)
        if job is None:
            return False
        log.info("job.running", job=job["id"], attempt=job["attempts"])
        try:
            self._run(job)
        except (NotWantedError, NotAllowedNow):
            return self._not_wanted(job)
        except (OutputRefusal, StoreUnavailable) as refusal:  # the disk; the job is as good as before
            self._give_up(job, "queued", str(refusal), attempts=job["attempts"] - 1)
            return False
        except MemoryRefusal as refusal:
            self._too_large(job, refusal)
        except Refusal as refusal:
            self._give_up(job, "refused", self._told(refusal, job))
        except Exception as error:
            log.exception("job.fault", job=job["id"], error=type(error).__name__)
            self._give_up(job, "failed", f"a fault of ours ({type(error).__name__}), see the log")
        return True

    def _run(self, job: Row) -> None:
        started = time.monotonic()
        place = self.store.data / JOBS / str(job["id"]) / job["claim"]
        source = self._linked(job, place / "source")
        denoiser = self.denoiser_for(float(job["strength"]), job["device"])
        key, moment = self._moment(job, denoiser)
        watcher = _Watching(lambda: self._check_wanted(job))
        outcome = denoise_series(
            source,
            place / "derived",
            denoiser=denoiser,
            skip_refused=False,
            workers=self.threads,
            watcher=watcher,
            moment=moment,
        )
        shutil.rmtree(source)
        derived = self._derived(outcome, place / "derived")
        result = _result(outcome, denoiser, derived, watcher, time.monotonic() - started)
        folder = str((place / "derived").relative_to(self.store.data))
        for parent in (place, place.parent, place.parent.parent, self.store.data):
            sync_folder(parent)
        with self.store.writing() as change:
            change.move(
                jobs,
                job["id"],
                "sending",
                held_by=job["claim"],
                folder=folder,
                result=result,
                derivation=key,
                reason="",
            )
            enlist(change, job["id"], derived, job["send_to"])
            finish(change, job["id"])
        log.info("job.sending", job=job["id"], slices=len(derived), seconds=round(result["seconds"], 1))

    def _linked(self, job: Row, folder: Path) -> Path:
        """The objects of the job and no others, whatever arrives meanwhile; links cost no room."""
        folder.mkdir(parents=True)
        for row in self.store.rows(_sources(job["id"])):
            if row["file"] is None:
                raise DicomRefusal(
                    f"series of job {job['id']}",
                    tag="file",
                    found="removed by retention",
                    needed="the objects of the series",
                    cure="send the series again",
                )
            try:
                os.link(self.store.data / row["file"], folder / f"{row['id']}.dcm")
            except OSError:  # a file system without hard links
                shutil.copyfile(self.store.data / row["file"], folder / f"{row['id']}.dcm")
        return folder

    def _moment(self, job: Row, denoiser: SliceDenoiser) -> tuple[str, datetime]:
        """Date and time of the derived series: that of the job which made its first slices, if there was one."""
        made_by = [*vars(denoiser.identity).values(), *sorted(denoiser.parameters.items()), __version__]
        key = hashlib.sha256(repr(made_by).encode()).hexdigest()
        same = (jobs.c.series_id == job["series_id"]) & (jobs.c.derivation == key) & (jobs.c.moment != "")
        with self.store.writing() as change:
            earlier = change.execute(select(jobs.c.moment).where(same).order_by(jobs.c.id).limit(1)).scalar()
            moment = earlier or datetime.now().astimezone().isoformat()
            change.execute(jobs.update().where(jobs.c.id == job["id"]).values(derivation=key, moment=moment))
        return key, datetime.fromisoformat(moment)

    def _derived(self, outcome: Outcome, folder: Path) -> list[Derived]:
        """What was written, read back; every slice of every series that was denoised, or it is a fault."""
        headers = [(path, read_header(path)) for path in sorted(folder.rglob("*.dcm"))]
        count = sum(header.frames for _, header in headers)
        expected = sum(slices for _, slices in outcome.series)
        if count != expected or len({header.sop_instance_uid for _, header in headers}) != len(headers):
            raise RuntimeError(f"{count} derived slices for {expected}")
        return [
            Derived(
                sop_instance_uid=header.sop_instance_uid,
                sop_class_uid=header.sop_class,
                series_uid=header.series_uid,
                study_uid=header.study_uid,
                file=str(path.relative_to(self.store.data)),
            )
            for path, header in headers
        ]

    def _check_wanted(self, job: Row) -> None:
        (row,) = self.store.rows(select(jobs.c.state, jobs.c.claim).where(jobs.c.id == job["id"]))
        if self.stopping() or row["state"] != "running" or row["claim"] != job["claim"]:
            raise NotWantedError

    def _not_wanted(self, job: Row) -> bool:
        if self.stopping():
            self._give_up(job, "queued", "the node was stopped", attempts=job["attempts"] - 1)
        else:
            self._clear(job)
            log.info("job.dropped", job=job["id"])
        return True

    def _too_large(self, job: Row, refusal: MemoryRefusal) -> None:
        if job["device"] == "cpu" or self.denoiser_for(1.0, "").device.type == "cpu":
            self._give_up(job, "failed", str(refusal))
            return
        told = "the GPU had too little memory for its slices: done on the CPU"
        self._give_up(job, "queued", "", device="cpu", note=told, attempts=job["attempts"] - 1)

    def _give_up(self, job: Row, state: str, reason: str, **values: Any) -> None:
        self._clear(job)
        self._owed.append((job, state, {"reason": reason[:1000], **values}))
        with suppress(StoreUnavailable):  # as full as what ended the job; it is said before the next one is taken
            self._pay()

    def _pay(self) -> None:
        """Say what became of jobs that were given up; else they would be taken for running as long as we live.

        Raises:
            StoreUnavailable: it cannot be said now.
        """
        while self._owed:
            job, state, values = self._owed[0]
            with suppress(NotAllowedNow), self.store.writing() as change:  # cancelled or superseded at the same time
                change.move(jobs, job["id"], state, held_by=job["claim"], **values)
                log.info(f"job.{state}", job=job["id"], reason=values["reason"])
            with suppress(ValueError):  # another thread has said it
                self._owed.remove((job, state, values))

    def _told(self, refusal: Refusal, job: Row) -> str:
        """Why a series is refused: objects by their UIDs, as their files here mean nothing to anybody; no patient."""
        if isinstance(refusal, DicomRefusal) and refusal.tag in TELLING_TAGS:
            return f"{refusal.tag} differs within the series; allowed: one patient; do: look at it where it came from"
        told = str(refusal)
        for row in self.store.rows(_sources(job["id"])):
            place = self.store.data / JOBS / str(job["id"]) / job["claim"] / "source" / f"{row['id']}.dcm"
            told = told.replace(str(place), f"object {row['sop_instance_uid']}")
        return told

    def _clear(self, job: Row) -> None:
        shutil.rmtree(self.store.data / JOBS / str(job["id"]) / job["claim"], ignore_errors=True)


class _Watching:
    """Measures some slices, and asks now and then whether the job is still wanted."""

    def __init__(self, check_wanted: Callable[[], None]) -> None:
        self.check_wanted = check_wanted
        self.regions = RegionMeasurement()
        self._every = 1
        self._looked = time.monotonic()

    def begins(self, title: str, count: int) -> None:
        """A series begins; its slices are measured evenly."""
        self._every = max(1, count // MEASURED_SLICES)

    def saw(self, seen: DenoisedSlice) -> None:
        """A slice has been written."""
        if time.monotonic() - self._looked > LOOKS_EVERY_S:
            self.check_wanted()
            self._looked = time.monotonic()
        if seen.index % self._every == 0:
            self.regions.add(seen.before_hu, seen.after_hu, seen.padded)

    def gave_up(self) -> None:
        """The series is refused."""

    def ends(self, folder: Path, done: Plan) -> None:
        """Everything has been written."""
        self.check_wanted()


def _result(
    outcome: Outcome, denoiser: SliceDenoiser, derived: list[Derived], watcher: _Watching, seconds: float
) -> dict[str, Any]:
    measured = [one for one in watcher.regions.results() if one.sigma_before_hu == one.sigma_before_hu]
    skipped = Counter(one.reason for one in outcome.skipped)
    return {
        "slices": sum(count for _, count in outcome.series),
        "skipped": [{"reason": reason, "count": count} for reason, count in skipped.items()],
        "derived_series_uids": sorted({one.series_uid for one in derived}),
        "model": denoiser.identity.name,
        "version": denoiser.identity.version,
        "weights_digest": denoiser.identity.weights_digest,
        "parameters": denoiser.parameters,
        "software": __version__,
        "device": denoiser.device.type,
        "seconds": seconds,
        "regions": [
            {
                "region": one.name,
                "pixels": one.voxels,
                "noise_before_hu": round(one.sigma_before_hu, 2),
                "noise_after_hu": round(one.sigma_after_hu, 2),
                "mean_before_hu": round(one.mean_before_hu, 2),
                "mean_after_hu": round(one.mean_after_hu, 2),
            }
            for one in measured
        ],
    }
