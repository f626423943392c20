"""The rules by which a CT image becomes a derived one: identity, story, credit (docs/conformance.md)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom import charset
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from iscl_monai.dicom.derivation import (
    DISCLAIMER,
    LONGEST_LO,
    NAMESPACE,
    OUR_CODES,
    PROCESSING_EQUIPMENT,
    SOURCE_IMAGE,
    Code,
    Derivation,
)
from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal
from iscl_monai.version import __version__

IMPLEMENTATION_CLASS_UID = f"2.25.{NAMESPACE.int}"
LARGEST_IS = 2**31 - 1
UNDECODABLE = "\ufffd"

DESCRIBES_OLD_PIXELS = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "IconImageSequence",
    "ReferencedImageSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "DataSetTrailingPadding",
)
LOSSY_SYNTAXES = {  # transfer syntaxes that lose, or may lose, and their LossyImageCompressionMethod (C.7.6.1.1.5.1)
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.53": "ISO_10918_1",
    "1.2.840.10008.1.2.4.55": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.93": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
EITHER_WAY = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.93", "1.2.840.10008.1.2.4.203")
"""Syntaxes that may also be lossless: there the source's word counts, if it says one."""


def derive_header(dataset: Dataset, header: SliceHeader, derivation: Derivation, *, series_identity: str) -> Dataset:
    """Turn the data set of a source slice into that of the slice derived from it; its pixels are left to the caller.

    Args:
        dataset: as read, with file meta; changed in place.
        header: the same file's checked header.
        derivation: what is done to it.
        series_identity: names the source series, its SeriesInstanceUID if it has one.

    Returns:
        The same data set with a new file meta.

    Raises:
        DicomRefusal: an element that pydicom cannot read, so that it can neither be copied nor be left out unseen.
    """
    check_elements(dataset, header)
    carry_lossy_history(dataset, encoded_bytes=len(dataset.get("PixelData") or b""))
    forget_old_pixels(dataset)
    drop_private(dataset, frozenset(derivation.keep_private))
    _point_to_source(dataset, header)
    identify(dataset, header, derivation, series_identity)
    date(dataset, derivation.moment)
    _tell(dataset, header, derivation)
    credit(dataset, derivation)
    dataset.file_meta = file_meta(dataset)
    return dataset


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


def check_elements(dataset: Dataset, header: SliceHeader) -> None:
    """Convert every element now: what cannot be converted would else fail while the file is being written."""
    for tag in sorted(dataset.keys()):
        for item in _items(dataset, tag, header):
            check_elements(item, header)


def _items(dataset: Dataset, tag: BaseTag, header: SliceHeader) -> Sequence[Dataset]:
    try:
        element = dataset[tag]
        if isinstance(element.value, (str, PersonName)) and UNDECODABLE in str(element.value):
            raise ValueError(f"bytes that {dataset.get('SpecificCharacterSet', 'its character set')} does not have")
        return list(element.value) if element.VR == "SQ" else []
    except Exception as error:  # pydicom converts on access, and a malformed element may raise nearly anything
        raise DicomRefusal(
            header.path,
            tag=f"element {tag}",
            found=f"not readable ({' '.join(str(error).split())[:120]})",
            needed="a value of its own kind",
            cure="export the series again, or mend or remove that element",
        ) from error


def carry_lossy_history(dataset: Dataset, *, encoded_bytes: int) -> None:
    """What was once lossy stays so (PS3.3 C.7.6.1.1.5): 01 is never taken back.

    Args:
        dataset: with the file meta of the source; changed in place, as in all these rules.
        encoded_bytes: length of the source's pixel data.
    """
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    said = str(dataset.get("LossyImageCompression", ""))
    lossy = syntax in LOSSY_SYNTAXES and not (syntax in EITHER_WAY and said == "00")
    if not lossy or said == "01":
        return
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = LOSSY_SYNTAXES[syntax]
    frames = int(dataset.get("NumberOfFrames") or 1)
    raw = frames * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    dataset.LossyImageCompressionRatio = f"{raw / max(1, encoded_bytes):.4g}"


def forget_old_pixels(dataset: Dataset) -> None:
    """Remove what describes the pixels of the source, and give padding values the representation of the pixels."""
    for keyword in DESCRIBES_OLD_PIXELS:
        if keyword in dataset:
            delattr(dataset, keyword)
    for tag in sorted(dataset.keys()):
        curve_or_overlay = tag.group in range(0x5000, 0x5100) or tag.group in range(0x6000, 0x6100)
        if curve_or_overlay or tag.element == 0:  # group lengths went out of use, and would be wrong
            del dataset[tag]
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if "PixelRepresentation" in dataset and keyword in dataset and isinstance(dataset[keyword].value, int):
            # Writers mix up US and SS; the bits are right, so only the representation is mended.
            vr, value = ("SS", (dataset[keyword].value + 0x8000) % 0x10000 - 0x8000)
            if dataset.PixelRepresentation == 0:
                vr, value = ("US", dataset[keyword].value % 0x10000)
            dataset[keyword] = DataElement(dataset[keyword].tag, vr, value)


def drop_private(dataset: Dataset, kept: frozenset[str]) -> None:
    """Remove private elements at all levels, except those of the kept creators."""
    for tag in sorted(dataset.keys()):
        if tag.is_private and _creator(dataset, tag) not in kept:
            del dataset[tag]
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            drop_private(item, kept)


def _creator(dataset: Dataset, tag: object) -> str:
    """The private creator that reserves the element's block (PS3.5 7.8.1), or that is the element."""
    group, element = divmod(int(tag), 0x10000)  # type: ignore[call-overload]
    reserving = (group, element if element < 0x100 else element >> 8)
    return str(dataset[reserving].value).strip() if reserving in dataset else ""


def _point_to_source(dataset: Dataset, header: SliceHeader) -> None:
    """One source per slice, of the same place (PS3.3 C.7.6.1, C.12.2); before the UIDs change."""
    dataset.SourceImageSequence = [source_item(header)]
    if "ReferencedSeriesSequence" in dataset:
        del dataset.ReferencedSeriesSequence
    if header.series_uid:
        instance, series = Dataset(), Dataset()
        instance.ReferencedSOPClassUID = header.sop_class
        instance.ReferencedSOPInstanceUID = header.sop_instance_uid
        series.SeriesInstanceUID = header.series_uid
        series.ReferencedInstanceSequence = [instance]
        dataset.ReferencedSeriesSequence = [series]


def source_item(header: SliceHeader) -> Dataset:
    """An item of SourceImageSequence that names a file as the source of the same place."""
    source = Dataset()
    source.ReferencedSOPClassUID = header.sop_class
    source.ReferencedSOPInstanceUID = header.sop_instance_uid
    source.PurposeOfReferenceCodeSequence = [SOURCE_IMAGE.item()]
    source.SpatialLocationsPreserved = "YES"
    return source


def identify(dataset: Dataset, header: SliceHeader, derivation: Derivation, series_identity: str) -> None:
    """New series and instance in the same study, patient and frame of reference."""
    dataset.SOPClassUID = header.sop_class
    dataset.SOPInstanceUID = derivation.uid("instance", slice_identity(header))
    dataset.SeriesInstanceUID = derivation.uid("series", series_identity)
    if not header.study_uid:  # blanked by a de-identifier: no file could be stored without one
        dataset.StudyInstanceUID = derivation.uid("study", series_identity)
    try:
        number = int(dataset.get("SeriesNumber")) * 100 + derivation.series_offset
    except (TypeError, ValueError):
        number = derivation.series_offset
    dataset.SeriesNumber = number if abs(number) <= LARGEST_IS else derivation.series_offset
    room = LONGEST_LO - len(derivation.title) - 3
    described = str(dataset.get("SeriesDescription") or "CT").split("\\")[0][:room].rstrip()
    dataset.SeriesDescription = _writable(dataset, f"{described} | {derivation.title}", derivation.title)


def _writable(dataset: Dataset, text: str, ours: str) -> str:
    """The text if the source's character set can hold it beside our ASCII, else ours alone.

    Half-width katakana (ISO_IR 13) is such a case: pydicom writes it with Latin letters as question marks.
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


def _tell(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    """Say derived, by what, and not for primary diagnosis, wherever a viewer may look."""
    dataset.ImageType = ["DERIVED", "SECONDARY", header.flavour or "AXIAL", derivation.kind]
    before = str(dataset.get("DerivationDescription") or "")
    story = derivation.story()[:1024]
    dataset.DerivationDescription = _writable(dataset, f"{before}; {story}"[-1024:], story) if before else story
    # Several items mean steps one after the other; earlier ones are kept.
    dataset.DerivationCodeSequence = [*(dataset.get("DerivationCodeSequence") or []), derivation.operation.item()]
    # A derived image must say that its values are Hounsfield units (PS3.3 C.8.2.1).
    dataset.RescaleType = "HU"
    disclaim(dataset, derivation)


def disclaim(dataset: Dataset, derivation: Derivation) -> None:
    """Say at the top of the data set that it is not for primary diagnosis, and whose codes it uses."""
    _declare_scheme(dataset, derivation.operation)
    comments = str(dataset.get("ImageComments") or "")
    both = f"{DISCLAIMER}\r\n{comments}"[:10240]
    dataset.ImageComments = _writable(dataset, both, DISCLAIMER) if comments else DISCLAIMER
    dataset.BurnedInAnnotation = dataset.get("BurnedInAnnotation") or "NO"


def _declare_scheme(dataset: Dataset, code: Code) -> None:
    """Say whose a private coding scheme is (PS3.3 C.12.1, Coding Scheme Identification)."""
    known = list(dataset.get("CodingSchemeIdentificationSequence") or [])
    if code.scheme != OUR_CODES or any(item.get("CodingSchemeDesignator") == OUR_CODES for item in known):
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
    equipment.ManufacturerModelName = f"iscl_monai {derivation.model}"[:LONGEST_LO]
    equipment.SoftwareVersions = [__version__, f"{derivation.model} {derivation.version}"[:LONGEST_LO]]
    equipment.SoftwareVersions += [f"weights sha256 {derivation.weights_digest[:40]}"]
    # Other weights are another device: quality assurance groups images by it.
    equipment.DeviceUID = f"2.25.{uuid.uuid5(NAMESPACE, repr(['device', __version__, derivation.weights_digest])).int}"
    equipment.ContributionDateTime = derivation.moment.strftime("%Y%m%d%H%M%S%z")
    equipment.ContributionDescription = f"{derivation.operation.meaning}. {DISCLAIMER}"
    earlier = list(dataset.get("ContributingEquipmentSequence") or [])
    dataset.ContributingEquipmentSequence = [*earlier, equipment]
