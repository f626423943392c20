"""Which slice was made of which: the derived files of a job beside their sources, in the order of the patient."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pydicom
from sqlalchemy import select

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.geometry import slice_normal
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header, read_header_and
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import instances, job_sources, jobs

Value = TypeVar("Value")
Floats = npt.NDArray[np.float32]
JOBS_KEPT = 8
SLICES_KEPT = 12  # of 2 MB each way: before, after and difference of a slice are requested together


@dataclass(frozen=True)
class Pair:
    """A slice before and after.

    Args:
        source: its file.
        derived: the file that was made of it.
        frame: which of the frames of both files, from 0.
    """

    source: Path
    derived: Path
    frame: int = 0

    def hu(self) -> tuple[Floats, Floats]:
        """Before and after, HU, (row, column).

        Raises:
            DicomRefusal: a file is gone or damaged.
        """
        before, after = _hu(self.source, self.frame), _hu(self.derived, self.frame)
        if before.shape != after.shape:
            raise ValueError("before and after differ in size")
        return before, after


def _hu(path: Path, frame: int) -> Floats:
    header = read_header(path)
    if header.sop_class in MULTIFRAME_CT:
        return next(islice(open_enhanced(path).slices(), frame, None)).hu()
    return load_slice(header)[0].hu()


class Pairs:
    """Finds the pairs of jobs, and keeps those that were requested last.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._indices: _Cache[tuple[Pair, ...]] = _Cache(JOBS_KEPT)
        self._slices: _Cache[tuple[Floats, Floats]] = _Cache(SLICES_KEPT)

    def of_job(self, job: JobRow) -> tuple[Pair, ...]:
        """The pairs of a job, by series and position; none while there are no derived files.

        Args:
            job: row of ``jobs``.
        """
        folder = job.folder
        if not folder:  # only a worker that has succeeded names one
            return ()
        return self._indices.get(folder, lambda: self._find_pairs(job.id, folder))

    def slice_hu(self, job: JobRow, number: int) -> tuple[Floats, Floats] | None:
        """Before and after of a slice, counted from 0; None when there is no such slice.

        Raises:
            DicomRefusal: a file is gone or damaged.
        """
        pairs = self.of_job(job)
        if not 0 <= number < len(pairs):
            return None
        return self._slices.get(f"{job.folder}|{number}", pairs[number].hu)

    def _find_pairs(self, job_id: int, folder: str) -> tuple[Pair, ...]:
        sources = self._sources(job_id)
        found: list[tuple[str, float, int, Pair]] = []
        for path in sorted((self.store.data / folder).rglob("*.dcm")):
            try:
                header, dataset = read_header_and(path, ("SourceImageSequence", "PerFrameFunctionalGroupsSequence"))
                source = sources.get(_source_uid(dataset))
                frames = open_enhanced(path).frame_headers if header.sop_class in MULTIFRAME_CT else (header,)
            except Exception:  # removed at this moment, or damaged on the disk: it has no picture
                continue
            if source is None:
                continue
            for number, frame in enumerate(frames):
                key = (header.series_uid, _position_mm(frame), number, Pair(source, path, number))
                found.append(key)
        return tuple(pair for *_, pair in sorted(found, key=lambda one: one[:3]))

    def _sources(self, job_id: int) -> dict[str, Path]:
        mine = (job_sources.c.job_id == job_id) & (instances.c.file.is_not(None))
        columns = select(instances.c.sop_instance_uid, instances.c.file).join(
            job_sources, job_sources.c.instance_id == instances.c.id
        )
        return {uid: self.store.data / file for uid, file in self.store.tuples(columns.where(mine))}


def job_row(store: Store, job_id: int) -> JobRow | None:
    """The row of a job."""
    found = store.read(JobRow, select(jobs).where(jobs.c.id == job_id))
    return found[0] if found else None


def _source_uid(dataset: pydicom.Dataset) -> str:
    """SOP Instance UID of the source that a derived object, or its first frame, names."""
    named = list(dataset.get("SourceImageSequence") or [])
    for frame in list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[:1]:
        for step in list(frame.get("DerivationImageSequence") or [])[-1:]:
            named = list(step.get("SourceImageSequence") or [])
    return str(named[-1].get("ReferencedSOPInstanceUID", "")) if named else ""


def _position_mm(header: SliceHeader) -> float:
    """Position along the normal of the slices, in mm; 0 where it is unknown, and file order decides."""
    if header.position is None or header.orientation is None:
        return 0.0
    return round(float(np.dot(header.position, slice_normal(header.orientation))), 3)


class _Cache(Generic[Value]):
    """The values requested last, each made once however many request it at the same time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = threading.Lock()
        self._makers = [threading.Lock() for _ in range(8)]

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        for found in self._found(key):
            return found
        with self._makers[hash(key) % len(self._makers)]:
            for found in self._found(key):
                return found
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self.most:
                    self._values.popitem(last=False)
            return value

    def _found(self, key: str) -> Iterator[Value]:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                yield self._values[key]
