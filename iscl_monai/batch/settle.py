"""What becomes of a series that has just been planned, by what the ledger and the disk know of it."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.batch.ledger import DONE, REFUSED, RUNNING, WAITING, Entry
from iscl_monai.batch.planning import PlannedSeries

FOUND_WHOLE = "found whole after its worker or the run had ended"


def settled(planned: PlannedSeries, entry: Entry | None, *, results: Path, wanted: bool) -> tuple[str, str] | None:
    """State and reason of a series.

    Args:
        planned: as it is now.
        entry: as the ledger has it; None: it is new.
        results: the folder of denoised series.
        wanted: whether a table asks for it by name.

    Returns:
        None: nobody wants it.
    """
    if planned.skipped:
        return (REFUSED, f"{name_for_people(planned)}: {planned.skipped}") if wanted else None
    if planned.refusal:
        return REFUSED, planned.refusal
    if entry is None:
        return WAITING, ""
    if entry.digest and (results / entry.result).is_dir():
        if planned.fingerprint == entry.fingerprint or planned.digest == entry.digest:
            return DONE, ""
        return REFUSED, _changed(planned, results / entry.result)
    unchanged = planned.fingerprint == entry.fingerprint
    if unchanged and entry.state == REFUSED:
        return REFUSED, entry.reason
    if unchanged and entry.state == RUNNING and is_whole(planned, results):
        return RUNNING, FOUND_WHOLE  # until its digest is in the ledger, too
    return WAITING, entry.reason if unchanged else ""


def is_whole(planned: PlannedSeries, results: Path) -> bool:
    """Whether the folder of a series that was begun is there: it gets its name at the end, when it is whole."""
    return (results / planned.result).is_dir()


def name_for_people(planned: PlannedSeries) -> str:
    """Its UID, or where it lies."""
    return planned.series_uid or str(planned.folder)


def _changed(planned: PlannedSeries, result: Path) -> str:
    return (
        f"{planned.folder}: the files of series {name_for_people(planned)} are others than those that were denoised;"
        f" allowed: the same files; do: remove {result} and give the same command again, it is then denoised anew"
    )
