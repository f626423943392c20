"""Classic MR Image Storage: one series of single-frame magnitude images as a volume, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from pydicom.errors import InvalidDicomError

from iscl_monai.dicom import geometry as places
from iscl_monai.dicom import rules
from iscl_monai.dicom.elements import text_of
from iscl_monai.dicom.examine import NOT_DICOM, Skipped
from iscl_monai.dicom.find import lost_slices, reasons_of, walk_files
from iscl_monai.dicom.headers import SliceHeader, read_header_and
from iscl_monai.dicom.other_files import kind_of_other_file
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.errors import DicomRefusal

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
MULTIFRAME_MR = tuple(f"{MR_IMAGE_STORAGE}.{part}" for part in (1, 2, 3, 4))
"""Enhanced MR, MR Spectroscopy, Enhanced MR Color, Legacy Converted Enhanced MR."""

OTHER_COMPONENTS = frozenset(("P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY", "MIXED"))
"""In ImageType (PS3.3 C.8.3.1.1.1 and vendors) or ComplexImageComponent (C.8.13.3.1.1); magnitude is M, MAGNITUDE."""

COMPUTED = frozenset(
    (
        *("ADC", "FA", "DENSITY MAP", "DIFFUSION MAP", "T1 MAP", "T2 MAP", "VELOCITY MAP"),
        *("MODULUS SUBTRACT", "PHASE SUBTRACT", "PROJECTION IMAGE", "MIP"),
    )
)
"""In ImageType (PS3.3 C.8.3.1.1.1 and vendors): maps, differences, projections; their noise is none of a magnitude."""

Volume = tuple[npt.NDArray[np.float32], places.Floats, tuple[float, ...]]


def read_mr_series(path: Path, series_uid: str | None = None) -> Volume:
    """Values (row, column, slice), affine (RAS mm) and positions in mm of one series.

    Each slice is rescaled by its own slope and intercept, where it has them.

    Args:
        path: a DICOM file, or a folder with one series; other files than MR are left aside.
        series_uid: which series, when the folder holds several.

    Raises:
        DicomRefusal: no series or several, multi-frame, colour, phase, a damaged file, or slices that are no volume.
    """
    ordered, positions_mm = mr_slices(path, series_uid)
    values = np.empty((ordered[0].rows or 0, ordered[0].columns or 0, len(ordered)), np.float32)
    with without_warnings():
        for index, header in enumerate(ordered):
            values[..., index] = load_slice(header)[0].hu()  # stored * slope + intercept, whatever that is
    spacing_mm = places.usual_gap(positions_mm) if len(ordered) > 1 else ordered[0].slice_thickness
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return values, lps_to_ras @ places.affine_lps(ordered, positions_mm, spacing_mm), tuple(positions_mm.tolist())


def mr_slices(path: Path, series_uid: str | None = None) -> tuple[list[SliceHeader], places.Floats]:
    """Checked headers of one series in slice order, and their positions in mm.

    Args:
        path: as of :func:`read_mr_series`.
        series_uid: likewise.

    Raises:
        DicomRefusal: see :func:`read_mr_series`.
    """
    headers = _select(path, _mr_headers(path), series_uid)
    for header in headers:
        _check_pixels(header)
        rules.check_place(header)
        rules.check_stored(header)
    rules.check_together(headers)
    ordered, positions_mm = places.sort_slices(headers)
    places.check_no_duplicates(ordered, positions_mm)
    places.check_even(ordered, positions_mm)
    return ordered, positions_mm


def _mr_headers(path: Path) -> list[SliceHeader]:
    """Headers of all classic MR images below a path."""
    if not path.exists():
        _refuse(path, "path", "absent", "a DICOM file or folder", "check the spelling of the path")
    found: list[SliceHeader] = []
    skipped: list[Skipped] = []
    for file in walk_files(path, skipped):
        try:
            header, dataset = read_header_and(file, ("ComplexImageComponent",))
        except InvalidDicomError:
            skipped.append(Skipped(file, NOT_DICOM, kind=kind_of_other_file(file)))
            continue
        except Exception as error:  # a damaged header makes pydicom raise nearly anything
            _refuse(file, "header", f"damaged ({type(error).__name__})", "a whole file", "copy it again, or remove it")
        if header.sop_class in MULTIFRAME_MR:
            cure = "export the series as classic single-frame MR Image Storage"
            _refuse(file, "SOPClassUID", header.sop_class_name, "MR Image Storage", cure)
        if header.sop_class == MR_IMAGE_STORAGE:
            _check_component(header, text_of(dataset, "ComplexImageComponent"))
            found.append(header)
        else:
            skipped.append(Skipped(file, f"{header.sop_class_name}, not MR"))
    for lost in lost_slices(skipped, [header.path for header in found]):
        if lost.damaged:
            _refuse(lost.path, "file", lost.reason, "whole slices", "copy it again, or move it out of the folder")
    if not found:
        _refuse(
            path,
            "SeriesInstanceUID",
            f"of no MR series (skipped: {reasons_of(skipped)})",
            "classic MR Image Storage, or NIfTI",
            "give the folder of an MR series, or a name that ends with .nii or .nii.gz",
        )
    return found


def _check_component(header: SliceHeader, component: str) -> None:
    if COMPUTED.intersection(word.upper() for word in header.image_type):
        _refuse(
            header.path,
            "ImageType",
            "\\".join(header.image_type),
            "magnitude as it was measured, no map, difference or projection",
            "give the images that it was computed from",
        )
    for tag, words in (("ImageType", header.image_type), ("ComplexImageComponent", (component,))):
        others = [word for word in words if word.upper() in OTHER_COMPONENTS]
        if others:
            _refuse(
                header.path,
                tag,
                "\\".join(words),
                "magnitude (M, MAGNITUDE)",
                "take phase, real and imaginary images out of the folder",
            )


def _select(path: Path, headers: Sequence[SliceHeader], series_uid: str | None) -> list[SliceHeader]:
    series: dict[str, list[SliceHeader]] = {}
    for header in headers:
        series.setdefault(header.series_uid, []).append(header)
    if series_uid is None and len(series) == 1:
        return next(iter(series.values()))
    if series_uid in series:
        return series[series_uid]
    titles = "; ".join(f"{uid} ({ones[0].description}, {len(ones)} files)" for uid, ones in series.items())
    _refuse(
        path,
        "SeriesInstanceUID",
        f"{series_uid or 'not chosen'} among {len(series)}: {titles}",
        "one series of MR Image Storage",
        "give the folder of one series, or series_uid",
    )


def _check_pixels(header: SliceHeader) -> None:
    if header.samples != 1 or header.photometric != "MONOCHROME2" or header.frames != 1:
        found = f"{header.photometric or 'absent'}, {header.samples} samples per pixel, {header.frames} frames"
        _refuse(
            header.path,
            "PhotometricInterpretation",
            found,
            "MONOCHROME2, 1 sample, 1 frame",
            "give the original MR images, not a colour map of them",
        )
    if not header.rows or not header.columns:
        _refuse(header.path, "Rows", "absent", "a positive number", rules.EXPORT_AGAIN)


def _refuse(path: Path, tag: str, found: str, needed: str, cure: str) -> NoReturn:
    raise DicomRefusal(path, tag=tag, found=found, needed=needed, cure=cure)
