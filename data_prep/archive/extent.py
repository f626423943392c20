"""Whether the pixels of a file are all there, without reading them: a copy cut short still has a whole header."""

from __future__ import annotations

import struct
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from iscl_monai.dicom.extent import PIXEL_DATA, pixel_extent
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader

_SIZES = ["Rows", "Columns", "BitsAllocated", "NumberOfFrames"]
_SEQUENCE_END = bytes.fromhex("feffdde000000000")


def lacks_pixels(header: SliceHeader, dataset: Dataset) -> bool:
    """Whether the pixel data of a single-frame image are absent, cut short or of another length than they must have.

    Args:
        header: of the file.
        dataset: what was read with it: BitsAllocated and the file's encoding.

    Returns:
        False also where that cannot be told: colour, no size, deflated. Other rules judge those.
    """
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    sized = header.rows and header.columns and dataset.get("BitsAllocated") and header.samples == 1
    if not sized or header.sop_class in MULTIFRAME_CT or syntax == DeflatedExplicitVRLittleEndian:
        return False
    try:
        with header.path.open("rb") as file:
            if _ends_as_most_do(file, header, dataset, compressed=bool(syntax and syntax.is_compressed)):
                return False
            file.seek(0)
            pixel_extent(file, pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_SIZES), header.path)
    except Exception:  # the refusal; whatever pydicom raises for what it could read a moment ago
        return True
    return False


def _ends_as_most_do(file: BinaryIO, header: SliceHeader, dataset: Dataset, *, compressed: bool) -> bool:
    """Whether the file ends with whole pixel data: one short read, where parsing again would double the time."""
    end = file.seek(0, 2)
    if compressed:
        file.seek(max(0, end - len(_SEQUENCE_END)))
        return file.read() == _SEQUENCE_END
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    length = (header.rows or 0) * (header.columns or 0) * header.frames * int(dataset.BitsAllocated) // 8
    length += length % 2
    head = file.seek(max(0, end - length - (8 if implicit else 12)))
    found = file.read(end - length - head)
    tag = struct.pack(f"{order}HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF)
    return found[:4] == tag and found[-4:] == struct.pack(f"{order}L", length)
