"""Where the pixels of a TIFF page lie in its file: a grid of strips or tiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iscl_monai.micrograph.file import refuse_unreadable
from iscl_monai.micrograph.tiff_codec import NONE


@dataclass(frozen=True, eq=False)
class Segments:
    """How one page lies in the file: a grid of strips (as wide as the image) or tiles.

    Attributes:
        offsets: of each, from the first row of the grid to the last.
        sizes: bytes of each, encoded.
        height: rows of each.
        width: columns of each.
        across: how many beside each other.
        tiled: tiles, all of full size, where the last strip is as high as the rows that are left.
        compression: 1 for none, see :mod:`iscl_monai.micrograph.tiff_codec`.
        predictor: 1, or 2: differences of neighbours.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    height: int
    width: int
    across: int
    tiled: bool
    compression: int
    predictor: int

    @property
    def plain(self) -> bool:
        """Uncompressed strips: rows lie one behind the other, and any of them can be read or written alone."""
        return not self.tiled and self.compression == NONE


@dataclass(frozen=True, eq=False)
class Source:
    """A file to copy: ``pages`` of one size and type, with the file's byte order."""

    path: Path
    columns: int
    rows: int
    dtype: np.dtype[Any]
    pages: tuple[Segments, ...]


def segments_of(path: Path, page: Any) -> Segments:
    """The grid of one page.

    Args:
        path: of the file, for the message.
        page: a ``tifffile.TiffPage`` of an open file.

    Raises:
        ImageRefusal: strips or tiles are missing, or too short.
    """
    rows, columns = page.shape
    height, width = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, rows) or rows, columns)
    )
    across, down = -(-columns // width), -(-rows // height)
    offsets, sizes = tuple(map(int, page.dataoffsets)), tuple(map(int, page.databytecounts))
    if not len(offsets) == len(sizes) == across * down or not all(sizes):
        refuse_unreadable(path, "TIFF", EOFError(f"{len(offsets)} of {across * down} strips or tiles are there"))
    if page.compression == NONE:
        full = [height if page.is_tiled else min(height, rows - line * height) for line in range(down)]
        needed = tuple(lines * width * page.dtype.itemsize for lines in full for _ in range(across))
        if any(size < least for size, least in zip(sizes, needed, strict=True)):
            refuse_unreadable(path, "TIFF", EOFError("a strip or tile is shorter than its rows"))
        sizes = needed
    return Segments(
        offsets, sizes, height, width, across, bool(page.is_tiled), int(page.compression), int(page.predictor)
    )
