"""What the headers of a CT series must say before its pixels may be called Hounsfield units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from pydicom.uid import UID

from iscl_monai.dicom.headers import CT_IMAGE_STORAGE, MULTIFRAME_CT, SliceHeader
from iscl_monai.dicom.syntaxes import readable_syntaxes
from iscl_monai.errors import DicomRefusal

DIRECTION_TOLERANCE = 1e-3
"""How far direction cosines may be from unit length, from orthogonal, and from those of another slice."""

SLOPES = (1e-4, 1e3)
"""HU per stored unit of CT images: 1 nearly always, 0.1 or so for some; beyond, values have lost all meaning."""

EXPORT_AGAIN = "export the series again from the scanner or PACS, with this element"


def check_slice(header: SliceHeader) -> None:
    """Refuse a header that does not describe one slice in Hounsfield units at a known place.

    *RescaleType*: PS3.3 C.8.2.1 defines the output of slope and intercept as HU for an ORIGINAL image other
    than a LOCALIZER without multi-energy acquisition, and scanners commonly leave ``RescaleType`` out there
    (4 of 5 of our real collections do). So an absent ``RescaleType`` is taken as HU in a CT Image Storage object
    whose ``ImageType`` value 1 is ORIGINAL. In another one it is a doubt (:func:`doubts`), which the values must
    settle; any other value (``US``, ``HU_MOD``, ``Houndsfield Unit``) is refused, never interpreted.

    Args:
        header: the header of one file.

    Raises:
        DicomRefusal: naming the first element that is missing or wrong.
    """
    check_image(header)
    check_rescale(header)
    check_place(header)


def check_together(headers: Sequence[SliceHeader]) -> None:
    """Refuse slices that cannot be one volume: each must agree with most others on grid, place and patient.

    *FrameOfReferenceUID* must be one and the same (PS3.3 C.7.4.1). One exception, met in LIDC-IDRI: some
    de-identifiers give every single file a UID of its own. Such UIDs tell nothing about the patient having
    moved, so they are ignored when no two of at least three files share one; see :func:`frame_of_reference`.

    Args:
        headers: all headers of one series, each accepted by :func:`check_slice`.

    Raises:
        DicomRefusal: naming a file that differs from most, the element and both values.
    """
    check_one_patient(headers)
    _same(headers, "Rows", lambda header: header.rows)
    _same(headers, "Columns", lambda header: header.columns)
    _close(headers, "ImageOrientationPatient", lambda header: header.orientation, DIRECTION_TOLERANCE)
    _close(headers, "PixelSpacing", lambda header: header.pixel_spacing, 1e-4)
    if frame_of_reference(headers) is None:
        _same(headers, "FrameOfReferenceUID", lambda header: header.frame_of_reference_uid)


def check_one_patient(headers: Sequence[SliceHeader]) -> None:
    """Refuse images that cannot be one series, whatever their places: of two patients or studies.

    This is all that images must have in common that are worked on one by one.

    Raises:
        DicomRefusal: see :func:`check_together`.
    """
    _same(headers, "Modality", lambda header: header.modality)
    _same(headers, "StudyInstanceUID", lambda header: header.study_uid)
    _same(headers, "PatientID", lambda header: header.patient_id)


def frame_of_reference(headers: Sequence[SliceHeader]) -> str | None:
    """The common FrameOfReferenceUID, ``""`` when there is none worth having, ``None`` when they differ."""
    uids = {header.frame_of_reference_uid for header in headers}
    if len(uids) == 1:
        return next(iter(uids))
    return "" if len(uids) == len(headers) >= 3 else None


def check_image(header: SliceHeader) -> None:
    """Refuse what is no grey-level CT image; see :func:`check_slice`, of which this is the first part."""
    _check_kind(header)
    _check_pixels(header)


def check_stored(header: SliceHeader) -> None:
    """Refuse pixels that are not all there, or that cannot be decoded here: told by the header and the file's length.

    Raises:
        DicomRefusal: a file cut short, or a transfer syntax without a decoder.
    """
    if header.lacking_pixels is not None:
        found, needed = header.lacking_pixels
        raise DicomRefusal(
            header.path, tag="PixelData", found=found, needed=needed, cure="copy the file again from the source"
        )
    if header.transfer_syntax not in readable_syntaxes():
        raise DicomRefusal(
            header.path,
            tag="TransferSyntaxUID",
            found=UID(header.transfer_syntax).name or "absent",
            needed="one that can be decoded here",
            cure="export the series uncompressed (Explicit VR Little Endian)",
        )


def _check_kind(header: SliceHeader) -> None:
    if header.modality != "CT":
        raise DicomRefusal(
            header.path,
            tag="Modality",
            found=header.modality or "absent",
            needed="CT",
            cure="give a CT series",
        )


def _check_pixels(header: SliceHeader) -> None:
    if header.samples != 1:
        raise DicomRefusal(
            header.path,
            tag="SamplesPerPixel",
            found=_shown(header.samples),
            needed="1",
            cure="give the original CT images, not a colour picture of them",
        )
    if header.photometric != "MONOCHROME2":
        raise DicomRefusal(
            header.path,
            tag="PhotometricInterpretation",
            found=header.photometric or "absent",
            needed="MONOCHROME2",
            cure="give the original CT images",
        )
    for tag, value in (("Rows", header.rows), ("Columns", header.columns)):
        if not value or value < 0:
            raise DicomRefusal(header.path, tag=tag, found=_shown(value), needed="a positive number", cure=EXPORT_AGAIN)


def check_rescale(header: SliceHeader) -> None:
    """Refuse stored values that do not become Hounsfield units; see :func:`check_slice`."""
    if header.slope is None or not SLOPES[0] <= abs(header.slope) <= SLOPES[1]:
        raise DicomRefusal(
            header.path,
            tag="RescaleSlope",
            found=_shown(header.slope),
            needed=f"a number of {SLOPES[0]:g} to {SLOPES[1]:g} HU per stored unit",
            cure=EXPORT_AGAIN,
        )
    if header.intercept is None:
        raise DicomRefusal(
            header.path,
            tag="RescaleIntercept",
            found="absent or not a number",
            needed="a number",
            cure=EXPORT_AGAIN,
        )
    if header.rescale_type.upper() == "HU" or _hu_by_definition(header) or _hu_by_values(header):
        return
    kind = "\\".join(header.image_type) or "absent"
    raise DicomRefusal(
        header.path,
        tag="RescaleType",
        found=f"{header.rescale_type or 'absent'} ({header.sop_class_name}, ImageType {kind})",
        needed="HU, or absent in a single-energy CT Image Storage object (PS3.3 C.8.2.1)",
        cure="give the original series; set RescaleType to HU only if its values are known to be HU",
    )


def _hu_by_definition(header: SliceHeader) -> bool:
    original = header.image_type[:1] == ("ORIGINAL",) and header.flavour != "LOCALIZER"
    return not header.rescale_type and header.sop_class == CT_IMAGE_STORAGE and original and not header.multienergy


def _hu_by_values(header: SliceHeader) -> bool:
    """Whether the values themselves can tell: nothing says that they are anything else than HU."""
    return not header.rescale_type and header.sop_class == CT_IMAGE_STORAGE and not header.multienergy


def units_are_said(header: SliceHeader) -> bool:
    """Whether a header, accepted by :func:`check_slice`, says that values are HU; else the values must prove it."""
    return bool(header.rescale_type) or header.sop_class in MULTIFRAME_CT or _hu_by_definition(header)


def doubts(header: SliceHeader) -> tuple[str, ...]:
    """What in a header, accepted by :func:`check_slice`, leaves open whether it is an axial image in HU; in words.

    Whoever reads such an image must have its values prove that they are Hounsfield units
    (:mod:`iscl_monai.dicom.values`).
    """
    if header.sop_class in MULTIFRAME_CT:  # which must say HU, and call themselves VOLUME
        return ()
    found = []
    if not units_are_said(header):
        found.append(f"RescaleType absent, ImageType {'/'.join(header.image_type) or 'absent'}")
    if header.flavour not in ("AXIAL", ""):
        found.append(f"ImageType value 3 {header.flavour}")
    return tuple(found)


def check_place(header: SliceHeader) -> None:
    """Refuse a slice of which it is not known where in the patient it lies, and how large its pixels are."""
    if header.position is None:
        raise DicomRefusal(
            header.path,
            tag="ImagePositionPatient",
            found="absent or not 3 numbers",
            needed="3 numbers in mm",
            cure=EXPORT_AGAIN,
        )
    if header.pixel_spacing is None or min(header.pixel_spacing) <= 0:
        raise DicomRefusal(
            header.path,
            tag="PixelSpacing",
            found=_shown(header.pixel_spacing),
            needed="2 positive numbers in mm",
            cure=EXPORT_AGAIN,
        )
    if header.orientation is None:
        raise DicomRefusal(
            header.path,
            tag="ImageOrientationPatient",
            found="absent or not 6 numbers",
            needed="6 direction cosines",
            cure=EXPORT_AGAIN,
        )
    axes = np.reshape(header.orientation, (2, 3))
    if np.abs(axes @ axes.T - np.eye(2)).max() > DIRECTION_TOLERANCE:
        raise DicomRefusal(
            header.path,
            tag="ImageOrientationPatient",
            found=_shown(header.orientation),
            needed="two orthogonal unit vectors",
            cure=EXPORT_AGAIN,
        )


def _same(headers: Sequence[SliceHeader], tag: str, value: Callable[[SliceHeader], object]) -> None:
    """Refuse the first that differs from what most have, whichever comes first in the folder."""
    values = [value(header) for header in headers]
    usual, count = Counter(values).most_common(1)[0]
    if count < len(values):
        example = headers[values.index(usual)]
        for header, found in zip(headers, values, strict=True):
            if found != usual:
                raise _differs(header, tag, found, example, usual)


def _close(
    headers: Sequence[SliceHeader],
    tag: str,
    value: Callable[[SliceHeader], tuple[float, ...] | None],
    tolerance: float,
) -> None:
    """Refuse the one that differs most from the middle of all."""
    values = np.array([value(header) for header in headers])
    usual = headers[int(np.abs(values - np.median(values, axis=0)).max(axis=1).argmin())]
    distance = np.abs(values - np.array(value(usual))).max(axis=1)
    worst = int(distance.argmax())
    if distance[worst] > tolerance:
        raise _differs(headers[worst], tag, value(headers[worst]), usual, value(usual))


def _differs(header: SliceHeader, tag: str, found: object, first: SliceHeader, needed: object) -> DicomRefusal:
    return DicomRefusal(
        header.path,
        tag=tag,
        found=_shown(found),
        needed=f"{_shown(needed)} as in {first.path} of the same series",
        cure="take the files that do not belong to this series out of the folder",
    )


def _shown(value: object) -> str:
    if value is None or value == "":
        return "absent or malformed"
    return "\\".join(f"{number:g}" for number in value) if isinstance(value, tuple) else str(value)
