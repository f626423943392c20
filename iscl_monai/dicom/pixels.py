"""From one file to one slice: stored integers, Hounsfield units, and changed integers back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import iter_pixels, pixel_array

from iscl_monai.dicom.coded import check_coded, check_coded_frames
from iscl_monai.dicom.headers import SliceHeader, header_of, refusing_malformed
from iscl_monai.errors import DicomRefusal

OF_STORED_VALUES = ("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredSlice:
    """One slice as its file holds it.

    Attributes:
        stored: integers (row, column) as the pixel data has them.
        padded: bool (row, column), True where a pixel is padding (PixelPaddingValue to PixelPaddingRangeLimit,
            PS3.3 C.7.5.1.1.2); None when there is none.
        padding_range: lowest and highest stored value that means padding; None when the header names none.
        stored_range: lowest and highest value that BitsStored and PixelRepresentation can hold.
        slope: HU per stored unit, not 0.
        intercept: HU of the stored value 0.
    """

    stored: npt.NDArray[np.integer]
    padded: npt.NDArray[np.bool_] | None
    padding_range: tuple[int, int] | None
    stored_range: tuple[int, int]
    slope: float
    intercept: float

    def hu(self, out_hu: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """``stored * RescaleSlope + RescaleIntercept`` (PS3.3 C.11.1.1.2), float32, padding too.

        Args:
            out_hu: receives the values; a new array when None.
        """
        out_hu = np.empty(self.stored.shape, np.float32) if out_hu is None else out_hu
        np.multiply(self.stored, np.float32(self.slope), out=out_hu, casting="unsafe", dtype=np.float32)
        out_hu += np.float32(self.intercept)
        return out_hu

    def changed(self, change_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.integer]:
        """The stored integers after a change in HU, rounded to the nearest; no change gives them back bit for bit.

        Padding stays what it is, and no other pixel becomes padding: it stops beside those values, on the side it
        came from. Values stop at ``stored_range``.

        Args:
            change_hu: (row, column), finite; what to add.

        Returns:
            Integers of the same shape and type.
        """
        before = self.stored.astype(np.int64)
        after = before + np.rint(change_hu.astype(np.float64) / self.slope).astype(np.int64)
        after = after.clip(*self.stored_range)
        if self.padding_range is not None:
            lowest, highest = self.padding_range
            clash = (after >= lowest) & (after <= highest)
            after[clash] = np.where(before[clash] < lowest, lowest - 1, highest + 1)
        if self.padded is not None:
            after[self.padded] = before[self.padded]
        return after.astype(self.stored.dtype)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence pydicom, which warns about odd but harmless elements; what matters is checked and refused by us.

    Warning filters belong to the whole process, so this is for outermost functions, never for worker threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_slice(header: SliceHeader, out_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_] | None:
    """Decode one file and rescale it with its own slope and intercept (PS3.3 C.11.1.1.2).

    Args:
        header: the file's header, checked by :mod:`iscl_monai.dicom.rules`.
        out_hu: receives ``stored * RescaleSlope + RescaleIntercept``, shape (row, column), HU.

    Returns:
        True where a pixel is padding, same shape; None when there is none. Padding keeps its HU.

    Raises:
        DicomRefusal: pixels that cannot be decoded, are cut short, or lie outside BitsStored.
    """
    with without_warnings():
        slice_, _ = load_slice(header)
    slice_.hu(out_hu)
    return slice_.padded


def load_slice(header: SliceHeader) -> tuple[StoredSlice, pydicom.FileDataset]:
    """Decode one file.

    Args:
        header: the file's header, checked by :mod:`iscl_monai.dicom.rules`.

    Returns:
        The slice, and the whole data set as read, for whoever derives another object from it.

    Raises:
        DicomRefusal: a file that cannot be read any more, and as :func:`read_slice`.
    """
    try:
        dataset = pydicom.dcmread(header.path)
    except Exception as error:  # gone since the header was read, or broken behind what was read of it
        raise DicomRefusal(
            header.path,
            tag="file",
            found=f"not readable ({_one_line(error)})",
            needed="the file that was there when the folder was searched",
            cure="copy it again",
        ) from error
    with refusing_malformed(header.path):
        if header_of(header.path, dataset) != header:
            raise DicomRefusal(
                header.path,
                tag="file",
                found="another one than when the folder was searched",
                needed="a folder that nobody changes meanwhile",
                cure="wait until it is complete, and start again",
            )
        return _slice_of(header, dataset, _decode(header, dataset)), dataset


def stream_slices(headers: Sequence[SliceHeader]) -> Iterator[StoredSlice]:
    """Decode the frames of one multi-frame file one after the other; one frame is in memory at a time.

    Args:
        headers: of all frames of that file, in their order.

    Yields:
        One slice for each header.

    Raises:
        DicomRefusal: fewer or more frames than headers, and as :func:`read_slice`.
    """
    path, count = headers[0].path, len(headers)
    dataset: pydicom.Dataset = pydicom.Dataset()
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(OF_STORED_VALUES))
        check_coded_frames(headers)
        frames = iter_pixels(path, correct_unused_bits=False)
        for number, header in enumerate(headers, 1):
            stored = next(frames, None)
            if stored is None:
                raise _other_count(path, f"{number - 1} frames", count)
            yield _slice_of(header, dataset, _decoded(header, stored))
        if next(frames, None) is not None:
            raise _other_count(path, f"more than {count} frames", count)
    except DicomRefusal:
        raise
    except Exception as error:  # every decoder plugin fails in its own way
        raise _not_decodable(headers[0], dataset, error) from error


def _other_count(path: object, found: str, count: int) -> DicomRefusal:
    return DicomRefusal(
        path,
        tag="PixelData",
        found=f"{found} long",
        needed=f"{count} frames, as the header says",
        cure="copy the file again, or export it again",
    )


def _slice_of(header: SliceHeader, dataset: pydicom.Dataset, stored: npt.NDArray[np.integer]) -> StoredSlice:
    stored, stored_range = _within_bits(header, dataset, stored)
    padding_range = _padding_range(header, dataset, stored.dtype)
    padded: npt.NDArray[np.bool_] | None = None
    if padding_range is not None:
        padded = (stored >= padding_range[0]) & (stored <= padding_range[1])
    return StoredSlice(
        stored=stored,
        padded=padded if padded is not None and padded.any() else None,
        padding_range=padding_range,
        stored_range=stored_range,
        slope=header.slope or 1.0,
        intercept=header.intercept or 0.0,
    )


def _decode(header: SliceHeader, dataset: pydicom.Dataset) -> npt.NDArray[np.integer]:
    try:
        check_coded(header, dataset)
        # Unused bits are judged by us, not cut off.
        stored = pixel_array(dataset, correct_unused_bits=False)
    except DicomRefusal:
        raise
    except Exception as error:  # every decoder plugin fails in its own way
        raise _not_decodable(header, dataset, error) from error
    return _decoded(header, stored)


def _not_decodable(header: SliceHeader, dataset: pydicom.Dataset, error: Exception) -> DicomRefusal:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return DicomRefusal(
        header.path,
        tag="PixelData",
        found=f"not decodable ({getattr(syntax, 'name', 'no transfer syntax')}: {_one_line(error)})",
        needed=f"{header.rows}x{header.columns} whole pixels in a transfer syntax that can be decoded",
        cure="copy the file again, or export it uncompressed (Explicit VR Little Endian)",
    )


def _decoded(header: SliceHeader, stored: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    if stored.shape != (header.rows, header.columns) or stored.dtype.kind not in "iu":
        raise DicomRefusal(
            header.path,
            tag="PixelData",
            found=f"{stored.dtype} of shape {stored.shape}",
            needed=f"integers of shape ({header.rows}, {header.columns})",
            cure="export the series again",
        )
    return stored


def _within_bits(
    header: SliceHeader, dataset: pydicom.Dataset, stored: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.integer], tuple[int, int]]:
    """The pixels as BitsStored says (PS3.5 8.1.1) and its range, or a refusal when that would change what was meant.

    The bits above may repeat the sign or be zero. Anything else there is an overlay, or padding wider than
    BitsStored: cutting it off, as pydicom does by itself, turns padding of -2000 into tissue.
    """
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    found_lowest, found_highest = int(stored.min()), int(stored.max())
    high_bit = int(dataset.get("HighBit", bits - 1))
    if high_bit == bits - 1 and lowest <= found_lowest and found_highest <= highest:
        return stored, (lowest, highest)
    if high_bit == bits - 1 and signed and found_lowest >= 0 and found_highest < 1 << bits:
        spare = 8 * stored.dtype.itemsize - bits
        return (stored << spare) >> spare, (lowest, highest)  # zeros above: extend the sign
    raise DicomRefusal(
        header.path,
        tag="BitsStored",
        found=f"{bits} with HighBit {high_bit} and pixels {found_lowest} to {found_highest}",
        needed=f"HighBit {bits - 1} and pixels {lowest} to {highest}",
        cure="export the series again, without overlays in the pixel data",
    )


def _padding_range(
    header: SliceHeader, dataset: pydicom.Dataset, dtype: np.dtype[np.integer]
) -> tuple[int, int] | None:
    first = _stored_value(header, dataset, "PixelPaddingValue", dtype)
    if first is None:
        return None
    last = _stored_value(header, dataset, "PixelPaddingRangeLimit", dtype)
    last = first if last is None else last
    return min(first, last), max(first, last)


def _stored_value(
    header: SliceHeader, dataset: pydicom.Dataset, keyword: str, dtype: np.dtype[np.integer]
) -> int | None:
    """A stored value as the pixels would hold it: writers mix up US and SS, so only its bits count."""
    try:
        value = dataset.get(keyword)
    except Exception as error:  # pydicom converts on access, and a malformed element may raise nearly anything
        value = _one_line(error)
    if isinstance(value, bytes) and len(value) == 2:  # VR UN
        value = int.from_bytes(value, "little" if dataset.original_encoding[1] else "big")
    if value is None or value == "" or value == b"":
        return None
    if not isinstance(value, int):  # to leave it out would make tissue of padding
        raise DicomRefusal(
            header.path,
            tag=keyword,
            found=str(value)[:80],
            needed="one stored value, or no such element",
            cure="export the series again, or remove that element",
        )
    return int(np.array(value & ((1 << 8 * dtype.itemsize) - 1)).astype(f"u{dtype.itemsize}").astype(dtype))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__
