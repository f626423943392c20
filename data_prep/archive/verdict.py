"""One series, from its headers to one row of the table: where its slices lie, and whether it is fit for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_prep.archive.facts import LOW, Facts, dose_in_folders
from data_prep.archive.record import FileRecord
from data_prep.table import FIT, SeriesRow
from iscl_monai.dicom import geometry, rules
from iscl_monai.dicom.copies import check_same_image
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.errors import DicomRefusal

TILTED_DEG = 1.0
LOW_CHEST_MGY = 3.0
"""CTDIvol below which a chest CT is a low-dose one: the limit for lung screening of a standard patient (ACR-STR
practice parameter, CMS decision memo CAG-00439N)."""
CHEST = frozenset(("CHEST", "LUNG", "THORAX"))
SINGLE = "single slice"
UNPROVEN = "RescaleType absent in a derived image: maybe not HU"
"""The verdict on such a series until its values have proved that they are HU."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the slices of a series lie; see :class:`data_prep.table.SeriesRow` for the words."""

    geometry: str = "unknown"
    problem: str = ""
    tilt_deg: float | None = None
    step_mm: float | None = None
    z_mm: tuple[float, float] | None = None
    order: tuple[int, ...] = ()


def place_of(headers: Sequence[SliceHeader]) -> Place:
    """Where slices lie, as :func:`iscl_monai.dicom.series.read_series` judges it; ``unknown`` when they do not tell."""
    if any(header.position is None or not _directions(header.orientation) for header in headers):
        return Place()
    orientations = np.array([header.orientation for header in headers])
    if np.abs(orientations - orientations[0]).max() > rules.DIRECTION_TOLERANCE:
        return Place(problem="slices of different orientations")
    normal = geometry.slice_normal(orientations[0])
    places = np.array([header.position for header in headers])
    order = np.argsort(places @ normal, kind="stable")
    ordered, positions = [headers[index] for index in order], (places @ normal)[order]
    word, problem = _word(ordered, positions, normal)
    tilt, step = _tilt_deg(places[order], normal), geometry.usual_gap(positions) if len(positions) > 1 else None
    if word == "even" and tilt is not None and tilt >= TILTED_DEG:
        word = "tilted"
    ends = (float(positions[0]), float(positions[-1]))
    return Place(word, problem, tilt, _rounded(step), ends, tuple(map(int, order)))


def _directions(orientation: tuple[float, ...] | None) -> bool:
    if orientation is None:
        return False
    axes = np.reshape(orientation, (2, 3))
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() <= rules.DIRECTION_TOLERANCE)


def _word(headers: Sequence[SliceHeader], positions_mm: geometry.Floats, normal: geometry.Floats) -> tuple[str, str]:
    across = int(np.abs(normal).argmax())
    if across != 2:
        return "not axial", f"not axial ({('sagittal', 'coronal')[across]})"
    gaps = np.diff(positions_mm)
    copies = int((gaps < geometry.SAME_PLACE_MM).sum())
    if copies:
        again = len(headers) - len({header.sop_instance_uid for header in headers})
        kind = f"{again} with the UID of another" if again else "other images"
        return "duplicates", f"duplicates: {_counted(copies)} at the place of another ({kind})"
    if len(headers) == 1:
        return SINGLE, ""
    try:
        geometry.check_even(headers, positions_mm)
    except DicomRefusal:
        return _uneven(positions_mm, gaps)
    return "even", ""


def _uneven(positions_mm: geometry.Floats, gaps: geometry.Floats) -> tuple[str, str]:
    if geometry.uneven_gap(positions_mm) is None:
        return "uneven", "uneven: slices shifted sideways"
    times = gaps / geometry.usual_gap(positions_mm)
    if np.abs(times - times.round()).max() < geometry.GAP_TOLERANCE:
        return "gap", f"gap: {_counted(int((times.round() - 1).sum()))} missing"
    return "uneven", f"uneven: slices {gaps.min():.3g} to {gaps.max():.3g} mm apart"


def _tilt_deg(places: geometry.Floats, normal: geometry.Floats) -> float | None:
    line = places[-1] - places[0]
    length = np.linalg.norm(line)
    if length < geometry.SAME_PLACE_MM:
        return None
    # By the sine: the cosine of a small angle has lost its digits.
    return round(float(np.degrees(np.arctan2(np.linalg.norm(np.cross(line, normal)), abs(line @ normal)))), 3)


def copies_of(records: Sequence[FileRecord]) -> dict[int, int]:
    """Which files of a series hold an image that is there already: their indices, and those of the first ones.

    Others that have the UID and place of another image are none, and are judged.
    """
    first: dict[tuple[object, ...], int] = {}
    copies = {}
    for index, record in enumerate(records):
        header = record.header
        if header and header.sop_instance_uid:
            original = first.setdefault((header.sop_instance_uid, header.position), index)
            if original != index and _is_same_image(records[original].path, record.path):
                copies[index] = original
    return copies


def _is_same_image(one: Path, other: Path) -> bool:
    try:
        check_same_image(read_header(one), read_header(other))
    except Exception:  # what cannot be compared is not the same; whatever is wrong with it is found again
        return False
    return True


def row_of(
    records: Sequence[FileRecord], archive: Path, maybe_lost: Callable[[Path, str], int]
) -> tuple[SeriesRow, Place]:
    """The row of one series, without what its pixels tell.

    Args:
        records: of its files, each image once (:func:`copies_of`).
        archive: below which folder names may tell the dose.
        maybe_lost: how many files may be lost slices of the series with this folder and SeriesInstanceUID.
    """
    headers = [record.header for record in records if record.header]
    facts = [record.facts for record in records if record.facts]
    folder = Path(os.path.commonpath([record.path.parent for record in records]))
    multiframe = headers[0].sop_class in MULTIFRAME_CT
    place = Place() if multiframe else place_of(headers)
    first, spacing = headers[0], _common([header.pixel_spacing for header in headers])
    return SeriesRow(
        path=os.fsencode(folder).decode("utf-8", "backslashreplace"),
        series_uid=first.series_uid,
        study_uid=_common([header.study_uid for header in headers]) or "",
        patient=_common([header.patient_id for header in headers]) or "",
        verdict=_verdict(headers, facts, place, folder, maybe_lost),
        geometry=place.geometry,
        tilt_deg=place.tilt_deg,
        slices=sum(header.frames for header in headers) if multiframe else len(headers),
        rows=first.rows or 0,
        columns=first.columns or 0,
        pixel_spacing_mm=spacing[0] if spacing else None,
        slice_step_mm=place.step_mm,
        slice_thickness_mm=_rounded(_common([header.slice_thickness for header in headers])),
        field_of_view_mm=_rounded(spacing[1] * (first.columns or 0)) if spacing else None,
        z_lowest_mm=place.z_mm[0] if place.z_mm else None,  # not rounded: a range from here must hold the end slices
        z_highest_mm=place.z_mm[1] if place.z_mm else None,
        **_how_taken(headers, facts, folder, archive),
    ), place


def _how_taken(headers: Sequence[SliceHeader], facts: Sequence[Facts], folder: Path, archive: Path) -> dict[str, Any]:
    """The columns about scanner, dose and patient's part."""
    body_part, ctdi_mgy = facts[0].body_part, _mean([fact.ctdi_vol_mgy for fact in facts])
    return {
        "manufacturer": headers[0].manufacturer,
        "model": headers[0].model,
        "kernel": "\\".join(_common([header.kernel for header in headers]) or ()),
        "kvp": _common([header.kvp for header in headers]),
        "mas": _mean([fact.mas for fact in facts]),
        "ctdi_vol_mgy": ctdi_mgy,
        "body_part": body_part,
        "contrast": any(fact.contrast for fact in facts),
        "dose_class": dose_class(facts, folder, archive, body_part, ctdi_mgy),
        "dose_fraction": facts[0].dose_fraction,
        "average": facts[0].average,
    }


def _verdict(
    headers: Sequence[SliceHeader],
    facts: Sequence[Facts],
    place: Place,
    folder: Path,
    maybe_lost: Callable[[Path, str], int],
) -> str:
    """``fit``, or the first reason why not."""
    if headers[0].sop_class in MULTIFRAME_CT:
        return "multi-frame (Enhanced) CT: not supported for training"
    if any(fact.denoised for fact in facts):
        return "denoised by iscl-monai already"
    try:
        for header in headers:
            rules.check_slice(header)
    except DicomRefusal as refusal:
        return in_words(refusal)
    if place.problem and place.geometry == "unknown":
        return place.problem
    try:
        rules.check_together(headers)
    except DicomRefusal as refusal:
        return f"{refusal.tag} differs within the series"
    if place.problem:
        return place.problem
    if lost := maybe_lost(folder, headers[0].series_uid):
        return f"damaged files beside it ({lost}): maybe lost slices"
    try:
        os.fsencode(folder).decode()
    except UnicodeDecodeError:
        return "its folder's name is not UTF-8: rename it"
    return FIT if all(map(rules.units_are_said, headers)) else UNPROVEN


_WORDS = {
    "RescaleSlope": "RescaleSlope absent or impossible",
    "BitsStored": "pixels beyond BitsStored",
    "PixelData": "pixels cannot be decoded",
    "SamplesPerPixel": "colour or no pixels (SamplesPerPixel is not 1)",
    "PhotometricInterpretation": "PhotometricInterpretation is not MONOCHROME2",
    "file": "changed while it was scanned",
    "an element": "malformed elements",
}


def in_words(refusal: DicomRefusal) -> str:
    """A refusal of one file, short, without its path and without what it quotes: that may be about a patient."""
    if refusal.tag == "RescaleType":
        absent = str(refusal.found).startswith("absent")
        return "RescaleType absent in a derived image: maybe not HU" if absent else "RescaleType is not HU"
    return _WORDS.get(refusal.tag, f"{refusal.tag} absent or malformed")


def dose_class(facts: Sequence[Facts], folder: Path, archive: Path, body_part: str, ctdi_mgy: float | None) -> str:
    """``low`` or ``full`` only where something says so, else ``unknown``.

    First that counts: ImageType or the descriptions; names of folders inside the archive; CTDIvol of a chest.
    """
    doses = {fact.dose for fact in facts} - {""}
    below = folder.relative_to(archive).parts if folder.is_relative_to(archive) else (folder.name,)
    doses = doses or {dose_in_folders(below)} - {""}
    if len(doses) == 1:
        return doses.pop()
    if not doses and body_part in CHEST and ctdi_mgy is not None and ctdi_mgy <= LOW_CHEST_MGY:
        return LOW
    return "unknown"


def _common(values: Sequence[Value | None]) -> Value | None:
    """The value that all have, or None."""
    return values[0] if len(set(values)) == 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(sum(known) / len(known)) if known else None


def _rounded(value: float | None) -> float | None:
    """Without the digits that float32 positions and means of text leave."""
    return None if value is None else round(value, 4)


def _counted(count: int) -> str:
    return f"{count} slice" if count == 1 else f"{count} slices"
