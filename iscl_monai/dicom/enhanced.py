"""Enhanced (multi-frame) CT: one file that holds many slices, opened or refused, and read frame by frame.

Frames are taken one by one and keep their own functional groups, so their order, their spacing, and what tells
frames at one place apart (cardiac phase, time) need not be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from iscl_monai.dicom.carry import check_elements
from iscl_monai.dicom.extent import pixel_extent
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, header_of
from iscl_monai.dicom.pixels import load_frame, stream_slices, without_warnings
from iscl_monai.dicom.rules import check_image, check_rescale
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.errors import DicomRefusal

GROUPS = {  # functional groups (PS3.3 C.7.6.16.2) and what is read of them
    "CTImageFrameTypeSequence": ("FrameType",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "CTReconstructionSequence": ("ReconstructionAlgorithm", "ConvolutionKernel"),
}


@dataclass(frozen=True)
class EnhancedImage:
    """One Enhanced or Legacy Converted Enhanced CT file whose header was checked; its pixels are on the disk.

    Attributes:
        header: what the file says about all of its frames.
        frame_headers: the same for every frame, in file order, with the values of its functional groups: FrameType as
            ``image_type``, rescale, pixel spacing, thickness, position and orientation (mm, LPS; None when absent).
    """

    header: SliceHeader
    frame_headers: tuple[SliceHeader, ...] = field(repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    @property
    def frames(self) -> int:
        """NumberOfFrames."""
        return len(self.frame_headers)

    @property
    def rows(self) -> int:
        """Rows of each frame."""
        return self.header.rows or 0

    @property
    def columns(self) -> int:
        """Columns of each frame."""
        return self.header.columns or 0

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, ``""`` when a de-identifier blanked it."""
        return self.header.series_uid

    @property
    def sop_instance_uid(self) -> str:
        """SOPInstanceUID."""
        return self.header.sop_instance_uid

    @property
    def image_type(self) -> tuple[str, ...]:
        """ImageType of the whole, e.g. ORIGINAL, PRIMARY, VOLUME, NONE (PS3.3 C.8.16.1)."""
        return self.header.image_type

    @property
    def description(self) -> str:
        """SeriesDescription."""
        return self.header.description

    @property
    def derived(self) -> bool:
        """Whether any frame is not ORIGINAL: a reformation, an average, or what was denoised before."""
        return any(header.image_type[0] != "ORIGINAL" for header in self.frame_headers)

    def slices(self) -> Iterator[StoredSlice]:
        """Decode the frames in file order, one at a time; memory does not grow with their number.

        pydicom may warn meanwhile; see :func:`iscl_monai.dicom.pixels.without_warnings`.

        Yields:
            Each frame with its own slope and intercept.

        Raises:
            DicomRefusal: pixels that cannot be decoded, are fewer or more than ``frames``, or lie outside BitsStored.
        """
        return stream_slices(self.frame_headers)

    def frame(self, index: int) -> StoredSlice:
        """Decode one frame.

        Raises:
            DicomRefusal: see :meth:`slices`.
        """
        return load_frame(self.frame_headers, index)


def open_enhanced(path: Path | str) -> EnhancedImage:
    """Read the header of a multi-frame CT file, and check all that can be checked without its pixels.

    Frames that are DERIVED are let through: see :attr:`EnhancedImage.derived`.

    Args:
        path: an Enhanced CT or Legacy Converted Enhanced CT file.

    Raises:
        DicomRefusal: naming the file (and frame), the first element that is missing or wrong, and its value.
    """
    with without_warnings():
        dataset, _ = load_header(Path(path))
        return image_of(Path(path), dataset)


def load_header(path: Path) -> tuple[Dataset, int]:
    """All elements before the pixel data, and the length of the latter in the file, in bytes.

    Raises:
        DicomRefusal: a file that cannot be read, or whose pixel data are not whole.
    """
    try:
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            _check_streamable(path, dataset)
            return dataset, pixel_extent(file, dataset, path)
    except DicomRefusal:
        raise
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise DicomRefusal(
            path,
            tag="file",
            found=f"not readable ({' '.join(str(error).split())[:160]})",
            needed="a whole DICOM file",
            cure="copy it again",
        ) from error


def image_of(path: Path, dataset: Dataset) -> EnhancedImage:
    """The image that a data set without pixels describes; see :func:`open_enhanced`."""
    header = header_of(path, dataset)
    _check_class(header)
    check_image(header)
    check_elements(dataset, header)
    _check_whole(dataset, header)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(shared) != 1:
        raise _wrong(path, "SharedFunctionalGroupsSequence", f"{len(shared)} items", "one item")
    if header.frames != len(frames):
        found = f"{header.frames}, with {len(frames)} items in PerFrameFunctionalGroupsSequence"
        raise _wrong(path, "NumberOfFrames", found, "one item for each frame")
    return EnhancedImage(
        header, tuple(_frame_header(header, shared[0], frame, number) for number, frame in enumerate(frames, 1))
    )


def _check_streamable(path: Path, dataset: Dataset) -> None:
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DicomRefusal(
            path,
            tag="TransferSyntaxUID",
            found="Deflated Explicit VR Little Endian, which cannot be read frame by frame",
            needed="any other transfer syntax",
            cure="export it uncompressed (Explicit VR Little Endian)",
        )


def _check_class(header: SliceHeader) -> None:
    if header.sop_class not in MULTIFRAME_CT:
        raise DicomRefusal(
            header.path,
            tag="SOPClassUID",
            found=header.sop_class_name,
            needed=" or ".join(UID(uid).name for uid in MULTIFRAME_CT),
            cure="read single-frame CT with iscl_monai.dicom.series.read_series",
        )


def _check_whole(dataset: Dataset, header: SliceHeader) -> None:
    """Refuse parts of images, colours, and what has no type."""
    for keyword in ("InConcatenationNumber", "ConcatenationUID"):
        if keyword in dataset:
            raise DicomRefusal(
                header.path,
                tag=keyword,
                found=f"{dataset[keyword].value}: one part of an image that is spread over several files",
                needed="an image in one file",
                cure="export it without concatenation",
            )
    if dataset.get("PixelPresentation") not in (None, "", "MONOCHROME"):
        # Stored values above LargestMonochromePixelValue are colours then (PS3.3 C.8.16.2).
        raise _wrong(header.path, "PixelPresentation", str(dataset.PixelPresentation), "MONOCHROME")
    for keyword, allowed in (("BitsAllocated", (8, 16, 32)), ("PixelRepresentation", (0, 1))):
        if dataset.get(keyword) not in allowed:
            raise _wrong(header.path, keyword, str(dataset.get(keyword)), " or ".join(map(str, allowed)))
    if not header.image_type:
        raise _wrong(header.path, "ImageType", "absent", "e.g. ORIGINAL\\PRIMARY\\VOLUME\\NONE")


def _frame_header(whole: SliceHeader, shared: Dataset, frame: Dataset, number: int) -> SliceHeader:
    place = f"{whole.path}, frame {number}"
    values = Dataset()
    values.Manufacturer, values.ManufacturerModelName = whole.manufacturer, whole.model
    values.SeriesDescription = whole.description
    for sequence, keywords in GROUPS.items():
        group = _group(shared, frame, sequence, place)
        for keyword in keywords:
            if keyword == "FrameType":
                values.ImageType = group.get(keyword)
            elif keyword in group:
                values.add(group[keyword])
    found = header_of(whole.path, values)
    header = replace(
        whole,
        image_type=found.image_type,
        position=found.position,
        orientation=found.orientation,
        pixel_spacing=found.pixel_spacing,
        slice_thickness=found.slice_thickness,
        slope=found.slope,
        intercept=found.intercept,
        rescale_type=found.rescale_type,
        reconstruction=found.reconstruction or whole.reconstruction,
    )
    _check_frame(header, place)
    return header


def _group(shared: Dataset, frame: Dataset, keyword: str, place: str) -> Dataset:
    """The item of a functional group, empty when there is none (PS3.3 C.7.6.16.1.1)."""
    if keyword in shared and keyword in frame:
        raise _wrong(place, keyword, "shared by all frames and given for this one, too", "one of both")
    items = list((frame if keyword in frame else shared).get(keyword) or [])
    if len(items) > 1:
        raise _wrong(place, keyword, f"{len(items)} items", "one item")
    return items[0] if items else Dataset()


def _check_frame(header: SliceHeader, place: str) -> None:
    if header.image_type[:1] not in (("ORIGINAL",), ("DERIVED",)) or header.flavour == "LOCALIZER":
        found = "\\".join(header.image_type) or "absent"
        raise _wrong(place, "FrameType", found, "ORIGINAL or DERIVED at first, and no LOCALIZER")
    try:
        check_rescale(header)
    except DicomRefusal as refusal:
        raise DicomRefusal(
            place, tag=refusal.tag, found=refusal.found, needed=refusal.allowed, cure=refusal.cure
        ) from None


def _wrong(place: object, tag: str, found: str, needed: str) -> DicomRefusal:
    return DicomRefusal(place, tag=tag, found=found, needed=needed, cure="export it again from the scanner or PACS")
