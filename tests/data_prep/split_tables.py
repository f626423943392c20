"""Tables of made-up archives, and the folders they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.table import SeriesRow


def original(patient: str, *, name: str = "", slices: int = 60, step_mm: float = 3.0, **others: Any) -> SeriesRow:
    """A full-dose scan."""
    name = name or patient
    values: dict[str, Any] = {
        "path": f"/archive/{patient}/{name}",
        "series_uid": f"1.{name}",
        "study_uid": f"2.{name}",
        "patient": patient,
        "verdict": "fit",
        "geometry": "even",
        "slices": slices,
        "rows": 512,
        "columns": 512,
        "slice_step_mm": step_mm,
        "slice_thickness_mm": step_mm,
        "z_lowest_mm": -100.0,
        "z_highest_mm": -100.0 + (slices - 1) * step_mm,
        "manufacturer": "Maker",
        "model": "One",
        "kernel": "B30f",
        "body_part": "CHEST",
        "dose_class": "full",
        "noise_hu": 12.0,
    }
    return SeriesRow(**{**values, **others})


def simulated(row: SeriesRow, *, average: int = 1, fraction: float = 0.25) -> SeriesRow:
    """What dose makes of a scan; with ``fraction=1`` the clean average."""
    slices = row.slices // average
    step_mm = row.slice_step_mm or 1.0
    lowest = (row.z_lowest_mm or 0.0) + (average - 1) / 2 * step_mm
    suffix = f"{average}.{round(100 * fraction)}"
    return replace(
        row,
        path=f"/low/{row.series_uid}.{suffix}",
        series_uid=f"{row.series_uid}.{suffix}",
        simulated_from=row.series_uid,
        average=average,
        slices=slices,
        slice_step_mm=average * step_mm,
        slice_thickness_mm=average * step_mm,
        z_lowest_mm=lowest,
        z_highest_mm=lowest + (slices - 1) * average * step_mm,
        dose_fraction=fraction,
        dose_class="low" if fraction < 1 else "full",
        noise_hu=12.0 / fraction**0.5,
    )


def archive(patients: int, **others: Any) -> list[SeriesRow]:
    """Full-dose scans of so many patients, and one simulated of each."""
    scans = [original(f"p{number:02d}", **others) for number in range(patients)]
    return [*scans, *(simulated(scan) for scan in scans)]


def below(folder: Path, rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    """The same rows with folders that exist."""
    moved = [replace(row, path=str(folder / row.path.lstrip("/"))) for row in rows]
    for row in moved:
        Path(row.path).mkdir(parents=True, exist_ok=True)
    return moved
