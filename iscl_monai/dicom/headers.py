"""One DICOM header, reduced to what reading a CT series needs, in typed and checked form."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from iscl_monai.dicom import reconstruction
from iscl_monai.dicom.dataset import read_dataset
from iscl_monai.dicom.elements import integer_of, number_of, numbers_of, text_of, texts_of
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
    "BodyPartExamined",
    "ConvolutionKernel",
    "Manufacturer",
    "ManufacturerModelName",
    "KVP",
    "XRayTubeCurrent",
    "ExposureTime",
    "SeriesDescription",
    "InstanceNumber",
]


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
        head: length and digest of all bytes before the pixel data, by which a file that is read again is known to have
            the same header; None where they were not read.
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
    body_part: str = ""
    """BodyPartExamined in capitals; ``""`` also where it is no Code String (PS3.5 6.2), but somebody's words."""
    instance_number: int | None = None
    transfer_syntax: str = ""
    media_sop_class: str = ""
    head: tuple[int, bytes] | None = field(default=None, compare=False, repr=False)
    lacking_pixels: tuple[str, str] | None = field(default=None, compare=False)  # known only when the file is open

    @property
    def sop_class_name(self) -> str:
        """The SOP class in words, for messages."""
        return UID(self.sop_class).name if self.sop_class else "unknown object"

    @property
    def flavour(self) -> str:
        """``ImageType`` value 3 (AXIAL, LOCALIZER, ...; PS3.3 C.8.2.1.1.1), ``""`` when absent."""
        return self.image_type[2] if len(self.image_type) > 2 else ""

    @property
    def vendor(self) -> str:
        """First word of Manufacturer in capitals (``GE``, ``SIEMENS``), as the rest changes with the years."""
        word = re.match(r"[A-Z]+", self.manufacturer.upper())
        return word[0] if word else ""


def code_or_nothing(text: str) -> str:
    """A text in capitals if these are a Code String (PS3.5 6.2), else nothing."""
    return text.upper() if re.fullmatch(r"[A-Z0-9 _]{1,16}", text.upper()) else ""


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
        length = file.tell()
        file.seek(0)
        head = length, digest_of(file.read(length))
        return replace(header, head=head, lacking_pixels=_lacking_pixels(header, dataset, file)), dataset


def digest_of(content: bytes | memoryview) -> bytes:
    """Tells a file, or a part of it, from any other, and from itself after a change."""
    return hashlib.blake2b(content, digest_size=16).digest()


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
        rows=integer_of(dataset, "Rows"),
        columns=integer_of(dataset, "Columns"),
        frames=integer_of(dataset, "NumberOfFrames") or 1,
        samples=integer_of(dataset, "SamplesPerPixel"),
        photometric=text_of(dataset, "PhotometricInterpretation"),
        position=numbers_of(dataset, "ImagePositionPatient", 3),
        orientation=numbers_of(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=numbers_of(dataset, "PixelSpacing", 2),
        slice_thickness=number_of(dataset, "SliceThickness"),
        slope=number_of(dataset, "RescaleSlope"),
        intercept=number_of(dataset, "RescaleIntercept"),
        rescale_type=text_of(dataset, "RescaleType"),
        multienergy=text_of(dataset, "MultienergyCTAcquisition") == "YES",
        kernel=kernel,
        manufacturer=manufacturer,
        model=model,
        kvp=number_of(dataset, "KVP"),
        body_part=code_or_nothing(text_of(dataset, "BodyPartExamined")),
        instance_number=integer_of(dataset, "InstanceNumber"),
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
