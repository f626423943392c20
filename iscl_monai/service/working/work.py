"""Runs jobs: denoise a series, and hand the derived objects to the outbox; what the worker process does."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from iscl_monai.dicom.headers import read_header
from iscl_monai.durable import sync_folder
from iscl_monai.errors import DicomRefusal, MemoryRefusal, NotAllowedNow, OutputRefusal, Refusal, StoreUnavailable
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.series import Outcome, denoise_series
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import jobs
from iscl_monai.service.log import log
from iscl_monai.service.sending.outbox import DerivedObject, add_deliveries, finish_job
from iscl_monai.service.space import Space
from iscl_monai.service.working.claim import Claims, sources_of
from iscl_monai.service.working.preemption import Preemption
from iscl_monai.service.working.result import SeriesWatcher, reason_to_hold, result_of
from iscl_monai.service.working.resume import JOBS_FOLDER
from iscl_monai.version import __version__

PATIENT_TAGS = ("PatientID", "PatientName")  # their values do not belong into a reason


class NotWantedError(Exception):
    """Somebody cancelled the job, a newer job superseded it, or the node stops."""


class Work:
    """Runs jobs, one after the other; several of these may share a model.

    Args:
        store: the database.
        space: of the data folder.
        denoiser_for: gives the denoiser of a strength, on a device ("" is the usual one).
        threads: slices at the same time; None: as many as are useful.
        stopping: whether the node stops.
        training: of the weights.
    """

    def __init__(
        self,
        store: Store,
        space: Space,
        denoiser_for: Callable[[float, str], SliceDenoiser],
        *,
        threads: int | None,
        stopping: Callable[[], bool],
        training: TrainingRecord,
    ) -> None:
        self.store = store
        self.claims = Claims(store, space)
        self.denoiser_for = denoiser_for
        self.threads = threads
        self.stopping = stopping
        self.training = training
        # Outcomes of jobs that ended without a result, until the database can be written:
        self._unwritten: list[tuple[JobRow, JobState, dict[str, Any]]] = []

    def run_next(self) -> bool:
        """Run the next job to its end; False when there was none, or it has to wait for something."""
        self._write_outcomes()
        job = self.claims.next_job()
        if job is None:
            return False
        return self._run_claimed(job)

    def _run_claimed(self, job: JobRow) -> bool:
        """Run a job to its end; False when it has to wait for something."""
        log.info("job.running", job=job.id, attempt=job.attempts)
        try:
            self._run(job)
            self.claims.succeeded(job)
        except (NotWantedError, NotAllowedNow):
            return self._drop(job)
        except (OutputRefusal, StoreUnavailable) as refusal:  # the disk; the job is as good as before
            tries = self.claims.put_off(job)
            self._end(job, JobState.QUEUED, str(refusal), attempts=job.attempts - 1, room_tries=tries)
            return False
        except MemoryRefusal as refusal:
            self._retry_on_cpu(job, refusal)
        except Refusal as refusal:
            self._end(job, JobState.REFUSED, self._reason(refusal, job))
        except Exception as error:
            log.exception("job.fault", job=job.id, error=type(error).__name__)
            self._end(job, JobState.FAILED, f"a fault of ours ({type(error).__name__}), see the log")
        return True

    def _run(self, job: JobRow) -> None:
        started = time.monotonic()
        folder = self._folder(job)
        source = self._link_sources(job, folder / "source")
        denoiser = self.denoiser_for(float(job.strength), job.device)
        derivation, moment = self._derivation_and_moment(job, denoiser)
        preemption = Preemption(job, self.store, self.claims, self._run_claimed)

        def between_slices(done: int, count: int) -> None:
            worked_s = time.monotonic() - started - preemption.spent_s
            self._record_progress(job, done, count, worked_s / done * (count - done))
            if preemption.let_pass():
                self._check_wanted(job)

        watcher = SeriesWatcher(lambda: self._check_wanted(job), between_slices)
        outcome = denoise_series(
            source,
            folder / "derived",
            denoiser=denoiser,
            strict=True,
            workers=self.threads,
            watcher=watcher,
            moment=moment,
            training=self.training,
        )
        shutil.rmtree(source)
        derived = self._read_derived(outcome, folder / "derived")
        result = result_of(outcome, denoiser, derived, watcher, time.monotonic() - started - preemption.spent_s)
        for sentence in result["unfamiliar"]:
            log.warning("job.unfamiliar", job=job.id, what=sentence)
        for parent in (folder, folder.parent, folder.parent.parent, self.store.data):
            sync_folder(parent)
        hold = reason_to_hold(job, outcome, self.training)
        self._hand_over(job, folder / "derived", derived, result, derivation, hold)

    def _hand_over(
        self,
        job: JobRow,
        folder: Path,
        derived: list[DerivedObject],
        result: dict[str, Any],
        derivation: str,
        hold: str,
    ) -> None:
        """Let what was made be sent, or be held for the reason that is given."""
        state = JobState.HELD if hold else JobState.SENDING
        values = {"folder": str(folder.relative_to(self.store.data)), "result": result, "derivation": derivation}
        with self.store.writing() as change:
            change.move(jobs, job.id, state, held_by=job.claim, reason=hold, **values)
            add_deliveries(change, job.id, derived, job.send_to)
            finish_job(change, job.id)
        (log.warning if hold else log.info)(
            f"job.{state}", job=job.id, slices=len(derived), seconds=round(result["seconds"], 1), reason=hold
        )

    def _link_sources(self, job: JobRow, folder: Path) -> Path:
        """A folder with the objects of the job and no others, whatever arrives meanwhile; links take no space."""
        folder.mkdir(parents=True)
        for row in sources_of(self.store, job.id):
            if row.file is None:
                raise DicomRefusal(
                    f"series of job {job.id}",
                    tag="file",
                    found="removed by retention",
                    needed="the objects of the series",
                    cure="send the series again",
                )
            try:
                os.link(self.store.data / row.file, folder / f"{row.id}.dcm")
            except OSError:  # a file system without hard links
                shutil.copyfile(self.store.data / row.file, folder / f"{row.id}.dcm")
        return folder

    def _derivation_and_moment(self, job: JobRow, denoiser: SliceDenoiser) -> tuple[str, datetime]:
        """Identity of model and settings, and time of the derived series: of the first job with this identity."""
        identity = [*vars(denoiser.identity).values(), *sorted(denoiser.parameters.items()), __version__]
        derivation = hashlib.sha256(repr(identity).encode()).hexdigest()
        same = (jobs.c.series_id == job.series_id) & (jobs.c.derivation == derivation) & (jobs.c.moment != "")
        with self.store.writing() as change:
            earlier = change.execute(select(jobs.c.moment).where(same).order_by(jobs.c.id).limit(1)).scalar()
            moment = earlier or datetime.now().astimezone().isoformat()
            change.execute(jobs.update().where(jobs.c.id == job.id).values(derivation=derivation, moment=moment))
        return derivation, datetime.fromisoformat(moment)

    def _read_derived(self, outcome: Outcome, folder: Path) -> list[DerivedObject]:
        """What was written, read back; every slice of every series that was denoised, or it is a fault."""
        headers = [(path, read_header(path)) for path in sorted(folder.rglob("*.dcm"))]
        count = sum(header.frames for _, header in headers)
        expected = sum(slices for _, slices in outcome.series)
        if count != expected or len({header.sop_instance_uid for _, header in headers}) != len(headers):
            raise RuntimeError(f"{count} derived slices for {expected}")
        return [
            DerivedObject(
                sop_instance_uid=header.sop_instance_uid,
                sop_class_uid=header.sop_class,
                series_uid=header.series_uid,
                study_uid=header.study_uid,
                file=str(path.relative_to(self.store.data)),
            )
            for path, header in headers
        ]

    def _check_wanted(self, job: JobRow) -> None:
        ((state, claim),) = self.store.tuples(select(jobs.c.state, jobs.c.claim).where(jobs.c.id == job.id))
        if self.stopping() or state != JobState.RUNNING or claim != job.claim:
            raise NotWantedError

    def _record_progress(self, job: JobRow, done: int, count: int, left_s: float) -> None:
        """Write down how far a job is, for its page; nothing is decided by it."""
        progress = {"done": done, "of": count, "left_s": round(left_s)}
        held = (jobs.c.id == job.id) & (jobs.c.claim == job.claim)
        with suppress(StoreUnavailable), self.store.writing() as change:
            change.execute(jobs.update().where(held).values(progress=progress))

    def _drop(self, job: JobRow) -> bool:
        if self.stopping():
            self._end(job, JobState.QUEUED, "the node was stopped", attempts=job.attempts - 1)
        else:
            self._clear(job)
            log.info("job.dropped", job=job.id)
        return True

    def _retry_on_cpu(self, job: JobRow, refusal: MemoryRefusal) -> None:
        if job.device == "cpu" or self.denoiser_for(1.0, "").device.type == "cpu":
            self._end(job, JobState.FAILED, str(refusal))
            return
        note = "the GPU had too little memory for its slices: done on the CPU"
        self._end(job, JobState.QUEUED, "", device="cpu", note=note, attempts=job.attempts - 1)

    def _end(self, job: JobRow, state: JobState, reason: str, **values: Any) -> None:
        self._clear(job)
        self._unwritten.append((job, state, {"reason": reason[:1000], **values}))
        with suppress(StoreUnavailable):  # as full as what ended the job; written before the next one is claimed
            self._write_outcomes()

    def _write_outcomes(self) -> None:
        """Write what became of jobs that ended without a result; else they would stay "running" until we restart.

        Raises:
            StoreUnavailable: it cannot be written now.
        """
        while self._unwritten:
            job, state, values = self._unwritten[0]
            with suppress(NotAllowedNow), self.store.writing() as change:  # cancelled or superseded at the same time
                change.move(jobs, job.id, state, held_by=job.claim, **values)
                log.info(f"job.{state}", job=job.id, reason=values["reason"])
            with suppress(ValueError):  # another thread has written it
                self._unwritten.remove((job, state, values))

    def _reason(self, refusal: Refusal, job: JobRow) -> str:
        """Why a series is refused, naming objects by their UIDs instead of our files, and without patient data."""
        if isinstance(refusal, DicomRefusal) and refusal.tag in PATIENT_TAGS:
            return f"{refusal.tag} differs within the series; allowed: one patient; do: look at it where it came from"
        reason = str(refusal)
        for row in sources_of(self.store, job.id):
            link = self._folder(job) / "source" / f"{row.id}.dcm"
            reason = reason.replace(str(link), f"object {row.sop_instance_uid}")
        return reason

    def _clear(self, job: JobRow) -> None:
        shutil.rmtree(self._folder(job), ignore_errors=True)

    def _folder(self, job: JobRow) -> Path:
        return self.store.data / JOBS_FOLDER / str(job.id) / job.claim
