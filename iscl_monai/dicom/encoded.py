"""A data set as the bytes of a file, and such bytes taken apart into elements: Explicit VR Little Endian."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from iscl_monai.dicom.extent import ITEM, PIXEL_DATA, SEQUENCE_END, UNDEFINED_LENGTH

LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Whose length takes four bytes (PS3.5 7.1.2)."""
ITEM_END = 0xFFFEE00D
PREAMBLE = 128
META_GROUP = 0x0002


class NotSplittableError(ValueError):
    """Bytes that are no data set of Explicit VR Little Endian."""


def encode(dataset: Dataset) -> bytes:
    """The bytes of a file in Explicit VR Little Endian.

    Raises:
        Exception: whatever pydicom's writers raise for a value that cannot be encoded.
    """
    file = BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return file.getvalue()


def encode_pixels(pixels: bytes) -> bytes:
    """Native pixel data as an element of VR OW; an odd number of bytes is filled up with a zero."""
    pixels += b"\0" * (len(pixels) % 2)
    return struct.pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, b"OW", 0, len(pixels)) + pixels


def split(encoded: bytes) -> tuple[bytes, dict[int, bytes]]:
    """The bytes of a file taken apart.

    Args:
        encoded: of :func:`encode`.

    Returns:
        Everything before the data set (preamble, prefix, file meta information), and each element by its tag, as
        encoded, in the order of the file.

    Raises:
        NotSplittableError: what :func:`encode` does not make.
    """
    begin, elements = PREAMBLE + 4, dict[int, bytes]()
    for tag, start, end in _elements(encoded, begin, len(encoded)):
        if tag >> 16 == META_GROUP:
            begin = end
        else:
            elements[tag] = encoded[start:end]
    return encoded[:begin], elements


def _elements(encoded: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, begin and end of the elements one after the other; ends before the delimiter of an item."""
    while at < end:
        tag = _tag(encoded, at)
        if tag == ITEM_END:
            return
        value_at, length = _extent(encoded, at)
        after = _end_of_sequence(encoded, value_at) if length == UNDEFINED_LENGTH else value_at + length
        if after > len(encoded):
            raise NotSplittableError(f"{tag:08x} ends behind the data set")
        yield tag, at, after
        at = after


def _extent(encoded: bytes, at: int) -> tuple[int, int]:
    """Where the value of an element begins, and its length."""
    vr = encoded[at + 4 : at + 6]
    if vr not in LONG_VRS:
        return at + 8, int(struct.unpack_from("<H", encoded, at + 6)[0])
    return at + 12, int(struct.unpack_from("<L", encoded, at + 8)[0])


def _end_of_sequence(encoded: bytes, at: int) -> int:
    """The end of a sequence of unknown length, of items or fragments, behind its delimiter (PS3.5 7.5, A.4)."""
    while (tag := _tag(encoded, at)) == ITEM:
        length = int(struct.unpack_from("<L", encoded, at + 4)[0])
        at += 8
        if length != UNDEFINED_LENGTH:
            at += length
            continue
        for _, _, end in _elements(encoded, at, len(encoded)):
            at = end
        if _tag(encoded, at) != ITEM_END:
            raise NotSplittableError("an item without an end")
        at += 8
    if tag != SEQUENCE_END:
        raise NotSplittableError("a sequence without an end")
    return at + 8


def _tag(encoded: bytes, at: int) -> int:
    if at + 8 > len(encoded):
        raise NotSplittableError("an element without a length")
    group, element = struct.unpack_from("<HH", encoded, at)
    return int(group) << 16 | int(element)
