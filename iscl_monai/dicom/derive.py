"""The rules by which a CT image becomes a derived one: identity, story, credit (docs/conformance.md)."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta, timezone

from pydicom import charset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from iscl_monai.dicom.carry import (
    carry_lossy_history,
    check_elements,
    drop_private,
    forget_old_pixels,
    turn_words,
)
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
from iscl_monai.version import __version__

IMPLEMENTATION_CLASS_UID = f"2.25.{NAMESPACE.int}"
LARGEST_IS = 2**31 - 1


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
    check_elements(dataset, header, frozenset(derivation.keep_private))
    carry_lossy_history(dataset, encoded_bytes=len(dataset.get("PixelData") or b""))
    forget_old_pixels(dataset)
    drop_private(dataset, frozenset(derivation.keep_private))
    if not dataset.original_encoding[1]:
        turn_words(dataset)
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
    found = dataset.get("SeriesDescription") or "CT"
    described = str(found[0] if isinstance(found, MultiValue) else found)[:room].rstrip()
    dataset.SeriesDescription = writable(dataset, f"{described} | {derivation.title}", derivation.title)


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


def _tell(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    """Say derived, by what, and not for primary diagnosis, wherever a viewer may look."""
    dataset.ImageType = ["DERIVED", "SECONDARY", header.flavour or "AXIAL", derivation.kind]
    before = str(dataset.get("DerivationDescription") or "")
    story = derivation.story()[:1024]
    dataset.DerivationDescription = writable(dataset, f"{before}; {story}"[-1024:], story) if before else story
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
    dataset.ImageComments = writable(dataset, both, DISCLAIMER) if comments else DISCLAIMER
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
