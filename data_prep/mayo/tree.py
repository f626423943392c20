"""The collection on disk: ``<ID>/<study>/1.000000-Full Dose Images-*/`` and ``...Low Dose Images-*/``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.errors import DatalistRefusal

LAYOUT = "<ID>/<study>/1.000000-Full Dose Images-*/ and .../1.000000-Low Dose Images-*/ below the folder"
_IMAGES = re.compile(r"[\d.]+-(Full|Low) Dose Images(-.*)?$", re.IGNORECASE)
_ID = re.compile(r"[LCN]\d{3}")
_NAMED = 12


@dataclass(frozen=True)
class Scans:
    """Both series of one patient."""

    patient: str
    full: Path
    low: Path
    slices: int
    kernel: str


def find_scans(root: Path, patients: Iterable[str]) -> tuple[dict[str, Scans], dict[str, str]]:
    """Look for the scans of some patients.

    Args:
        root: folder with one folder per patient.
        patients: IDs.

    Returns:
        The scans by patient, and per patient without them the reason.

    Raises:
        DatalistRefusal: when the folder is none, or something is there that is not what its name says.
    """
    if not root.is_dir():
        raise DatalistRefusal(f"{root} is no folder", allowed=LAYOUT, cure="give the folder of the collection")
    found: dict[str, Scans] = {}
    missing: dict[str, str] = {}
    for patient in sorted(patients):
        scans = _scans(root / patient, patient)
        if isinstance(scans, Scans):
            found[patient] = scans
        else:
            missing[patient] = scans
    return found, missing


def check_complete(root: Path, found: dict[str, Scans], missing: dict[str, str], *, allow_missing: bool) -> None:
    """Refuse a collection with gaps, unless the user knows of them.

    Raises:
        DatalistRefusal: naming the patients and what they lack.
    """
    if not missing or (allow_missing and found):
        return
    named = [f"{patient}: {reason}" for patient, reason in missing.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    raise DatalistRefusal(
        f"{root} lacks {len(missing)} of {len(found) + len(missing)} patients ({'; '.join(named[:_NAMED])}{more})",
        allowed=LAYOUT,
        cure="download them" if not found else "download them, or go on without: --allow-missing (no longer the split)",
    )


def _scans(folder: Path, patient: str) -> Scans | str:
    """The scans, or what is missing; what contradicts itself is refused, whatever else is allowed to lack."""
    if not folder.is_dir():
        return "no folder"
    series: dict[str, list[Path]] = {"full": [], "low": []}
    for path in sorted(folder.glob("*/*/")):
        match = _IMAGES.match(path.name)
        if match:
            series[match.group(1).lower()].append(path)
    for dose, paths in series.items():
        if not paths:
            return f"no {dose.title()} Dose Images"
        if len(paths) > 1:
            raise _contradiction(paths[0], f"is one of {len(paths)} folders of {dose.title()} Dose Images", "one")
    return _pair(patient, series["full"][0], series["low"][0])


def _pair(patient: str, full_folder: Path, low_folder: Path) -> Scans | str:
    if os.path.realpath(full_folder) == os.path.realpath(low_folder):
        raise _contradiction(low_folder, "is the folder of Full Dose Images itself", "two folders")
    full, low = _slices(full_folder), _slices(low_folder)
    if not full or not low:
        return "no slices"
    if len(full) != len(low):
        raise _contradiction(low_folder.parent, f"has {len(full)} slices of full and {len(low)} of low dose", "as many")
    one, other = _checked(full, patient), _checked(low, patient)
    if one.series_uid and one.series_uid == other.series_uid:
        raise _contradiction(low[0], f"is of the same series as {full[0]}", "another SeriesInstanceUID for each dose")
    return Scans(patient, full_folder, low_folder, len(full), "\\".join(one.kernel))


def _contradiction(path: Path, found: str, needed: str) -> DatalistRefusal:
    return DatalistRefusal(f"{path} {found}", allowed=needed, cure="download this patient again into an empty folder")


def _slices(folder: Path) -> list[Path]:
    """The files; TCIA's downloaders add hidden ones and licences."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in {"", ".dcm", ".ima"}
    )


def _checked(files: list[Path], patient: str) -> SliceHeader:
    """The header of the first file; that and the last one are of one series of this patient.

    A folder renamed by hand, or two folders thrown together, would carry a test patient into the training.
    """
    first, last = (_header(file) for file in (files[0], files[-1]))
    for header in (first, last):
        if _ID.fullmatch(header.patient_id) and header.patient_id != patient:
            found = f"is of PatientID {header.patient_id!r}, its folder of {patient!r}"
            raise _contradiction(header.path, found, "one patient")
    if (first.series_uid, first.patient_id) != (last.series_uid, last.patient_id):
        raise _contradiction(last.path, f"is of another series or patient than {first.path}", "one series in a folder")
    return first


def _header(file: Path) -> SliceHeader:
    try:
        return read_header(file)
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        found = f"is no DICOM file that can be read ({type(error).__name__})"
        raise _contradiction(file, found, "DICOM files alone") from error
