"""Strips and tiles of TIFF, decoded and encoded: ZIP by zlib, LZW and PackBits by Pillow's libtiff, differences by us.

tifffile decodes LZW only with a package of many codecs. LZW and PackBits know nothing but bytes and rows, so a segment
is handed to libtiff as an 8-bit image of one strip; byte order and differences stay our own.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from iscl_monai.micrograph.grey import Stored

NONE, LZW, PACKBITS = 1, 5, 32773
DEFLATE = (8, 32946)
LIBTIFF = {LZW: "tiff_lzw", PACKBITS: "packbits"}
LOSSLESS = (NONE, *DEFLATE, *LIBTIFF)
"""Compressions (TIFF 6.0, sections 3, 9, 13; Adobe's supplement 2) that are read and written."""

LARGEST = 80_000_000
"""Bytes of a segment that libtiff is given; Pillow warns beyond 89 million."""

DIFFERENCES = 2
"""Predictor: each pixel less its left neighbour (TIFF 6.0, section 14)."""


def decoded(data: bytes, shape: tuple[int, int], dtype: np.dtype[Any], compression: int, predictor: int) -> Stored:
    """One strip or tile.

    Args:
        data: as it lies in the file.
        shape: rows, columns of it.
        dtype: with the file's byte order.
        compression: of :data:`LOSSLESS`.
        predictor: 1, or 2: differences.

    Raises:
        ValueError, OSError, zlib.error: damaged.
    """
    rows, columns = shape
    if compression in DEFLATE:
        data = zlib.decompress(data)
    elif compression != NONE:
        if rows * columns * dtype.itemsize > LARGEST:
            raise ValueError(f"a strip of more than {LARGEST // 10**6} million bytes in LZW or PackBits")
        with Image.open(BytesIO(_single_strip(data, rows, columns * dtype.itemsize, compression))) as image:
            data = np.asarray(image).tobytes()
    values = np.frombuffer(data, dtype, rows * columns).reshape(shape)
    if predictor != DIFFERENCES or compression == NONE:
        return values
    unsigned = values.astype(dtype.newbyteorder("=")).view(f"u{dtype.itemsize}")
    summed = np.cumsum(unsigned, axis=1, dtype=unsigned.dtype)  # wraps around, as the format wants
    restored: Stored = summed.view(dtype.newbyteorder("=")).astype(dtype)
    return restored


def encoded(values: Stored, compression: int, predictor: int) -> bytes:
    """The reverse of :func:`decoded`.

    Args:
        values: (row, column), with the file's byte order.
        compression: of :data:`LOSSLESS`.
        predictor: 1, or 2: differences.
    """
    if predictor == DIFFERENCES and compression != NONE:
        native = values.astype(values.dtype.newbyteorder("="))
        unsigned = native.view(f"u{native.dtype.itemsize}")
        differences = unsigned.copy()
        differences[:, 1:] = unsigned[:, 1:] - unsigned[:, :-1]
        values = differences.astype(differences.dtype.newbyteorder(values.dtype.byteorder))
    data = np.ascontiguousarray(values).tobytes()
    if compression in DEFLATE:
        return zlib.compress(data)
    if compression == NONE:
        return data
    picture = Image.fromarray(np.frombuffer(data, np.uint8).reshape(len(values), -1))
    file = BytesIO()
    picture.save(file, "TIFF", compression=LIBTIFF[compression], strip_size=len(data))
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        page: Any = tif.pages[0]
        (offset,), (size,) = page.dataoffsets, page.databytecounts
    return file.getvalue()[offset : offset + size]


def _single_strip(data: bytes, rows: int, columns: int, compression: int) -> bytes:
    """A TIFF file of 8 bits around one encoded strip; every entry is a LONG."""
    begin = 8
    tags = {256: columns, 257: rows, 258: 8, 259: compression, 262: 1, 273: begin, 277: 1, 278: rows, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    padded = data.ljust(len(data) + len(data) % 2, b"\0")
    header = struct.pack("<2sHI", b"II", 42, begin + len(padded))
    return header + padded + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
