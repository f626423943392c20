"""The rules by which a multi-frame CT image becomes a derived one (PS3.3 C.7.6.16, C.8.15, C.8.16)."""

from __future__ import annotations

import copy

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from iscl_monai.dicom import carry, derive
from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.enhanced import EnhancedImage
from iscl_monai.dicom.extent import PIXEL_DATA
from iscl_monai.dicom.headers import SliceHeader

UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")


def derive_enhanced(dataset: Dataset, image: EnhancedImage, derivation: Derivation, *, encoded_bytes: int) -> Dataset:
    """Turn the header of a multi-frame file into that of the one derived from it.

    The rules are those of :mod:`iscl_monai.dicom.derive`; what single-frame images say at their top stands in the
    functional groups here. Geometry, rescale, dimensions and all other groups stay as they are.

    Args:
        dataset: without pixels, accepted by :func:`iscl_monai.dicom.enhanced.image_of`; changed in place.
        image: the same, as opened.
        derivation: what is done to it.
        encoded_bytes: length of the pixel data in the source file.

    Returns:
        The same data set with a new file meta.
    """
    header = image.header
    derive.carry_over(dataset, header, derivation, encoded_bytes=encoded_bytes)
    _forget_old_pixels(dataset)
    _cite(dataset, header)
    _point_to_frames(dataset, header, derivation)
    derive.identify(dataset, header, derivation, derive.series_identity([header]))
    derive.date(dataset, derivation.moment)
    _retype(dataset)
    derive.disclaim(dataset, derivation)
    # Neither cleared for routine use, as PRODUCT would say, nor by the scanner (PS3.3 C.8.13.2.1.1).
    dataset.ContentQualification = "RESEARCH"
    derive.credit(dataset, derivation)
    dataset.file_meta = derive.file_meta(dataset)
    return dataset


def _forget_old_pixels(dataset: Dataset) -> None:
    """Remove what describes the source's pixels in places that single-frame images do not have."""
    for tag in sorted(dataset.keys()):
        if tag.group == PIXEL_DATA >> 16:  # offset tables of encapsulated pixels
            del dataset[tag]
    for groups in _functional_groups(dataset):
        for item in (item for keyword in UNASSIGNED for item in groups.get(keyword) or []):
            carry.forget_old_pixels(item)
    dataset.walk(_unsign)


def _unsign(dataset: Dataset, element: DataElement) -> None:
    """Functional groups may be signed, too, and some of them change."""
    if element.keyword == "DigitalSignaturesSequence":
        del dataset[element.tag]


def _functional_groups(dataset: Dataset) -> list[Dataset]:
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*shared, *dataset.PerFrameFunctionalGroupsSequence]


def _retype(dataset: Dataset) -> None:
    """All frames are derived now, so the whole is neither ORIGINAL nor MIXED; PRIMARY is the only value 2."""
    dataset.ImageType = _derived_type(dataset.ImageType)
    for groups in _functional_groups(dataset):
        for item in groups.get("CTImageFrameTypeSequence") or []:
            item.FrameType = _derived_type(item.FrameType)


def _derived_type(before: MultiValue[str] | str) -> list[str]:
    return ["DERIVED", "PRIMARY", *(before[2:] if isinstance(before, MultiValue) else [])]


def _point_to_frames(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    """Say of every frame how it was made, and from which one (PS3.3 C.7.6.16.2.6); earlier steps are kept.

    The source frame differs from frame to frame, so the group cannot be a shared one.
    """
    common: list[Dataset] = []
    for shared in dataset.get("SharedFunctionalGroupsSequence") or []:
        common += shared.get("DerivationImageSequence") or []
        shared.pop("DerivationImageSequence", None)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
        source = derive.source_item(header)
        source.ReferencedFrameNumber = number
        step = Dataset()
        step.DerivationDescription = derivation.full_description()[:1024]
        step.DerivationCodeSequence = [operation.item() for operation in derivation.operations]
        step.SourceImageSequence = [source]
        earlier = copy.deepcopy(common) + list(frame.get("DerivationImageSequence") or [])
        frame.DerivationImageSequence = [*earlier, step]


def _cite(dataset: Dataset, header: SliceHeader) -> None:
    """List the source where all references of an instance are listed (PS3.3 C.12.2 and C.8.15.2); before UIDs change.

    What was listed there is still referred to, by the groups that were kept.
    """
    if not header.series_uid:  # blanked by a de-identifier
        return
    series = _entry(dataset, "ReferencedSeriesSequence", "SeriesInstanceUID", header.series_uid)
    instance = _entry(series, "ReferencedInstanceSequence", "ReferencedSOPInstanceUID", header.sop_instance_uid)
    instance.ReferencedSOPClassUID = header.sop_class
    if header.study_uid:
        study = _entry(dataset, "SourceImageEvidenceSequence", "StudyInstanceUID", header.study_uid)
        series = _entry(study, "ReferencedSeriesSequence", "SeriesInstanceUID", header.series_uid)
        instance = _entry(series, "ReferencedSOPSequence", "ReferencedSOPInstanceUID", header.sop_instance_uid)
        instance.ReferencedSOPClassUID = header.sop_class


def _entry(dataset: Dataset, sequence: str, keyword: str, value: str) -> Dataset:
    """The item of a sequence that is named by an element; a new one when there is none."""
    items = list(dataset.get(sequence) or [])
    found: list[Dataset] = [item for item in items if item.get(keyword) == value]
    if found:
        return found[0]
    new = Dataset()
    setattr(new, keyword, value)
    setattr(dataset, sequence, [*items, new])
    return new
