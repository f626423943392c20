"""One DICOM header, reduced to what reading a CT series needs, in typed and checked form."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from iscl_monai.dicom import reconstruction
from iscl_monai.dicom.extent import pixel_extent
from iscl_monai.errors import DicomRefusal, Refusal

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2.2"
MULTIFRAME_CT = (ENHANCED_CT_STORAGE, LEGACY_CONVERTED_CT_STORAGE)

KEYWORDS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "MultienergyCTAcquisition",
    "ConvolutionKernel",
    "Manufacturer",
    "ManufacturerModelName",
    "KVP",
    "XRayTubeCurrent",
    "ExposureTime",
    "SeriesDescription",
    "InstanceNumber",
]

LONGEST_FIRST_VALUE = 256
"""Bytes of the first element of a data set: a group length, ImageType or a character set."""


@contextmanager
def refusing_malformed(path: object) -> Iterator[None]:
    """Turn what pydicom raises for elements of a wrong VR or value, which may be nearly anything, into a refusal.

    Raises:
        DicomRefusal: naming the file; refusals from inside come through as they are.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        raise DicomRefusal(
            path,
            tag="an element",
            found=f"malformed ({type(error).__name__}: {' '.join(str(error).split())[:160]})",
            needed="the value representation that DICOM gives it",
            cure="export the series again",
        ) from error


@dataclass(frozen=True)
class SliceHeader:
    """What one file says about its slice. ``None`` or ``""`` stands for absent, empty or unreadable.

    Attributes named after a DICOM keyword hold that element; lengths are in mm, vectors in patient
    coordinates (LPS, PS3.3 C.7.6.2.1.1).

    Attributes:
        transfer_syntax: TransferSyntaxUID; of a data set without a file header, what its bytes turned out to be.
        media_sop_class: MediaStorageSOPClassUID of the file meta information, which repeats the SOP Class.
        lacking_pixels: what was found and what is needed, in words, when the pixel data of a single-frame image are
            absent, cut short or of another length than they must have; None also where that cannot be told (colour,
            deflated).
    """

    path: Path
    sop_class: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    patient_id: str
    modality: str
    image_type: tuple[str, ...]
    rows: int | None
    columns: int | None
    frames: int
    samples: int | None
    photometric: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slice_thickness: float | None
    slope: float | None
    intercept: float | None
    rescale_type: str
    multienergy: bool
    kernel: tuple[str, ...]
    manufacturer: str
    model: str
    kvp: float | None
    description: str
    tube_current_ma: float | None = None
    exposure_time_ms: float | None = None
    reconstruction: str = ""
    """Name and strength of an iterative or learned reconstruction, ``""`` where the file names none; see
    :func:`iscl_monai.dicom.reconstruction.reconstruction_of`."""
    instance_number: int | None = None
    transfer_syntax: str = ""
    media_sop_class: str = ""
    lacking_pixels: tuple[str, str] | None = field(default=None, compare=False)  # known only when the file is open

    @property
    def sop_class_name(self) -> str:
        """The SOP class in words, for messages."""
        return UID(self.sop_class).name if self.sop_class else "unknown object"

    @property
    def flavour(self) -> str:
        """``ImageType`` value 3 (AXIAL, LOCALIZER, ...; PS3.3 C.8.2.1.1.1), ``""`` when absent."""
        return self.image_type[2] if len(self.image_type) > 2 else ""


def read_header(path: Path) -> SliceHeader:
    """Read the header of one file; pixels are left on the disk.

    Args:
        path: a DICOM file, or a data set without a file's header.

    Returns:
        The typed header; a malformed element counts as absent, so that the later check names it.

    Raises:
        pydicom.errors.InvalidDicomError: when the file is not DICOM at all.
        Exception: whatever pydicom raises for a file that claims to be DICOM and is damaged.
    """
    return read_header_and(path, ())[0]


def read_header_and(
    path: Path, more: Sequence[str], *, file: BinaryIO | None = None
) -> tuple[SliceHeader, pydicom.Dataset]:
    """As :func:`read_header`, in one go with further elements that reading a series does not need.

    Args:
        path: a DICOM file, or a data set without a file's header.
        more: keywords of those elements.
        file: the same file, if it is open already.

    Returns:
        The typed header, and the data set with the elements of both; see :func:`text_of` and the like.
    """
    if file is None:
        with path.open("rb") as opened:
            return read_header_and(path, more, file=opened)
    with warnings.catch_warnings():
        # pydicom warns about every over-long number or odd UID; what matters is checked and refused by us.
        warnings.simplefilter("ignore")
        tags: list[Any] = [*KEYWORDS, *reconstruction.KEYWORDS, *reconstruction.PRIVATE_TAGS, *more]
        dataset = read_dataset(file, stop_before_pixels=True, specific_tags=tags)
        header = header_of(path, dataset)
        return replace(header, lacking_pixels=_lacking_pixels(header, dataset, file)), dataset


def read_dataset(file: BinaryIO, **options: Any) -> pydicom.FileDataset:
    """As :func:`pydicom.dcmread`, also for a data set without the header of a DICOM file (PS3.10 7.1).

    Archives and research tools store such data sets; their encoding is told by their first bytes, as every reader does
    it: Implicit VR Little Endian is the default of DICOM (PS3.5 10.1).

    Args:
        file: open at its beginning.
        options: of :func:`pydicom.dcmread`.

    Raises:
        pydicom.errors.InvalidDicomError: when it is neither.
        Exception: whatever pydicom raises for a damaged file.
    """
    start = file.tell()
    try:
        return pydicom.dcmread(file, **options)
    except InvalidDicomError:
        file.seek(start)
        if not _begins_as_data_set(file.read(8)):
            raise
    file.seek(start)
    dataset = pydicom.dcmread(file, force=True, **options)
    if not (text_of(dataset, "SOPClassUID") or text_of(dataset, "Modality")):
        raise InvalidDicomError("neither a SOP Class nor a Modality")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _begins_as_data_set(head: bytes) -> bool:
    """Whether eight bytes are an element of the group that every image begins with, or of the file's own group."""
    if len(head) < 8 or head[:2] not in (b"\x08\0", b"\x02\0", b"\0\x08"):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    order: Literal["little", "big"] = "big" if head[0] == 0 else "little"
    return explicit or int.from_bytes(head[4:8], order) < LONGEST_FIRST_VALUE


def _lacking_pixels(header: SliceHeader, dataset: pydicom.Dataset, file: BinaryIO) -> tuple[str, str] | None:
    """What their length is and must be, if it is wrong; reading the header has left the file where they begin."""
    sized = header.rows and header.columns and number_of(dataset, "BitsAllocated") and header.samples == 1
    if not sized or header.sop_class in MULTIFRAME_CT or header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return None
    try:
        pixel_extent(file, dataset, header.path)
    except DicomRefusal as refusal:
        return str(refusal.found), refusal.allowed
    except (TypeError, ValueError):  # sizes that are no numbers: refused when the pixels are decoded
        return None
    return None


def header_of(path: Path, dataset: pydicom.Dataset) -> SliceHeader:
    """The typed header of a data set that was read from ``path``, or of a part of one."""
    meta: Any = getattr(dataset, "file_meta", {})
    manufacturer, model = text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName")
    kernel, description = texts_of(dataset, "ConvolutionKernel"), text_of(dataset, "SeriesDescription")
    return SliceHeader(
        path=path,
        # Some de-identifiers blank the UIDs of the data set and leave those of the file meta group.
        sop_class=text_of(dataset, "SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", "")),
        sop_instance_uid=text_of(dataset, "SOPInstanceUID") or str(meta.get("MediaStorageSOPInstanceUID", "")),
        series_uid=text_of(dataset, "SeriesInstanceUID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=text_of(dataset, "FrameOfReferenceUID"),
        patient_id=text_of(dataset, "PatientID"),
        modality=text_of(dataset, "Modality"),
        image_type=texts_of(dataset, "ImageType"),
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        frames=_integer(dataset, "NumberOfFrames") or 1,
        samples=_integer(dataset, "SamplesPerPixel"),
        photometric=text_of(dataset, "PhotometricInterpretation"),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        slice_thickness=number_of(dataset, "SliceThickness"),
        slope=number_of(dataset, "RescaleSlope"),
        intercept=number_of(dataset, "RescaleIntercept"),
        rescale_type=text_of(dataset, "RescaleType"),
        multienergy=text_of(dataset, "MultienergyCTAcquisition") == "YES",
        kernel=kernel,
        manufacturer=manufacturer,
        model=model,
        kvp=number_of(dataset, "KVP"),
        instance_number=_integer(dataset, "InstanceNumber"),
        transfer_syntax=str(meta.get("TransferSyntaxUID", "")),
        media_sop_class=str(meta.get("MediaStorageSOPClassUID", "")),
        description=description,
        tube_current_ma=number_of(dataset, "XRayTubeCurrent"),
        exposure_time_ms=number_of(dataset, "ExposureTime"),
        reconstruction=reconstruction.reconstruction_of(
            dataset,
            kernel=kernel,
            manufacturer=manufacturer,
            model=model,
            description=description,
            protocol=text_of(dataset, "ProtocolName"),
        ),
    )


def values_of(dataset: pydicom.Dataset, keyword: str) -> list[Any]:
    """The values of an element; none when it is absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
    except Exception:
        return []  # pydicom converts on access, and a malformed element may raise nearly anything
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]


def texts_of(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element as text, without what pads them."""
    return tuple(str(value).strip(" \0") for value in values_of(dataset, keyword))


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """An element as one text, several values joined by backslashes as DICOM has them."""
    return "\\".join(texts_of(dataset, keyword))


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(value) for value in values_of(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """An element that is one finite number, else None."""
    numbers = _numbers(dataset, keyword, 1)
    return numbers[0] if numbers else None


def _integer(dataset: pydicom.Dataset, keyword: str) -> int | None:
    number = number_of(dataset, keyword)
    return int(number) if number is not None else None
