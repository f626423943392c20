"""Which rows of a table can be used, and who each of them is."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path, PurePath

from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal


@dataclass(frozen=True)
class Selection:
    """The rows to split.

    Attributes:
        rows: in an order that does not depend on the table's.
        left_out: number of series per reason.
        notes: what a user should know, one sentence each.
        shared: paths under which a reader would find more than one series.
    """

    rows: tuple[SeriesRow, ...]
    left_out: Counter[str]
    shared: frozenset[str]
    notes: tuple[str, ...] = field(default=())


def select(table: Sequence[SeriesRow], request: SplitRequest) -> Selection:
    """Leave out what cannot be trained on or was not asked for, and count it by reason.

    Args:
        table: all rows of a scan, originals and simulated ones.
        request: what was asked for.

    Raises:
        LeakRefusal: when one study or series carries the names of two patients.
        DatalistRefusal: when it is not known who a fit series is, or no series is left.
        ConfigRefusal: when a patient to exclude is not in the table.
    """
    ordered = sorted(table, key=lambda row: tuple(map(str, astuple(row))))
    rows, notes = _named(ordered, request)
    check_naming(rows)
    _check_excluded(rows, request)
    shared = _shared_paths(rows)
    kept: list[SeriesRow] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for row in rows:
        reason = _reason(row, request, shared) or ("listed twice" if _identity(row) in seen else "")
        seen.add(_identity(row))
        if reason:
            left_out[reason] += 1
        else:
            kept.append(row)
    _check_known(kept)
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DatalistRefusal(
            f"no series to split ({reasons or 'the table is empty'})",
            allowed="at least one series that is fit for training",
            cure="scan more, or ask for other body parts",
        )
    return Selection(tuple(kept), left_out, shared, notes)


def check_naming(rows: Iterable[SeriesRow]) -> None:
    """Refuse two names for what must be one person: it would be a leak that nobody sees.

    Raises:
        LeakRefusal: naming the study or series, and both patients.
    """
    names: dict[tuple[str, str], str] = {}
    for row in rows:
        for kind, uid in (("study", row.study_uid), ("series", row.series_uid), ("series", row.simulated_from)):
            known = names.setdefault((kind, uid), row.patient) if uid and row.patient else row.patient
            if known != row.patient:
                raise LeakRefusal(
                    f"{kind} {uid} is of patient {known!r} and of patient {row.patient!r}",
                    allowed="one patient per study and per series",
                    cure="correct the column 'patient' of the table",
                )


def _named(rows: list[SeriesRow], request: SplitRequest) -> tuple[list[SeriesRow], tuple[str, ...]]:
    """Give rows without a patient the name of their original, or what the user wants to stand for it."""
    originals = {row.series_uid: row.patient for row in rows if row.series_uid and not row.simulated_from}
    rows = [row if row.patient else replace(row, patient=originals.get(row.simulated_from, "")) for row in rows]
    if not request.patient_from:
        return rows, ()
    stand_in = _studies(rows) if request.patient_from == "study" else _folders(rows)
    named = [row if row.patient else replace(row, patient=name) for row, name in zip(rows, stand_in, strict=True)]
    guessed = {row.patient for row, before in zip(named, rows, strict=True) if row.patient and not before.patient}
    if not guessed:
        return named, ()
    what = {"study": "two studies of one person", "folder": "two folders of one person"}[request.patient_from]
    note = (
        f"{len(guessed)} patients are guessed, one per {request.patient_from}: {what} would be a leak that no check "
        "can see."
    )
    return named, (note,)


def _studies(rows: Sequence[SeriesRow]) -> list[str]:
    return [f"study {row.study_uid}" if row.study_uid else "" for row in rows]


def _folders(rows: Sequence[SeriesRow]) -> list[str]:
    """The first folder below what all originals share; a simulated series belongs to its original's."""
    originals = [row for row in rows if not row.simulated_from]
    if not originals:
        return ["" for _ in rows]
    root = os.path.commonpath([PurePath(row.path).parent for row in originals])
    below = {row.series_uid: _first_below(row.path, root) for row in originals if row.series_uid}
    return [below.get(row.simulated_from, "") if row.simulated_from else _first_below(row.path, root) for row in rows]


def _first_below(path: str, root: str) -> str:
    return f"folder {PurePath(path).relative_to(root).parts[0]}"


def _check_excluded(rows: Sequence[SeriesRow], request: SplitRequest) -> None:
    known = sorted({row.patient for row in rows if row.patient})
    for patient in request.exclude_patients:
        if patient not in known:
            near = difflib.get_close_matches(patient, known, n=1, cutoff=0.5)
            raise ConfigRefusal(
                f"patient {patient!r} to exclude is not in the table",
                allowed=f"one of its {len(known)} patients",
                cure=f"did you mean {near[0]!r}?" if near else "look at the column 'patient'",
            )


def _reason(row: SeriesRow, request: SplitRequest, shared: frozenset[str]) -> str:
    """Why a row is left out; empty when it is not."""
    if not row.fit:
        return row.verdict.partition(":")[0]  # what follows is about this one series
    if row.patient in request.exclude_patients:
        return "excluded patient"
    if request.body_parts and row.body_part.upper() not in {part.upper() for part in request.body_parts}:
        return f"body part {row.body_part or 'not said'}"
    if row.path in shared and not row.series_uid:
        return "without SeriesInstanceUID in a folder with other series"
    if row.dose_fraction < 1 and not row.simulated_from:
        return "simulated, but the table does not say from which series"
    return ""


def _identity(row: SeriesRow) -> tuple[str, str]:
    return (row.series_uid, "" if row.series_uid else row.path)


def _check_known(rows: Sequence[SeriesRow]) -> None:
    nobody = [row for row in rows if not row.patient]
    if nobody:
        raise DatalistRefusal(
            f"{len(nobody)} of {len(rows)} fit series have no patient, e.g. {nobody[0].path}",
            allowed="a patient in every row: nothing else keeps one person out of both pools",
            cure="fill the column 'patient', or say --patient-from study (or folder) if each is another person",
        )


def _shared_paths(rows: Sequence[SeriesRow]) -> frozenset[str]:
    """Folders in which a reader finds several series: their own, and those of folders below."""
    counts = Counter(str(Path(row.path)) for row in rows)
    below = {str(parent) for path in counts for parent in Path(path).parents}
    return frozenset(row.path for row in rows if counts[str(Path(row.path))] > 1 or str(Path(row.path)) in below)
