"""Who the rows of a table are: one name per person, or a refusal."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow
from iscl_monai.errors import DatalistRefusal, LeakRefusal


def check_naming(rows: Iterable[SeriesRow]) -> None:
    """Refuse two names for what must be one person: it would be a leak that nobody sees.

    Raises:
        LeakRefusal: naming both patients, and the study, series or folder that they share.
    """
    names: dict[tuple[str, str], str] = {}
    spellings: dict[str, str] = {}
    for row in rows:
        for kind, what in _proofs(row):
            known = names.setdefault((kind, what), row.patient) if what and row.patient else row.patient
            if known != row.patient:
                raise LeakRefusal(
                    f"{kind} {what} is of patient {known!r} and of patient {row.patient!r}",
                    allowed="one patient per study and per series",
                    cure="correct the column 'patient' of the table",
                )
        spelling = unicodedata.normalize("NFKC", row.patient).strip().casefold()
        if spellings.setdefault(spelling, row.patient) != row.patient:
            raise LeakRefusal(
                f"patients {spellings[spelling]!r} and {row.patient!r} differ in nothing but case or spaces",
                allowed="one spelling per person, names that differ in more than case",
                cure="correct the column 'patient' of the table",
            )


def named(rows: list[SeriesRow], request: SplitRequest) -> tuple[list[SeriesRow], tuple[str, ...]]:
    """Give rows without a patient the name of their original, or what the user wants to stand for it.

    Where a known patient has the same study (or folder), it is that patient.

    Args:
        rows: in any order.
        request: says what stands for a missing patient.

    Returns:
        The rows in the same order, and what a user should know.

    Raises:
        LeakRefusal: when nameless rows share their study or folder with two patients.
        DatalistRefusal: when no folder tells one person from another.
    """
    originals = {row.series_uid: row.patient for row in rows if row.series_uid and not row.simulated_from}
    rows = [row if row.patient else replace(row, patient=originals.get(row.simulated_from, "")) for row in rows]
    if not request.patient_from or all(row.patient for row in rows):
        return rows, ()
    stand_in = _studies(rows) if request.patient_from == "study" else _folders(rows)
    known = _known(rows, stand_in)
    named = [
        row if row.patient else replace(row, patient=known.get(name, name))
        for row, name in zip(rows, stand_in, strict=True)
    ]
    guessed = {name for row, name in zip(rows, stand_in, strict=True) if name and not row.patient} - set(known)
    if not guessed:
        return named, ()
    what = {"study": "two studies of one person", "folder": "two folders of one person"}[request.patient_from]
    note = (
        f"{len(guessed)} patients are guessed, one per {request.patient_from}: {what} would be a leak that no check "
        "can see."
    )
    return named, (note,)


def _proofs(row: SeriesRow) -> tuple[tuple[str, str], ...]:
    """What one person alone can have."""
    folder = "" if row.series_uid else os.path.realpath(row.path)
    uids = (("study", row.study_uid), ("series", row.series_uid), ("series", row.simulated_from))
    return (*uids, ("folder", folder))


def _known(rows: Sequence[SeriesRow], stand_in: Sequence[str]) -> dict[str, str]:
    """What stands for nameless rows -> the patient who has it, too."""
    needed = {name for row, name in zip(rows, stand_in, strict=True) if name and not row.patient}
    known: dict[str, str] = {}
    for row, name in zip(rows, stand_in, strict=True):
        if row.patient and name in needed and known.setdefault(name, row.patient) != row.patient:
            raise LeakRefusal(
                f"rows without a patient share {name} with patient {known[name]!r} and with patient {row.patient!r}",
                allowed="one patient beside them, or none",
                cure="fill the column 'patient' of these rows",
            )
    return known


def _studies(rows: Sequence[SeriesRow]) -> list[str]:
    return [f"study {row.study_uid}" if row.study_uid else "" for row in rows]


def _folders(rows: Sequence[SeriesRow]) -> list[str]:
    """The first folder below what all originals share; a simulated series belongs to its original's."""
    originals = [row for row in rows if not row.simulated_from]
    if not originals:
        return ["" for _ in rows]
    root = os.path.commonpath([_absolute(row).parent for row in originals])
    _check_level(originals, root)
    below = {row.series_uid: _first_below(row, root) for row in originals if row.series_uid}
    return [below.get(row.simulated_from, "") if row.simulated_from else _first_below(row, root) for row in rows]


def _check_level(originals: Sequence[SeriesRow], root: str) -> None:
    """Refuse a table whose folders are series, not patients: all of them may be one person's."""
    nameless = Counter(_absolute(row) for row in originals if not row.patient)
    if len(nameless) > 1 and all(str(path.parent) == root for path in nameless):
        raise DatalistRefusal(
            f"the {len(nameless)} folders without a patient lie directly in {root}, which may be one person's",
            allowed="folders of patients with folders of series in them: ARCHIVE/PATIENT/SERIES",
            cure="scan the folder above, fill the column 'patient', or say --patient-from study",
        )


def _first_below(row: SeriesRow, root: str) -> str:
    return f"folder {_absolute(row).relative_to(root).parts[0]}"


def _absolute(row: SeriesRow) -> PurePath:
    return PurePath(os.path.abspath(row.path))
