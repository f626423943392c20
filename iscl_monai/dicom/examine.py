"""What one file is: an image that may belong to a CT series, or why it is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from iscl_monai.dicom.geometry import slice_normal
from iscl_monai.dicom.headers import CT_IMAGE_STORAGE, MULTIFRAME_CT, SliceHeader, read_header
from iscl_monai.dicom.other_files import kind_of_other_file

LOCALIZER = "localizer (scout)"
NOT_DICOM = "not a DICOM file"
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
ReadHeader = Callable[[Path], SliceHeader]


@dataclass(frozen=True)
class Skipped:
    """One file that is not part of any candidate series.

    Attributes:
        path: the file.
        reason: why, in words.
        series_uid: its SeriesInstanceUID, ``""`` when it has none.
        damaged: the file cannot be opened, claims to be DICOM with a broken header, or lies where a slice should lie:
            maybe a lost slice.
        kind: of a file that is no DICOM, what it plainly is (see :mod:`iscl_monai.dicom.other_files`).
        contradictory: it calls itself a CT image and something else, or nothing known: maybe a slice.
    """

    path: Path
    reason: str
    series_uid: str = ""
    damaged: bool = False
    kind: str = ""
    contradictory: bool = False


def examine(path: Path, read: ReadHeader = read_header, *, series_uid: str | None = None) -> SliceHeader | Skipped:
    """What one file is: a slice or multi-frame image that may belong to a CT series, or why it is none.

    Args:
        path: whatever lies there.
        read: how to read a header, for who wants more of the file than is in it; raises as :func:`read_header`.
        series_uid: SeriesInstanceUID that somebody asks for; reformations of this one may belong to a series.
    """
    if path.exists() and not path.is_file():
        return Skipped(path, "not a regular file")  # a pipe would wait for ever
    try:
        header = read(path)
    except InvalidDicomError:
        return _not_dicom(path)
    except OSError as error:
        return Skipped(path, f"cannot be opened ({error.strerror or error})", damaged=True)
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        if not _claims_dicom(path):
            return _not_dicom(path)
        return Skipped(path, f"damaged header ({type(error).__name__})", damaged=True)
    if _ends_early(header):
        return Skipped(path, "damaged header (it ends early)", header.series_uid, damaged=True)
    if header.sop_class and not re.fullmatch(r"[0-9.]{1,64}", header.sop_class):
        return Skipped(path, "damaged header (its SOP Class is no UID)", damaged=True)  # nor need other UIDs be its own
    reason = reason_to_skip(header, named=header.series_uid == series_uid)
    if reason:
        return Skipped(path, reason, header.series_uid, contradictory=_contradicts_itself(header))
    return header


def reason_to_skip(header: SliceHeader, *, named: bool = False) -> str:
    """Why a readable DICOM file is no slice of an axial CT series; ``""`` when it may be one.

    Args:
        header: of the file.
        named: somebody asked for its series by UID; then a reformation may be one, too.
    """
    if header.sop_class == MEDIA_STORAGE_DIRECTORY:
        return "DICOMDIR, an index of other files"
    if header.modality not in ("CT", "") or (not header.modality and header.sop_class != CT_IMAGE_STORAGE):
        return f"Modality {header.modality or 'absent'} ({header.sop_class_name}), not CT"
    if header.sop_class in MULTIFRAME_CT:
        return LOCALIZER if header.flavour == "LOCALIZER" else ""
    if header.frames > 1:
        return f"multi-frame {header.sop_class_name}, not Enhanced CT"
    if header.sop_class not in (CT_IMAGE_STORAGE, ""):
        return f"{header.sop_class_name}, not CT Image Storage"
    if header.flavour == "LOCALIZER":
        return LOCALIZER
    if header.flavour not in ("AXIAL", "") and header.image_type[:1] == ("DERIVED",) and not named:
        return f"ImageType value 3 is {header.flavour}, not AXIAL"
    return ""


def _contradicts_itself(header: SliceHeader) -> bool:
    """Whether a file that is no slice may be one with a damaged element: it says CT image too, or nothing known."""
    if header.sop_class == CT_IMAGE_STORAGE and header.modality in ("CT", ""):
        return header.frames > 1 or (header.flavour == "LOCALIZER" and _is_transversal(header))
    if not header.series_uid and not header.modality:
        return header.sop_class != MEDIA_STORAGE_DIRECTORY  # every object but an index has both
    known = UID(header.sop_class).type == "SOP Class"
    return not known or CT_IMAGE_STORAGE in (header.sop_class, header.media_sop_class)


def _is_transversal(header: SliceHeader) -> bool:
    """Whether it cuts across the patient, tilted by less than 45 degrees: a scout shows him from a side."""
    if header.orientation is None:
        return False
    return bool(abs(slice_normal(header.orientation)[2]) > np.cos(np.pi / 4))


def _not_dicom(path: Path) -> Skipped:
    try:
        return Skipped(path, NOT_DICOM, kind=kind_of_other_file(path))
    except OSError as error:
        return Skipped(path, f"cannot be opened ({error.strerror or error})", damaged=True)


def _ends_early(header: SliceHeader) -> bool:
    """A file cut short can parse: pydicom returns what is left, even half a value.

    Such a slice would be skipped as something else, and be missing at the end of the scan unnoticed.
    """
    if header.sop_class == CT_IMAGE_STORAGE or header.sop_class in MULTIFRAME_CT:
        return header.rows is None  # Rows follow whatever decides about skipping
    return not header.modality and UID(header.sop_class).name == header.sop_class


def _claims_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
