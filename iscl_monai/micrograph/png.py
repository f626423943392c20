"""PNG: grey images of 8 or 16 bits, one per file, decoded as a whole."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph.file import (
    MicrographCopy,
    MicrographFile,
    check_file,
    plausible_pixel_size,
    refuse_unreadable,
)
from iscl_monai.micrograph.grey import Stored

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = {2: "RGB", 3: "a palette", 4: "grey with alpha", 6: "RGBA"}
LARGEST = 80_000_000
"""Pixels of an image that is decoded as a whole; Pillow warns beyond 89 million."""

Chunk = tuple[bytes, bytes]


class PngFile(MicrographFile):
    """One PNG file (ISO/IEC 15948).

    Args:
        path: the file.

    Raises:
        ImageRefusal: colours, a palette, alpha, animation, other than 8 or 16 bits, or more than 80 million pixels.
    """

    kind = "PNG"
    sections = 1
    spacing_nm = None

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        try:
            chunks = list(_chunks(path.read_bytes()))
            named = dict(reversed(chunks))  # the first of each name
            self.columns, self.rows, bits, colour = struct.unpack(">IIBB", named[b"IHDR"][:10])
        except (OSError, ValueError, KeyError, struct.error) as error:
            refuse_unreadable(path, self.kind, error)
        _check_grey(path, bits, colour, named)
        if self.rows * self.columns > LARGEST:
            raise ImageRefusal(
                f"{path}: {self.rows} x {self.columns} pixels, of which no part can be read alone",
                allowed=f"PNG of at most {LARGEST // 10**6} million pixels",
                cure="save it as TIFF, which is read by strips or tiles",
            )
        self.dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        self.pixel_size_nm = _pixel_size(named.get(b"pHYs", b""))
        self.ancillary = tuple(one for one in chunks if one[0] not in (b"IHDR", b"IDAT", b"IEND"))
        texts = (data for name, data in self.ancillary if name == b"tEXt")
        self.description = b"\n".join(texts).decode("latin-1")
        self.read(0, 0, 1)  # decodes all of it: a damaged file is refused now

    def read(self, section: int, top: int, bottom: int) -> Stored:
        """See the base class."""
        try:
            image = _decoded(self.path, os.stat(self.path).st_mtime_ns)
        except Exception as error:  # Pillow raises nearly anything
            refuse_unreadable(self.path, self.kind, error)
        if image.shape != (self.rows, self.columns) or image.dtype != self.dtype:
            raise ImageRefusal(f"{self.path}: another image than before", allowed="one", cure="read it again")
        return image[top:bottom]

    def copy(self, destination: Path, note: str) -> MicrographCopy:
        """See the base class."""
        return _PngCopy(self, destination, note)


class _PngCopy(MicrographCopy):
    """The image is collected, encoded by Pillow, and gets the chunks of its source."""

    def __init__(self, source: PngFile, destination: Path, note: str) -> None:
        self._destination = destination
        self._stored = np.zeros((source.rows, source.columns), source.dtype)
        self._chunks = (*source.ancillary, (b"tEXt", b"Comment\0" + note.encode("ascii", "replace")))

    def write(self, section: int, top: int, stored: Stored) -> None:
        self._stored[top : top + len(stored)] = stored

    def finish(self) -> None:
        encoded = BytesIO()
        Image.fromarray(self._stored).save(encoded, "PNG")
        pixels = [one for one in _chunks(encoded.getvalue()) if one[0] in (b"IHDR", b"IDAT", b"IEND")]
        with self._destination.open("xb") as file:
            file.write(SIGNATURE)
            for name, data in (pixels[0], *self._chunks, *pixels[1:]):
                file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is open."""


@lru_cache(maxsize=1)  # rows are asked for band by band
def _decoded(path: Path, modified: int) -> Stored:
    with Image.open(path, formats=("PNG",)) as image:
        decoded = np.asarray(image)
    decoded.setflags(write=False)
    return decoded


def _chunks(content: bytes) -> Iterator[Chunk]:
    """Name and data of each chunk.

    Raises:
        ValueError: no PNG, cut short, or damaged.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("it does not begin as a PNG file")
    place = len(SIGNATURE)
    while True:
        if place + 12 > len(content):
            raise ValueError("it ends early")
        length, name = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + length]
        checksum = content[place + 8 + length : place + 12 + length]
        if len(checksum) < 4 or struct.unpack(">I", checksum)[0] != zlib.crc32(name + data):
            raise ValueError(f"its chunk {name.decode('ascii', 'replace')} is damaged")
        yield name, data
        if name == b"IEND":
            return
        place += 12 + length


def _check_grey(path: Path, bits: int, colour: int, named: dict[bytes, bytes]) -> None:
    if colour in COLOURS or b"tRNS" in named:
        raise ImageRefusal(
            f"{path}: {COLOURS.get(colour, 'grey with transparency')}",
            allowed="one grey channel",
            cure="save the grey channel alone, e.g. Image > Type > 8-bit of ImageJ",
        )
    if bits not in (8, 16):
        raise ImageRefusal(f"{path}: {bits} bits per pixel", allowed="8 or 16 bits", cure="save it with 8 bits")
    if b"acTL" in named:
        raise ImageRefusal(f"{path}: an animation", allowed="one image per PNG", cure="save it as a TIFF stack")


def _pixel_size(physical: bytes) -> tuple[float, float] | None:
    """Of the chunk pHYs, which counts pixels per metre."""
    if len(physical) != 9:
        return None
    across, down, unit = struct.unpack(">IIB", physical)
    return plausible_pixel_size(1e9 / down, 1e9 / across) if unit == 1 and across and down else None
