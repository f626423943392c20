"""The table of an archive: one row per CT series. ``scan`` writes it, ``dose`` adds rows, ``split`` reads it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from iscl_monai.durable import whole_file
from iscl_monai.errors import DatalistRefusal
from iscl_monai.extras import check_extra

FIT = "fit"
MOST = 100_000
"""Slices of a series, and pixels of an edge: more are a slip."""


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """What is known about one CT series. ``None`` or ``""``: the files do not say.

    Nothing here names a person: ``patient`` is a pseudonym unless the user asked for the Patient ID.

    Attributes:
        path: folder that holds the series' files (their deepest common folder), absolute.
        series_uid: SeriesInstanceUID, ``""`` when it was blanked (then one folder is one series).
        study_uid: StudyInstanceUID.
        patient: the same text for the same person throughout the table; ``""`` when PatientID is absent.
        verdict: ``fit`` for training, else the reason why not, in words.
        geometry: ``even``, ``tilted`` (even, sheared), ``uneven`` or ``gap``, ``duplicates``, ``single slice``,
            ``not axial``, or ``unknown`` when positions are absent.
        tilt_deg: angle between the slice normal and the line of the slices' positions.
        slices: number of slices.
        rows: of a slice.
        columns: of a slice.
        pixel_spacing_mm: distance of pixels (between rows).
        slice_step_mm: usual distance of slices.
        slice_thickness_mm: SliceThickness.
        field_of_view_mm: columns times their distance.
        z_lowest_mm: position of the lowest slice along the slice normal, as in ``z_range_mm`` of a datalist.
        z_highest_mm: likewise of the highest.
        manufacturer: Manufacturer.
        model: ManufacturerModelName.
        kernel: ConvolutionKernel, several values joined by a backslash.
        reconstruction: iterative or learned reconstruction that the headers name, with its strength
            (:mod:`iscl_monai.dicom.reconstruction`), several joined by `` / ``; ``""`` when they name none.
        kvp: KVP.
        mas: XRayTubeCurrent times ExposureTime in mAs, else Exposure; mean over slices.
        ctdi_vol_mgy: CTDIvol; mean over slices.
        body_part: BodyPartExamined in capitals, or as found in descriptions (``chest`` -> ``CHEST``).
        contrast: True when ContrastBolusAgent says so.
        dose_class: ``full``, ``low`` or ``unknown``, by what the headers say about this series.
        dose_fraction: dose over that of ``simulated_from``; 1 for an original.
        simulated_from: SeriesInstanceUID of the original, ``""`` for an original.
        average: how many original slices each slice is the mean of.
        noise_hu: :func:`iscl_monai.quality.noise.noise_sigma_hu` of a few slices.
        noise_peak_per_mm: spatial frequency at which the noise power spectrum is highest.
    """

    path: str
    series_uid: str
    study_uid: str
    patient: str
    verdict: str
    geometry: str = "unknown"
    tilt_deg: float | None = None
    slices: int = 0
    rows: int = 0
    columns: int = 0
    pixel_spacing_mm: float | None = None
    slice_step_mm: float | None = None
    slice_thickness_mm: float | None = None
    field_of_view_mm: float | None = None
    z_lowest_mm: float | None = None
    z_highest_mm: float | None = None
    manufacturer: str = ""
    model: str = ""
    kernel: str = ""
    reconstruction: str = ""
    kvp: float | None = None
    mas: float | None = None
    ctdi_vol_mgy: float | None = None
    body_part: str = ""
    contrast: bool = False
    dose_class: str = "unknown"
    dose_fraction: float = 1.0
    simulated_from: str = ""
    average: int = 1
    noise_hu: float | None = None
    noise_peak_per_mm: float | None = None

    @property
    def fit(self) -> bool:
        """Whether the series may be trained on."""
        return self.verdict == FIT


def write_table(rows: list[SeriesRow], stem: Path) -> tuple[Path, Path]:
    """Write ``stem.parquet`` and ``stem.csv``, each whole or not at all; earlier ones are replaced.

    Args:
        rows: one per series.
        stem: path without suffix.

    Returns:
        Both paths, parquet first.
    """
    frame = _pandas().DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(SeriesRow)])
    parquet, csv = stem.with_name(f"{stem.name}.parquet"), stem.with_name(f"{stem.name}.csv")
    with whole_file(parquet) as file:
        frame.to_parquet(file, index=False)
    with whole_file(csv) as file:
        frame.to_csv(file, index=False)
    return parquet, csv


def read_table(path: Path) -> list[SeriesRow]:
    """Read a table that :func:`write_table` wrote, or a CSV of a user's own with the same column names.

    Args:
        path: ``.parquet`` or ``.csv``; or the folder that holds ``series.parquet``.

    Returns:
        The rows; columns that are absent take their defaults.

    Raises:
        DatalistRefusal: when there is no such file, a needed column is absent, a column is unknown, or a value has
            another type or is impossible.
    """
    path = Path(os.path.abspath(path))
    path = path / "series.parquet" if path.is_dir() else path
    pandas = _pandas()
    try:
        if path.suffix == ".csv":
            # As text: a patient called 007 must not become 7, nor one called NA nobody.
            frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
        else:
            frame = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DatalistRefusal(
            f"{path} ({' '.join(str(error).split())[:160]})",
            allowed="a table of series, .parquet or .csv",
            cure="make one: python -m data_prep scan ARCHIVE OUT",
        ) from error
    known = {field.name: field for field in fields(SeriesRow)}
    unknown = sorted(set(frame.columns) - set(known))
    missing = sorted({"path", "patient", "verdict"} - set(frame.columns))
    if unknown or missing:
        raise DatalistRefusal(
            f"{path}: columns {', '.join(unknown) or 'none'} unknown, {', '.join(missing) or 'none'} missing",
            allowed=", ".join(known),
            cure="rename the columns",
        )
    return [_row(path, index, record) for index, record in enumerate(frame.to_dict("records"))]


def _truth(value: object) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


_KINDS: dict[str, Any] = {"str": str, "int": int, "float": float, "float | None": float, "bool": _truth}


def _row(path: Path, index: int, record: dict[str, Any]) -> SeriesRow:
    values: dict[str, Any] = {"series_uid": "", "study_uid": ""}
    pandas = _pandas()
    for field in fields(SeriesRow):
        value = record.get(field.name)
        if value is None or value == "" or pandas.isna(value):
            continue
        try:
            values[field.name] = _KINDS[str(field.type)](value)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise DatalistRefusal(
                f"{path}: row {index + 1}, {field.name}={value!r}", allowed=str(field.type), cure="correct the value"
            ) from None
    values.setdefault("patient", "")
    if not values.get("path") or not values.get("verdict"):
        raise DatalistRefusal(
            f"{path}: row {index + 1} has path={values.get('path')!r}, verdict={values.get('verdict')!r}",
            allowed="both in every row",
            cure="give the folder of the series, and 'fit' or a reason",
        )
    row = SeriesRow(**values)
    _check_possible(path, index, row)
    return row


def _check_possible(path: Path, index: int, row: SeriesRow) -> None:
    """Refuse numbers that no scan has; of series that are not fit only the dose, as headers may say anything."""
    wrong = [] if 0 < row.dose_fraction <= 1 else [("dose_fraction", row.dose_fraction, "more than 0, 1 at most")]
    if row.fit:
        for name in ("slices", "rows", "columns", "average"):
            number = getattr(row, name)
            if not (name == "average") <= number <= MOST:
                wrong.append((name, number, f"{int(name == 'average')} to {MOST}"))
        for field in fields(SeriesRow):
            number = getattr(row, field.name)
            if isinstance(number, float) and not math.isfinite(number):
                wrong.append((field.name, number, "a finite number, or nothing"))
        if row.z_lowest_mm is not None and row.z_highest_mm is not None and row.z_lowest_mm > row.z_highest_mm:
            wrong.append(("z_highest_mm", row.z_highest_mm, f"z_lowest_mm ({row.z_lowest_mm:g}) or more"))
    for name, number, allowed in wrong[:1]:
        raise DatalistRefusal(
            f"{path}: row {index + 1}, {name}={number!r}", allowed=allowed, cure="correct the value, or scan again"
        )


def _pandas() -> Any:
    check_extra("data", "a table of an archive")
    import pandas

    return pandas
