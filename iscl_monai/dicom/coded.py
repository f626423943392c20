"""The size of the image that a compressed stream says it holds: decoders believe it, and take memory for it first."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence

import pydicom
from pydicom.encaps import generate_frames
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal

PIXEL_DATA, PIXEL_DATA_AS_READ = 0x7FE00010, 0x00107FE0  # and as its bytes make a number, group before element
START_OF_SCAN = 0xDA
NO_FRAME = (0xC4, 0xC8, 0xCC)  # tables, among the markers of frames (ITU-T T.81, B.1)
J2K_SIZE = b"\xff\x4f\xff\x51"  # start of codestream and its SIZ (ITU-T T.800, A.5.1)


def check_coded(header: SliceHeader, dataset: pydicom.Dataset) -> None:
    """Refuse pixels that would be decoded into more than the header says.

    Args:
        header: of a file with one frame.
        dataset: all of it.

    Raises:
        DicomRefusal: they would.
    """
    if _is_coded(dataset):
        offsets = _offsets(dataset)
        _check(header, generate_frames(dataset.PixelData, number_of_frames=1, extended_offsets=offsets))


def check_coded_frames(headers: Sequence[SliceHeader]) -> None:
    """The same for a file with many frames, one of which is in memory at a time.

    Args:
        headers: of all frames.
    """
    with headers[0].path.open("rb") as file:
        dataset = read_partial(file, stop_when=lambda tag, *_: bool(tag >= PIXEL_DATA), defer_size=2**16)
        if _is_coded(dataset) and int.from_bytes(file.read(4), "little") == PIXEL_DATA_AS_READ:
            file.seek(8, os.SEEK_CUR)
            offsets = _offsets(dataset)
            _check(headers[0], generate_frames(file, number_of_frames=len(headers), extended_offsets=offsets))


def _is_coded(dataset: pydicom.Dataset) -> bool:
    syntax = dataset.file_meta.TransferSyntaxUID
    return bool(syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian)


def _offsets(dataset: pydicom.Dataset) -> tuple[bytes, bytes] | None:
    found = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return found if all(found) else None


def _check(header: SliceHeader, frames: Iterable[bytes]) -> None:
    other = other_size(frames, header.rows or 0, header.columns or 0)
    if other:
        raise DicomRefusal(
            header.path,
            tag="PixelData",
            found=f"a compressed image of {other}",
            needed=f"{header.rows}x{header.columns} with 1 component, as the header says",
            cure="export the series again",
        )


def other_size(streams: Iterable[bytes], rows: int, columns: int) -> str:
    """What the first stream that is not of this size says it is; "" when none says so.

    A stream of a kilobyte can say that it holds 65535x65535 pixels, or the like of it in components.

    Args:
        streams: JPEG, JPEG-LS or JPEG 2000, one for each frame; one that is none of these says nothing.
        rows: that the header tells.
        columns: that the header tells.
    """
    for stream in streams:
        for found in _sizes(stream):
            if found != (rows, columns, 1):
                return "{}x{} with {} component(s)".format(*found)
    return ""


def _sizes(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Rows, columns and components of everything that a decoder could take for the image."""
    if stream.startswith(b"\xff\xd8"):
        yield from _of_jpeg(stream)
    at = stream.find(J2K_SIZE)  # JP2 has boxes before it; the bytes cannot be part of coded pixels
    while at >= 0:
        yield _of_jpeg_2000(stream[at + 4 :])
        at = stream.find(J2K_SIZE, at + 4)


def _of_jpeg_2000(siz: bytes) -> tuple[int, int, int]:
    _, _, right, bottom, left, top, *_, components = struct.unpack(">HHIIIIIIIIH", siz[:38])
    return bottom - top, right - left, components


def _of_jpeg(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each frame header before the first scan."""
    at = 2
    while (at := stream.find(b"\xff", at)) >= 0:
        marker = stream[at + 1 : at + 2]
        kind = marker[0] if marker else START_OF_SCAN
        if kind == START_OF_SCAN:
            return
        if kind in (0xFF, 0x00, 0x01) or 0xD0 <= kind <= 0xD9:  # fillers, and markers without a segment
            at += 1 if kind == 0xFF else 2
            continue
        if (0xC0 <= kind <= 0xCF and kind not in NO_FRAME) or kind == 0xF7:  # 0xF7: JPEG-LS (ITU-T T.87)
            _, _, rows, columns, components = struct.unpack(">HBHHB", stream[at + 2 : at + 10])
            yield rows, columns, components
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
