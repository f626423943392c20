"""How long the pixel data of a file are, without reading them: what is cut short is refused before it is decoded.

Some decoders fill up a frame whose end is missing, so this cannot be left to them.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.dataset import Dataset

from iscl_monai.errors import DicomRefusal

PIXEL_DATA = 0x7FE00010
ITEM = 0xFFFEE000
SEQUENCE_END = 0xFFFEE0DD
UNDEFINED_LENGTH = 0xFFFFFFFF


def pixel_extent(file: BinaryIO, dataset: Dataset, path: object) -> int:
    """Length of the pixel data, encoded as they are, in bytes; all of them are there.

    Args:
        file: open at the end of what precedes the pixel data.
        dataset: what was read so far.
        path: names the file.

    Raises:
        DicomRefusal: no pixel data, another length than the header says (native), or no end (encapsulated).
    """
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    tag, length = _head(file, order, long_form=not implicit)
    if tag != PIXEL_DATA:
        raise _wrong(path, "absent", "integer pixels")
    start = file.tell()
    left = file.seek(0, 2) - start
    if length == UNDEFINED_LENGTH:
        file.seek(start)
        if not _ends(file):
            raise _wrong(path, f"{left} bytes long, without an end", "whole encapsulated pixels")
        return left
    sizes = [int(dataset.get(keyword) or 0) for keyword in ("Rows", "Columns", "BitsAllocated")]
    expected = int(dataset.get("NumberOfFrames") or 1) * sizes[0] * sizes[1] * sizes[2] // 8
    if length not in (expected, expected + expected % 2) or left < length:
        raise _wrong(path, f"{min(length, left)} bytes long", f"{expected} bytes for all frames")
    return length


def _head(file: BinaryIO, order: str, *, long_form: bool) -> tuple[int, int]:
    """Tag and length of the next element; zeros at the end of the file (PS3.5 7.1)."""
    head = file.read(12 if long_form else 8)
    if len(head) < (12 if long_form else 8):
        return 0, 0
    group, element = struct.unpack(f"{order}HH", head[:4])
    return group << 16 | element, int(struct.unpack(f"{order}L", head[-4:])[0])


def _ends(file: BinaryIO) -> bool:
    """Whether fragments follow one another up to the end of their sequence (PS3.5 A.4)."""
    tag, length = _head(file, "<", long_form=False)
    while tag == ITEM:
        file.seek(length, 1)
        tag, length = _head(file, "<", long_form=False)
    return tag == SEQUENCE_END


def _wrong(path: object, found: str, needed: str) -> DicomRefusal:
    return DicomRefusal(path, tag="PixelData", found=found, needed=needed, cure="copy the file again from the source")
