"""The series of a unit, decided by the plan of ``iscl-monai denoise``, with all that the ledger keeps of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iscl_monai.batch.prints import digest_of, fingerprint_of
from iscl_monai.batch.units import Unit, files_of
from iscl_monai.dicom.find import sort_files
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.naming import plain_name, title_of
from iscl_monai.inference.plan import (
    ClassicSeries,
    Decision,
    MultiFrame,
    Source,
    damaged_file,
    decisions,
)

HEADER_BYTES = 16 * 2**10
"""Of a derived file beside its pixels, amply."""


@dataclass(frozen=True, kw_only=True)
class PlannedSeries:
    """A series that has been looked at.

    Attributes:
        key: letters and digits that tell it from every other series of the archive.
        series_uid: SeriesInstanceUID, ``""`` when it was blanked.
        folder: the deepest that holds all of its files.
        title: SeriesDescription, for people.
        slices: number of images.
        fingerprint: of its files (:func:`iscl_monai.batch.prints.fingerprint_of`).
        digest: of its files (:func:`iscl_monai.batch.prints.digest_of`), where it was asked for; else ``""``.
        result: where its images go, within the folder of results.
        result_bytes: what they take on the disk, about.
        source: what is denoised; None when it is not.
        refusal: why it is refused, in a line.
        skipped: why nobody wants it denoised: it is derived, or ours.
        unlike: in what it is unlike the training of the weights, in sentences; ``""`` when in nothing.
    """

    key: str
    series_uid: str
    folder: Path
    title: str
    slices: int
    fingerprint: str
    digest: str = ""
    result: Path
    result_bytes: int
    source: Source | None = None
    refusal: str = ""
    skipped: str = ""
    unlike: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        return files_of_source(self.source) if self.source is not None else ()


@dataclass(frozen=True)
class PlannedUnit:
    """All that lies in a unit.

    Attributes:
        series: also those that are refused or skipped.
        skipped: number of skipped files by reason.
        damaged: files that may be slices and cannot be read, each with the refusal.
    """

    series: tuple[PlannedSeries, ...]
    skipped: Mapping[str, int]
    damaged: tuple[tuple[Path, str], ...]


def plan_unit(
    unit: Unit, root: Path, *, training: TrainingRecord | None, fingerprints: Mapping[str, str] | None = None
) -> PlannedUnit:
    """Decide about everything in the folders of a unit.

    Args:
        unit: to plan.
        root: the archive's folder; results lie within theirs as sources do in it.
        training: see :func:`iscl_monai.inference.plan.plan`.
        fingerprints: of series that have been denoised, by key. Where one differs, the digest is computed.
    """
    known = fingerprints or {}
    skipped: Counter[str] = Counter()
    with without_warnings():
        found = sort_files(file for folder in unit.folders for file in files_of(folder))
        skipped.update(one.reason for one in found.skipped if not one.damaged)
        series = []
        for decision in decisions(found, training=training):
            skipped.update(one.reason for one in decision.skipped)
            planned = _planned(decision, root)
            if planned.source and known.get(planned.key, planned.fingerprint) != planned.fingerprint:
                planned = replace(planned, digest=digest_of(planned.files))
            series.append(planned)
    damaged = tuple((one.path, str(damaged_file(one))) for one in found.skipped if one.damaged)
    return PlannedUnit(tuple(series), dict(skipped), damaged)


def files_of_source(source: Source) -> tuple[Path, ...]:
    """What is read of it."""
    if isinstance(source, MultiFrame):
        return (source.image.path,)
    return tuple(header.path for header in source.headers)


def _planned(decision: Decision, root: Path) -> PlannedSeries:
    outcome, headers = decision.outcome, decision.headers
    source = None if isinstance(outcome, DicomRefusal) else outcome
    if isinstance(source, ClassicSeries):
        source = replace(source, contents={})  # megabytes, which would travel
    paths = [header.path for header in headers] if source is None else files_of_source(source)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    key, title = key_of(headers), title_of(headers[0])
    return PlannedSeries(
        key=key,
        series_uid=headers[0].series_uid,
        folder=folder,
        title=title,
        slices=len(headers) if source is None else source.count,
        fingerprint=fingerprint_of(paths),
        result=Path(os.path.relpath(folder, root)) / f"{plain_name(title)}_{key}",
        result_bytes=0 if source is None else _bytes_of(source),
        source=source,
        refusal=str(outcome) if isinstance(outcome, DicomRefusal) else "",
        skipped=decision.skipped[0].reason if outcome is None else "",
        unlike="" if source is None else ". ".join(one.sentence for one in source.comparison.unlike),
    )


def key_of(headers: Sequence[SliceHeader]) -> str:
    """What tells a series from every other: its UID, or else its folder. Each multi-frame file is one by itself."""
    first = headers[0]
    return key_of_name(
        first.series_uid, first.path.parent, multiframe=first.path if first.sop_class in MULTIFRAME_CT else None
    )


def key_of_name(series_uid: str, folder: Path, *, multiframe: Path | None = None) -> str:
    """As :func:`key_of`, of a series that is known by name only."""
    identity = series_uid or f"in {folder}"
    if multiframe is not None:
        identity += f" in {multiframe}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _bytes_of(source: Source) -> int:
    first = source.image.header if isinstance(source, MultiFrame) else source.headers[0]
    return source.count * ((first.rows or 0) * (first.columns or 0) * 2 + HEADER_BYTES)
