"""Which rows of a table can be used, and who each of them is."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from data_prep.split.naming import check_naming, named
from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow
from iscl_monai.errors import ConfigRefusal, DatalistRefusal


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
        ConfigRefusal: when a patient or series to exclude is not in the table.
    """
    ordered = sorted(table, key=lambda row: tuple(map(str, astuple(row))))
    without = _without_excluded_series(ordered, request)
    rows, notes = named(without, request)
    check_naming(rows)
    _check_excluded(rows, request)
    shared = _shared_paths(rows)
    kept: list[SeriesRow] = []
    left_out: Counter[str] = Counter({"excluded series": len(ordered) - len(without)})
    seen: set[tuple[str, str]] = set()
    for row in rows:
        reason = _reason(row, request, shared) or ("listed twice" if _identity(row) in seen else "")
        seen.add(_identity(row))
        if reason:
            left_out[reason] += 1
        else:
            kept.append(row)
    _check_known(kept, request)
    if not request.accept_iterative:
        _check_one_reconstruction(kept)
    left_out = +left_out
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DatalistRefusal(
            f"no series to split ({reasons or 'the table is empty'})",
            allowed="at least one series that is fit for training",
            cure="scan more, or ask for other body parts",
        )
    return Selection(tuple(kept), left_out, shared, notes)


def _without_excluded_series(rows: list[SeriesRow], request: SplitRequest) -> list[SeriesRow]:
    """Rows whose series, and whose original, is not to be left out; before anything is asked of their patients."""
    unknown = [one for one in request.exclude_series if not any(one in _names(row) for row in rows)]
    if unknown:
        known = sorted(name for row in rows for name in _names(row))
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise ConfigRefusal(
            f"series {unknown[0]!r} to exclude is not in the table",
            allowed="a SeriesInstanceUID of its column 'series_uid', or, without one, a path of 'path'",
            cure=f"did you mean {near[0]!r}?" if near else "look at these columns",
        )
    excluded = {name for row in rows if _names(row) & {*request.exclude_series} for name in _names(row)}
    return [row for row in rows if not excluded & {*_names(row), row.simulated_from}]


def _names(row: SeriesRow) -> set[str]:
    """What a user may call a series by: its UID, else its path, which several series may share."""
    return {row.series_uid} if row.series_uid else {row.path}


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
    return (row.series_uid, "" if row.series_uid else os.path.realpath(row.path))


def _check_known(rows: Sequence[SeriesRow], request: SplitRequest) -> None:
    nobody = [row for row in rows if not row.patient]
    if not nobody:
        return
    first = nobody[0]
    others = {"": "study", "study": "folder"}  # folder names everybody, so nothing is left to say after it
    stand_in = others.get(request.patient_from)
    advice = [f"say --patient-from {stand_in} if each is another person"] if stand_in else []
    advice.append(f"leave them out, one by one (--exclude-series {first.series_uid or first.path})")
    asked = f" even with --patient-from {request.patient_from}" if request.patient_from else ""
    raise DatalistRefusal(
        f"{len(nobody)} of {len(rows)} fit series have no patient{asked}, e.g. {first.path}",
        allowed="a patient in every row: nothing else keeps one person out of both pools",
        cure=f"fill the column 'patient', or {', or '.join(advice)}",
    )


def _check_one_reconstruction(rows: Sequence[SeriesRow]) -> None:
    """Refuse two kinds of noise: iterative reconstruction changes its texture with the dose."""
    iterative = [row for row in rows if row.reconstruction]
    if 0 < len(iterative) < len(rows):
        names = Counter(row.reconstruction for row in iterative)
        raise DatalistRefusal(
            f"{len(iterative)} of {len(rows)} fit series are of iterative reconstruction "
            f"({', '.join(f'{count} {name}' for name, count in sorted(names.items()))}), the others name none",
            allowed="series of one kind: their noise has another texture, which a network would learn instead of dose",
            cure="take them out of the table (column 'reconstruction'), or say --accept-iterative",
        )


def _shared_paths(rows: Sequence[SeriesRow]) -> frozenset[str]:
    """Folders in which a reader may find several series: with the same, a higher or a deeper one of another row.

    The path of a series is the common folder of its files, so a file of it may lie in any folder below.
    """
    places = {row.path: Path(os.path.realpath(row.path)) for row in rows}
    counts = Counter(places[row.path] for row in rows)
    above = {parent for place in counts for parent in place.parents}
    return frozenset(
        path
        for path, place in places.items()
        if counts[place] > 1 or place in above or any(parent in counts for parent in place.parents)
    )
