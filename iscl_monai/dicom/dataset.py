"""A data set read from a file, whether or not it has the header of a DICOM file."""

from __future__ import annotations

from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from iscl_monai.dicom.elements import text_of

LONGEST_FIRST_VALUE = 256
"""Bytes of the first element of a data set: a group length, ImageType or a character set."""


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
