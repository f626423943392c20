"""The collection on disk: ``<ID>/<study>/1.000000-Full Dose Images-*/`` and ``...Low Dose Images-*/``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.dicom.headers import read_header
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
    full, low = _slices(series["full"][0]), _slices(series["low"][0])
    if not full or not low:
        return "no slices"
    if len(full) != len(low):
        raise _contradiction(folder, f"has {len(full)} slices of full and {len(low)} of low dose", "as many")
    kernels = [_checked_kernel(file, patient) for file in (full[0], low[0])]
    return Scans(patient, series["full"][0], series["low"][0], len(full), kernels[0])


def _contradiction(path: Path, found: str, needed: str) -> DatalistRefusal:
    return DatalistRefusal(f"{path} {found}", allowed=needed, cure="download this patient again into an empty folder")


def _slices(folder: Path) -> list[Path]:
    """The files; TCIA's downloaders add hidden ones and licences."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in {"", ".dcm", ".ima"}
    )


def _checked_kernel(file: Path, patient: str) -> str:
    """The kernel of a file of this patient: a folder renamed by hand would carry a test patient into the training."""
    header = read_header(file)
    if _ID.fullmatch(header.patient_id) and header.patient_id != patient:
        raise _contradiction(file, f"is of PatientID {header.patient_id!r}, its folder of {patient!r}", "one patient")
    return "\\".join(header.kernel)
