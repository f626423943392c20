"""TIFF and BigTIFF: images and stacks of strips or tiles, read row by row where they lie in the file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import tifffile

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph.file import MicrographCopy, MicrographFile, check_file, refuse_unreadable
from iscl_monai.micrograph.grey import Stored, check_dtype
from iscl_monai.micrograph.tiff_codec import LOSSLESS, decoded
from iscl_monai.micrograph.tiff_segments import Segments, Source, segments_of
from iscl_monai.micrograph.tiff_tags import check_description, sizes_of
from iscl_monai.micrograph.tiff_write import TiffCopy

JPEG = (6, 7, 33003, 33004, 33005, 33007, 34712, 34887, 34892, 34934, 50001, 50002, 52546)
"""What may have changed pixels: JPEG, JPEG 2000, JPEG XR, JPEG XL, LERC, WebP."""

GREY_CURE = "save the grey channel alone, e.g. Image > Type > 8-bit or 16-bit of ImageJ"


class TiffFile(MicrographFile):
    """One TIFF file (TIFF 6.0, BigTIFF).

    Args:
        path: the file.

    Raises:
        ImageRefusal: whatever is no plain grey image or stack of such; each reason with its cure.
    """

    kind = "TIFF"

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        try:
            with tifffile.TiffFile(path) as tif:
                pages: list[Any] = list(tif.pages)
                for page in pages:
                    _check_page(path, page)
                _check_alike(path, pages)
                check_description(path, tif, len(pages))
                self.description = str(pages[0].description)
                self.pages = tuple(segments_of(path, page) for page in pages)
                self.pixel_size_nm, self.spacing_nm = sizes_of(tif)
                self.dtype = pages[0].dtype.newbyteorder(tif.byteorder)
        except ImageRefusal:
            raise
        except Exception as error:  # tifffile raises nearly anything for damaged files
            refuse_unreadable(path, self.kind, error)
        self.sections = len(pages)
        self.rows, self.columns = pages[0].shape
        self._check_places()

    def read(self, section: int, top: int, bottom: int) -> Stored:
        """See the base class."""
        segments = self.pages[section]
        try:
            rows = np.empty((bottom - top, self.columns), self.dtype)
            with self.path.open("rb") as file:
                for line in range(top // segments.height, -(-bottom // segments.height)):
                    self._read_line(file, segments, line, top, rows)
        except Exception as error:  # as above
            refuse_unreadable(self.path, self.kind, error)
        return rows

    def _read_line(self, file: BinaryIO, segments: Segments, line: int, top: int, rows: Stored) -> None:
        """What a horizontal line of segments gives to ``rows``, which begin at row ``top`` of the image."""
        begin = line * segments.height
        first, last = max(begin, top), min(begin + segments.height, top + len(rows), self.rows)
        into = rows[first - top : last - top]
        if segments.plain:  # a strip may be as high as the image: only what is wanted
            row_bytes = self.columns * self.dtype.itemsize
            file.seek(segments.offsets[line] + (first - begin) * row_bytes)
            into[:] = np.frombuffer(file.read(into.nbytes), self.dtype).reshape(into.shape)
            return
        height = segments.height if segments.tiled else min(segments.height, self.rows - begin)
        for column in range(segments.across):
            index = line * segments.across + column
            left, right = column * segments.width, min((column + 1) * segments.width, self.columns)
            file.seek(segments.offsets[index])
            data, shape = file.read(segments.sizes[index]), (height, segments.width)
            values = decoded(data, shape, self.dtype, segments.compression, segments.predictor)
            into[:, left:right] = values[first - begin : last - begin, : right - left]

    def copy(self, destination: Path, note: str) -> MicrographCopy:
        """See the base class."""
        return TiffCopy(Source(self.path, self.columns, self.rows, self.dtype, self.pages), destination, note)

    def _check_places(self) -> None:
        """Refuse a file that is cut short, or in which two segments share bytes: one would overwrite the other."""
        length = self.path.stat().st_size
        places = sorted(
            (offset, offset + size)
            for page in self.pages
            for offset, size in zip(page.offsets, page.sizes, strict=True)
        )
        if places[-1][1] > length or places[0][0] == 0:
            refuse_unreadable(self.path, self.kind, EOFError("strips or tiles are missing, or it ends early"))
        for (_, end), (begin, _) in pairwise(places):
            if begin < end:
                refuse_unreadable(self.path, self.kind, ValueError("two strips or tiles share bytes"))


def _refuse(path: Path, came: str, allowed: str, cure: str) -> NoReturn:
    raise ImageRefusal(f"{path}: {came}", allowed=allowed, cure=cure)


def _check_page(path: Path, page: Any) -> None:
    photometric = int(page.photometric)
    colours = {2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 32803: "a colour filter array"}
    if page.compression in JPEG:
        name = getattr(page.compression, "name", page.compression)
        _refuse(path, f"{name} compression", "pixels as they were taken", "export it again, uncompressed or as ZIP")
    if photometric in colours or page.samplesperpixel != 1 or page.extrasamples:
        came = colours.get(photometric, f"{page.samplesperpixel} samples per pixel")
        _refuse(path, came + (" with alpha" if page.extrasamples else ""), "one grey channel", GREY_CURE)
    if photometric == 0:
        _refuse(path, "0 is white (MinIsWhite)", "0 is black", "invert and save it, e.g. Image > Lookup Tables > Grays")
    if photometric != 1:
        _refuse(path, f"photometric interpretation {photometric}", "grey, 0 is black", GREY_CURE)
    if page.subifds or page.is_reduced:
        _refuse(path, "a pyramid or thumbnails", "full resolution alone", "export the full resolution only")
    if page.imagedepth != 1:
        _refuse(path, "volumetric tiles", "one page per section", "export it as a stack")
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64, 128):
        _refuse(path, f"{page.bitspersample} bits per pixel", "8 or 16 bits", "save it with 8 or 16 bits")
    check_dtype(path, page.dtype)
    if page.fillorder != 1 or page.predictor not in (1, 2) or page.compression not in LOSSLESS:
        name = getattr(page.compression, "name", page.compression)
        _refuse(path, f"compression {name}", "none, ZIP, LZW or PackBits", "save it uncompressed, e.g. tiffcp -c none")


def _check_alike(path: Path, pages: list[Any]) -> None:
    first = pages[0]
    for number, page in enumerate(pages):
        for name, one, other in (("size", first.shape, page.shape), ("type", first.dtype, page.dtype)):
            if one != other:
                _refuse(
                    path, f"{name} {one} in page 0, {other} in page {number}", "pages alike", "save each kind by itself"
                )
