"""What of a source's elements is carried over into what is derived from it, and what is left behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal

UNDECODABLE = "\ufffd"
IDENTITY = frozenset(
    (
        *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "OtherPatientIDs"),
        *("PatientBirthName", "PatientBirthDate", "AccessionNumber", "StudyID"),
    )
)
"""Text that says whose image it is: that must be readable."""
DEEPEST = 16
"""Levels of sequences in sequences; pydicom's writer takes exponential time and memory beyond some hundred."""

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
    "InstanceCreatorUID",
    "SOPInstanceStatus",
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
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
WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
EITHER_WAY = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.93", "1.2.840.10008.1.2.4.203")
"""Syntaxes that may also be lossless: there the source's word counts, if it says one."""


def check_elements(
    dataset: Dataset, header: SliceHeader, kept: frozenset[str] = frozenset(), *, depth: int = 0
) -> None:
    """Convert every element now: what cannot be converted would else fail while the file is being written.

    Private elements that will be dropped may be damaged. Text with bytes that its character set does not have is
    carried as these bytes, unless it says who the patient is: an institution's name that was cut in the middle of a
    letter has no bearing on pixels or identity.
    """
    if depth > DEEPEST:
        raise DicomRefusal(
            header.path,
            tag="a sequence",
            found=f"nested more than {DEEPEST} times",
            needed="sequences as DICOM objects have them, a few levels deep",
            cure="export the series again: this file was made to do harm, or is damaged",
        )
    for tag in sorted(dataset.keys()):
        if tag.is_private and _creator(dataset, tag) not in kept:
            continue
        for item in _items(dataset, tag, header):
            check_elements(item, header, kept, depth=depth + 1)


def _items(dataset: Dataset, tag: BaseTag, header: SliceHeader) -> Sequence[Dataset]:
    try:
        raw = dataset.get_item(tag)
        element = dataset[tag]
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        if any(isinstance(value, (str, PersonName)) and UNDECODABLE in str(value) for value in values):
            if element.keyword in IDENTITY or not isinstance(getattr(raw, "value", None), bytes):
                raise ValueError(f"bytes that {dataset.get('SpecificCharacterSet', 'its character set')} does not have")
            value = _NameInBytes(raw.value, element.value.encodings) if element.VR == "PN" else raw.value
            dataset[tag] = DataElement(tag, "UN", value)
            dataset[tag].VR = element.VR  # given later, so that pydicom does not convert the value
        return list(element.value) if element.VR == "SQ" else []
    except Exception as error:  # pydicom converts on access, and a malformed element may raise nearly anything
        raise DicomRefusal(
            header.path,
            tag=f"element {tag}",
            found=f"not readable ({' '.join(str(error).split())[:120]})",
            needed="a value of its own kind",
            cure="export the series again, or mend or remove that element",
        ) from error


class _NameInBytes(PersonName):
    """A name that is written as the bytes it was read as."""

    def encode(self, encodings: Sequence[str] | None = None) -> bytes:
        """These bytes."""
        return bytes(self.original_string)


def readable_text(dataset: Dataset, keyword: str) -> str:
    """The (first) value of an element as text; question marks for bytes that its character set does not have."""
    value = dataset.get(keyword) or ""
    value = value[0] if isinstance(value, MultiValue) else value
    return value.decode("ascii", "replace").replace(UNDECODABLE, "?") if isinstance(value, bytes) else str(value)


def is_lossy_for_the_first_time(dataset: Dataset) -> bool:
    """Whether the encoding of a source has lost something that its header does not own up to."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    declared = str(dataset.get("LossyImageCompression", ""))
    return syntax in LOSSY_SYNTAXES and declared != "01" and not (syntax in EITHER_WAY and declared == "00")


def carry_lossy_history(dataset: Dataset, *, encoded_bytes: int) -> None:
    """What was once lossy stays so (PS3.3 C.7.6.1.1.5): 01 is never taken back.

    Args:
        dataset: with the file meta of the source; changed in place, as in all these rules.
        encoded_bytes: length of the source's pixel data.
    """
    if not is_lossy_for_the_first_time(dataset):
        return
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = LOSSY_SYNTAXES[syntax]
    frames = int(dataset.get("NumberOfFrames") or 1)
    raw = frames * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    dataset.LossyImageCompressionRatio = f"{raw / max(1, encoded_bytes):.4g}"


def leave_behind(dataset: Dataset, kept: frozenset[str]) -> None:
    """Remove what a derived object does not have: what describes the old pixels, private elements, group lengths.

    Args:
        dataset: changed in place.
        kept: private creators whose elements stay.
    """
    forget_old_pixels(dataset)
    drop_private(dataset, kept)
    drop_group_lengths(dataset)


def forget_old_pixels(dataset: Dataset) -> None:
    """Remove what describes the pixels of the source, and give padding values the representation of the pixels."""
    for keyword in DESCRIBES_OLD_PIXELS:
        if keyword in dataset:
            delattr(dataset, keyword)
    if isinstance(dataset.get("BitsStored"), int) and "HighBit" in dataset:
        dataset.HighBit = dataset.BitsStored - 1  # wherever the source had its bits
    for tag in sorted(dataset.keys()):
        if tag.group in range(0x5000, 0x5100) or tag.group in range(0x6000, 0x6100):  # curves and overlays
            del dataset[tag]
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if "PixelRepresentation" in dataset and keyword in dataset and isinstance(dataset[keyword].value, int):
            # Writers mix up US and SS; the bits are right, so only the representation is mended.
            vr, value = ("SS", (dataset[keyword].value + 0x8000) % 0x10000 - 0x8000)
            if dataset.PixelRepresentation == 0:
                vr, value = ("US", dataset[keyword].value % 0x10000)
            dataset[keyword] = DataElement(dataset[keyword].tag, vr, value)


def drop_group_lengths(dataset: Dataset) -> None:
    """Remove the lengths of groups at all levels: they went out of use (PS3.5 7.2), and would be wrong."""
    for tag in sorted(dataset.keys()):
        if tag.element == 0:
            del dataset[tag]
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            drop_group_lengths(item)


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


def turn_words(dataset: Dataset) -> None:
    """Give words that are bytes to pydicom, of a big-endian file, the order of the file that is written."""
    for element in dataset.iterall():
        if element.VR in WORDS and isinstance(element.value, bytes) and element.keyword != "PixelData":
            kind = f"u{WORDS[element.VR]}"
            element.value = np.frombuffer(element.value, f">{kind}").astype(f"<{kind}").tobytes()
