"""A TIFF file with other pixels: the source byte for byte, its strips or tiles replaced where they lie.

So every tag stays, also those that nobody here knows; so do byte order, BigTIFF and compression. A compressed segment
that has grown moves to the end of the file; the bytes of the old pixels are overwritten in any case.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from iscl_monai.errors import OutputRefusal
from iscl_monai.micrograph.file import MicrographCopy
from iscl_monai.micrograph.grey import Stored
from iscl_monai.micrograph.tiff_codec import encoded
from iscl_monai.micrograph.tiff_segments import Segments, Source
from iscl_monai.micrograph.tiff_tags import described

IMAGE_DESCRIPTION = 270
ASCII = 2
TABLES = {False: (273, 279), True: (324, 325)}
"""Tags of offsets and sizes: of strips, of tiles."""


class TiffCopy(MicrographCopy):
    """A copy in the making.

    Args:
        source: the file.
        destination: a name that is free.
        note: for the image description.
    """

    def __init__(self, source: Source, destination: Path, note: str) -> None:
        self._source = source
        self._destination = destination
        self._note = note
        shutil.copyfile(source.path, destination)
        self._file: BinaryIO = destination.open("r+b")
        self._moved: dict[int, tuple[list[int], list[int]]] = {}
        self._line: Stored | None = None

    def write(self, section: int, top: int, stored: Stored) -> None:
        """Rows go straight into plain strips; others are collected until a line of segments is complete."""
        segments, source = self._source.pages[section], self._source
        if segments.plain:
            self._write_strips(segments, top, stored)
            return
        for row, values in enumerate(stored, top):
            line, within = divmod(row, segments.height)
            if within == 0:
                self._line = np.zeros((segments.height, segments.across * segments.width), source.dtype)
            if self._line is None:
                raise AssertionError(f"row {row} before the first of its line")
            self._line[within, : source.columns] = values
            if within == segments.height - 1 or row == source.rows - 1:
                kept = segments.height if segments.tiled else within + 1
                self._write_line(section, line, self._line[:kept])
                self._line = None

    def _write_strips(self, segments: Segments, top: int, stored: Stored) -> None:
        row_bytes = self._source.columns * self._source.dtype.itemsize
        done = 0
        while done < len(stored):
            strip, within = divmod(top + done, segments.height)
            count = min(segments.height - within, len(stored) - done)
            self._file.seek(segments.offsets[strip] + within * row_bytes)
            self._file.write(np.ascontiguousarray(stored[done : done + count], self._source.dtype).tobytes())
            done += count

    def _write_line(self, section: int, line: int, rows: Stored) -> None:
        segments = self._source.pages[section]
        for column in range(segments.across):
            tile = rows[:, column * segments.width : (column + 1) * segments.width]
            self._place(
                section, line * segments.across + column, encoded(tile, segments.compression, segments.predictor)
            )

    def _place(self, section: int, index: int, data: bytes) -> None:
        """Where the old segment was if it fits, else at the end; nothing of the old one stays."""
        segments = self._source.pages[section]
        offset, size = segments.offsets[index], segments.sizes[index]
        fits = len(data) <= size
        self._file.seek(offset)
        self._file.write((data if fits else b"").ljust(size, b"\0"))
        if not fits:
            offset = self._append(data)
        if (offset, len(data)) != (segments.offsets[index], size):
            tables = self._moved.setdefault(section, (list(segments.offsets), list(segments.sizes)))
            tables[0][index], tables[1][index] = offset, len(data)

    def _append(self, data: bytes) -> int:
        end = self._file.seek(0, os.SEEK_END)
        end += self._file.write(b"\0" * (-end % 8))  # offsets are even, of BigTIFF multiples of 8
        self._file.write(data)
        return end

    def finish(self) -> None:
        """See the base class."""
        self._file.flush()
        try:
            with tifffile.TiffFile(self._destination, mode="r+") as tif:
                for section, tables in self._moved.items():
                    page: Any = tif.pages[section]
                    for code, values in zip(TABLES[page.is_tiled], tables, strict=True):
                        dtype = "Q" if tif.is_bigtiff else "I"
                        page.tags[code].overwrite(values, dtype=dtype)
                layout, first = _Layout.of(tif), int(tif.pages[0].offset)
            self._describe(layout, first)
            if not layout.big and self._file.seek(0, os.SEEK_END) > 0xFFFFFFFF:
                raise struct.error("4 GiB")
        except struct.error as error:
            raise OutputRefusal(
                f"{self._destination}: more than the 4 GiB of a TIFF file", allowed="BigTIFF", cure="save it as BigTIFF"
            ) from error
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """See the base class."""
        self._file.close()

    def _describe(self, layout: _Layout, first: int) -> None:
        """Give the first page another list of tags, the same but for its image description, at the end of the file."""
        order, entry = layout.order, layout.entry
        self._file.seek(first)
        count = struct.unpack(order + layout.count, self._file.read(struct.calcsize(layout.count)))[0]
        entries = [self._file.read(struct.calcsize(order + entry)) for _ in range(count)]
        following = self._file.read(struct.calcsize(layout.pointer))
        old, others = b"", []
        for one in entries:
            code, _, length, value = struct.unpack(order + entry, one)
            if code != IMAGE_DESCRIPTION:
                others.append((code, one))
            elif not old:
                old = self._text(length, value, layout)
        text = (
            described(old.rstrip(b"\0"), self._note, name=self._destination.name).ljust(8, b" ") + b"\0"
        )  # too long to stand in the entry itself
        place = struct.pack(order + layout.pointer, self._append(text))
        mine = struct.pack(order + entry, IMAGE_DESCRIPTION, ASCII, len(text), place)
        listed = [one for _, one in sorted([*others, (IMAGE_DESCRIPTION, mine)])]
        begin = self._append(struct.pack(order + layout.count, len(listed)) + b"".join(listed) + following)
        self._file.seek(layout.first_pointer)
        self._file.write(struct.pack(order + layout.pointer, begin))

    def _text(self, length: int, value: bytes, layout: _Layout) -> bytes:
        if length <= len(value):
            return value[:length]
        here = self._file.tell()
        self._file.seek(struct.unpack(layout.order + layout.pointer, value)[0])
        text = self._file.read(length)
        self._file.seek(here)
        return text


class _Layout:
    """Sizes of the fields of a tag list (TIFF 6.0, section 2; BigTIFF: the wider ones)."""

    def __init__(self, order: str, *, big: bool) -> None:
        self.order = order
        self.big = big
        self.count = "Q" if big else "H"
        self.entry = "HHQ8s" if big else "HHI4s"
        self.pointer = "Q" if big else "I"
        self.first_pointer = 8 if big else 4

    @classmethod
    def of(cls, tif: Any) -> _Layout:
        return cls(tif.byteorder, big=bool(tif.is_bigtiff))
