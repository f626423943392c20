"""The rules by which a CT or MR image becomes a derived one: identity, description, credit (docs/conformance.md).

They hold for every :class:`~iscl_monai.dicom.derivation.Derivation`: denoised, simulated and averaged alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from pydicom import charset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from iscl_monai.dicom.carry import (
    carry_lossy_history,
    check_elements,
    leave_behind,
    readable_text,
    turn_words,
)
from iscl_monai.dicom.derivation import (
    LONGEST_LO,
    NAMESPACE,
    OUR_CODES,
    PROCESSING_EQUIPMENT,
    SOURCE_IMAGE,
    Derivation,
    study_uid,
)
from iscl_monai.dicom.geometry import SAME_PLACE_MM, Floats
from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.version import __version__

IMPLEMENTATION_CLASS_UID = f"2.25.{NAMESPACE.int}"
LARGEST_IS = 2**31 - 1
MOMENT_FORMAT = "%Y%m%d%H%M%S%z"
"""Of ContributionDateTime: the moment of the job, to the second, in the time zone where it was done."""
SAME_IN_SERIES = (
    *("SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "SeriesDescription"),
    *(f"{name}{what}" for name in ("Series", "Content", "InstanceCreation") for what in ("Date", "Time")),
    *("ImageType", "DerivationDescription", "DerivationCodeSequence", "RescaleType", "ImageComments"),
    *("CodingSchemeIdentificationSequence", "ContributingEquipmentSequence"),
)
"""What the rules write alike into all slices whose sources have the same elements of :data:`RULES_LOOK_AT`."""
RULES_LOOK_AT = (
    *("SpecificCharacterSet", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("TimezoneOffsetFromUTC", "DerivationDescription", "DerivationCodeSequence", "ImageComments"),
    *("CodingSchemeIdentificationSequence", "ContributingEquipmentSequence", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("LossyImageCompression", "LossyImageCompressionMethod", "LossyImageCompressionRatio"),
)
"""Elements of a source by which the rules decide, or to which they add; of others they only carry or drop each."""


@dataclass(frozen=True)
class _Values:
    """What the values of an IOD are.

    Args:
        modality: of its images.
        flavour: ImageType value 3 where the source has none.
        rescale_type: that a derived image must say; empty: what the source says is right.
    """

    modality: str
    flavour: str
    rescale_type: str


# A derived CT image must say that its values are Hounsfield units (PS3.3 C.8.2.1); MR has no units to name.
CT_VALUES = _Values("CT", "AXIAL", "HU")
MR_VALUES = {MRImageStorage: _Values("MR", "OTHER", "")}


def _values_of(header: SliceHeader) -> _Values:
    return MR_VALUES.get(UID(header.sop_class), CT_VALUES)


def derive_header(
    dataset: Dataset,
    header: SliceHeader,
    derivation: Derivation,
    *,
    series_identity: str,
    sources: Sequence[SliceHeader] = (),
) -> Dataset:
    """Turn the data set of a source slice into that of the slice derived from it; its pixels are left to the caller.

    Args:
        dataset: as read, with file meta; changed in place.
        header: the same file's checked header.
        derivation: what is done to it.
        series_identity: names the source series, its SeriesInstanceUID if it has one.
        sources: headers of all slices that the derived one is made of, if there are others than this one.

    Returns:
        The same data set with a new file meta.

    Raises:
        DicomRefusal: an element that pydicom cannot read, so that it can neither be copied nor be left out unseen.
    """
    carry_over(dataset, header, derivation, encoded_bytes=len(dataset.get("PixelData") or b""))
    _point_to_sources(dataset, sources or (header,))
    identify(dataset, header, derivation, series_identity)
    date(dataset, derivation.moment)
    _describe(dataset, header, derivation)
    credit(dataset, derivation)
    dataset.file_meta = file_meta(dataset)
    return dataset


def derive_own_elements(
    dataset: Dataset, header: SliceHeader, derivation: Derivation, *, sources: Sequence[SliceHeader]
) -> Dataset:
    """As :func:`derive_header` for a part of a slice, when the rest is that of a slice that was derived before.

    Args:
        dataset: the elements that differ, and of :data:`RULES_LOOK_AT` those that say how to read them; changed in
            place. None of these differ.
        header: see :func:`derive_header`.
        derivation: see :func:`derive_header`.
        sources: see :func:`derive_header`; one at least.

    Returns:
        The same data set with a new file meta; without elements of :data:`SAME_IN_SERIES`.

    Raises:
        DicomRefusal: see :func:`derive_header`.
    """
    kept = frozenset(derivation.keep_private)
    check_elements(dataset, header, kept)
    leave_behind(dataset, kept)
    for keyword in SAME_IN_SERIES:
        if keyword in dataset:
            delattr(dataset, keyword)
    _point_to_sources(dataset, sources)
    _identify_slice(dataset, header, derivation)
    dataset.file_meta = file_meta(dataset)
    return dataset


def carry_over(dataset: Dataset, header: SliceHeader, derivation: Derivation, *, encoded_bytes: int) -> None:
    """Check, mend and leave behind elements of a source: the part that every derived object has in common.

    Args:
        dataset: as read, with file meta; changed in place.
        header: the same file's checked header.
        derivation: what is done to it.
        encoded_bytes: length of the source's pixel data.

    Raises:
        DicomRefusal: see :func:`derive_header`.
    """
    kept = frozenset(derivation.keep_private)
    check_elements(dataset, header, kept)
    carry_lossy_history(dataset, encoded_bytes=encoded_bytes)
    leave_behind(dataset, kept)
    if not dataset.original_encoding[1]:
        turn_words(dataset)


def file_meta(dataset: Dataset) -> FileMetaDataset:
    """Who wrote the file and how (PS3.10 7.1); nothing of it is inherited."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = f"ISCL_{__version__}"[:16]
    return meta


def slice_identity(header: SliceHeader) -> str:
    """What names a slice. The position goes along: de-identifiers have given one UID to all slices."""
    return f"{header.sop_instance_uid}|{header.position}"


def series_identity(headers: Sequence[SliceHeader]) -> str:
    """What names a series, in whatever order its slices come, and whether or not it has a UID."""
    return headers[0].series_uid or min(map(slice_identity, headers))


def mean_position(sources: Sequence[SliceHeader]) -> Floats:
    """ImagePositionPatient of what is made of several slices, LPS mm."""
    position: Floats = np.mean([source.position or () for source in sources], axis=0)
    return position


def _point_to_sources(dataset: Dataset, sources: Sequence[SliceHeader]) -> None:
    """Name the source slices (PS3.3 C.7.6.1, C.12.2), and nothing that the source itself was made of."""
    dataset.SourceImageSequence = [source_item(one, preserved=_same_place(one, sources)) for one in sources]
    if "ReferencedSeriesSequence" in dataset:
        del dataset.ReferencedSeriesSequence
    if sources[0].series_uid:
        series = Dataset()
        series.SeriesInstanceUID = sources[0].series_uid
        # De-identifiers have given one UID to all slices.
        different = {one.sop_instance_uid: one for one in sources}
        series.ReferencedInstanceSequence = [_reference(one) for one in different.values()]
        dataset.ReferencedSeriesSequence = [series]


def _same_place(source: SliceHeader, sources: Sequence[SliceHeader]) -> bool:
    """Whether a source lies where the derived slice does; one beside it shows other places, pixel by pixel."""
    if len(sources) == 1:
        return True
    return bool(np.linalg.norm(mean_position(sources) - np.array(source.position)) < SAME_PLACE_MM)


def _reference(source: SliceHeader) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item


def source_item(source: SliceHeader, *, preserved: bool = True) -> Dataset:
    """An item of SourceImageSequence.

    Args:
        source: the file that it names.
        preserved: whether every pixel of the derived image shows the place that the same pixel of the source shows.
    """
    item = _reference(source)
    item.PurposeOfReferenceCodeSequence = [SOURCE_IMAGE.item()]
    item.SpatialLocationsPreserved = "YES" if preserved else "NO"
    return item


def identify(dataset: Dataset, header: SliceHeader, derivation: Derivation, series_identity: str) -> None:
    """New series and instance in the same study, patient and frame of reference."""
    _identify_slice(dataset, header, derivation)
    dataset.SeriesInstanceUID = derivation.uid("series", series_identity)
    if not header.study_uid:  # blanked by a de-identifier: no file could be stored without one
        dataset.StudyInstanceUID = study_uid(series_identity)
    try:
        number = int(dataset.get("SeriesNumber")) * 100 + derivation.series_offset
    except (TypeError, ValueError):
        number = derivation.series_offset
    dataset.SeriesNumber = number if abs(number) <= LARGEST_IS else derivation.series_offset
    room = LONGEST_LO - len(derivation.title) - 3
    described = (readable_text(dataset, "SeriesDescription") or _values_of(header).modality)[:room].rstrip()
    dataset.SeriesDescription = writable(dataset, f"{described} | {derivation.title}", derivation.title)


def _identify_slice(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    dataset.SOPClassUID = header.sop_class
    dataset.SOPInstanceUID = derivation.uid("instance", slice_identity(header))


def writable(dataset: Dataset, text: str, ours: str) -> str:
    """The text if the source's character set can hold it beside our ASCII, else ours alone.

    Half-width katakana (ISO_IR 13) is such a case: pydicom writes it with Latin letters as question marks.

    Args:
        dataset: whose SpecificCharacterSet counts.
        text: what one would like to write.
        ours: ASCII.
    """
    try:
        encodings = charset.convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
        held = charset.decode_bytes(charset.encode_string(text, encodings), encodings, set())
    except (LookupError, ValueError):
        return ours
    return text if held == text else ours


def date(dataset: Dataset, moment: datetime) -> None:
    """One date and time for the job, in the time zone the source says its times are in."""
    offset = re.fullmatch(r"([+-])([01]\d)([0-5]\d)", str(dataset.get("TimezoneOffsetFromUTC", "")).strip())
    if offset:  # an impossible one says nothing
        minutes = int(offset[2]) * 60 + int(offset[3])
        moment = moment.astimezone(timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes)))
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", moment.strftime("%H%M%S"))


def _describe(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    """Say derived, by what, and what it is not good for, wherever a viewer may look."""
    values = _values_of(header)
    dataset.ImageType = ["DERIVED", "SECONDARY", header.flavour or values.flavour, derivation.kind]
    before = readable_text(dataset, "DerivationDescription")
    ours = derivation.full_description()[:1024]
    dataset.DerivationDescription = writable(dataset, f"{before}; {ours}"[-1024:], ours) if before else ours
    # Several items mean steps one after the other; earlier ones are kept.
    steps = [operation.item() for operation in derivation.operations]
    dataset.DerivationCodeSequence = [*(dataset.get("DerivationCodeSequence") or []), *steps]
    if values.rescale_type:
        dataset.RescaleType = values.rescale_type
    disclaim(dataset, derivation)


def disclaim(dataset: Dataset, derivation: Derivation) -> None:
    """Say at the top of the data set what it is not good for, and whose codes it uses."""
    _declare_scheme(dataset, derivation)
    comments = readable_text(dataset, "ImageComments")
    both = f"{derivation.disclaimer}\r\n{comments}"[:10240]
    dataset.ImageComments = writable(dataset, both, derivation.disclaimer) if comments else derivation.disclaimer


def _declare_scheme(dataset: Dataset, derivation: Derivation) -> None:
    """Say whose a private coding scheme is (PS3.3 C.12.1, Coding Scheme Identification)."""
    known = list(dataset.get("CodingSchemeIdentificationSequence") or [])
    ours = any(operation.scheme == OUR_CODES for operation in derivation.operations)
    if not ours or any(item.get("CodingSchemeDesignator") == OUR_CODES for item in known):
        return
    scheme = Dataset()
    scheme.CodingSchemeDesignator = OUR_CODES
    scheme.CodingSchemeName = "Codes of iscl_monai"
    scheme.CodingSchemeResponsibleOrganization = "iscl_monai contributors"
    dataset.CodingSchemeIdentificationSequence = [*known, scheme]


def credit(dataset: Dataset, derivation: Derivation) -> None:
    """Append ourselves to the contributing equipment (PS3.3 C.12.1); the scanner stays the manufacturer."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [PROCESSING_EQUIPMENT.item()]
    equipment.Manufacturer = "iscl_monai contributors"
    equipment.ManufacturerModelName = f"iscl_monai {derivation.equipment.model}"[:LONGEST_LO]
    equipment.SoftwareVersions = [__version__, *(version[:LONGEST_LO] for version in derivation.equipment.versions)]
    equipment.DeviceUID = derivation.equipment.device_uid()
    equipment.ContributionDateTime = derivation.moment.strftime(MOMENT_FORMAT)
    meanings = ", then ".join(operation.meaning for operation in derivation.operations)
    equipment.ContributionDescription = f"{meanings}. {derivation.disclaimer}"
    earlier = list(dataset.get("ContributingEquipmentSequence") or [])
    dataset.ContributingEquipmentSequence = [*earlier, equipment]


def moment_of(dataset: Dataset) -> datetime:
    """When a derived object was made, to the second: what :func:`credit` wrote.

    Raises:
        ValueError: when it was not made by us.
    """
    equipment = list(dataset.get("ContributingEquipmentSequence") or [Dataset()])[-1]
    return datetime.strptime(str(equipment.get("ContributionDateTime", "")), MOMENT_FORMAT)
