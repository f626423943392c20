"""From one file to one slice: read and decode it, or refuse it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.pixels.utils import iter_pixels, pixel_array

from iscl_monai.dicom.coded import check_coded, check_coded_frames
from iscl_monai.dicom.dataset import read_dataset
from iscl_monai.dicom.headers import SliceHeader, digest_of, header_of, refusing_malformed
from iscl_monai.dicom.stored import OF_STORED_VALUES, StoredSlice, stored_slice
from iscl_monai.errors import DicomRefusal


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


def load_slice(header: SliceHeader, *, digest: bytes | None = None) -> tuple[StoredSlice, pydicom.FileDataset]:
    """Read and decode one file.

    Args:
        header: the file's header, checked by :mod:`iscl_monai.dicom.rules`.
        digest: of the file when it was read before (:func:`iscl_monai.dicom.headers.digest_of`), if it was.

    Returns:
        The slice, and the whole data set as read, for whoever derives another object from it.

    Raises:
        DicomRefusal: a file that cannot be read any more or is another one now, and as :func:`read_slice`.
    """
    content = read_content(header)
    if digest is not None and digest_of(content) != digest:
        raise _changed(header, "when its pixels were read")
    return decode_slice(header, content)


def read_content(header: SliceHeader) -> bytes:
    """All bytes of a file whose header was read before.

    Raises:
        DicomRefusal: it cannot be read any more.
    """
    try:
        return header.path.read_bytes()
    except OSError as error:  # gone since the header was read
        raise _not_readable(header, error) from error


def decode_slice(header: SliceHeader, content: bytes) -> tuple[StoredSlice, pydicom.FileDataset]:
    """As :func:`load_slice`, for the bytes of a file that has been read."""
    try:
        dataset = read_dataset(BytesIO(content))
    except Exception as error:  # broken behind what was read of it
        raise _not_readable(header, error) from error
    dataset.buffer = None  # the bytes would be kept and copied as long as the data set is
    with refusing_malformed(header.path):
        if not _has_same_head(header, content) and _header_of_raw(header, dataset) != header:
            raise _changed(header, "when the folder was searched")
        return stored_slice(header, dataset, _decode(header, dataset)), dataset


def _has_same_head(header: SliceHeader, content: bytes) -> bool:
    """Whether every byte before the pixels is what it was when the header was read: quicker than to compare it."""
    length, digest = header.head or (0, b"")
    return header.head is not None and digest_of(memoryview(content)[:length]) == digest


def _header_of_raw(header: SliceHeader, dataset: pydicom.FileDataset) -> SliceHeader:
    """The header of a data set whose elements stay bytes: text is copied as it was, and not as it was understood."""
    elements: list[Any] = [dataset.get_item(tag) for tag in sorted(dataset.keys()) if not tag.is_private]
    found = header_of(header.path, dataset)
    for element in elements:
        if isinstance(element, RawDataElement):
            dataset[element.tag] = element
    return found


def _not_readable(header: SliceHeader, error: Exception) -> DicomRefusal:
    return DicomRefusal(
        header.path,
        tag="file",
        found=f"not readable ({_one_line(error)})",
        needed="the file that was there when the folder was searched",
        cure="copy it again",
    )


def _changed(header: SliceHeader, earlier: str) -> DicomRefusal:
    return DicomRefusal(
        header.path,
        tag="file",
        found=f"another one than {earlier}",
        needed="a folder that nobody changes meanwhile",
        cure="wait until it is complete, and start again",
    )


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
            yield stored_slice(header, dataset, _decoded(header, stored))
        if next(frames, None) is not None:
            raise _other_count(path, f"more than {count} frames", count)
    except DicomRefusal:
        raise
    except Exception as error:  # every decoder plugin fails in its own way
        raise _not_decodable(headers[0], dataset, error) from error


def load_frame(headers: Sequence[SliceHeader], index: int) -> StoredSlice:
    """Decode one frame of a multi-frame file.

    Args:
        headers: of all frames of that file, in their order.
        index: of the frame.

    Raises:
        DicomRefusal: as :func:`read_slice`.
    """
    header, dataset = headers[index], pydicom.Dataset()
    try:
        dataset = pydicom.dcmread(header.path, stop_before_pixels=True, specific_tags=list(OF_STORED_VALUES))
        check_coded_frames(headers)
        stored = pixel_array(header.path, index=index, correct_unused_bits=False)
        return stored_slice(header, dataset, _decoded(header, stored))
    except DicomRefusal:
        raise
    except Exception as error:  # every decoder plugin fails in its own way
        raise _not_decodable(header, dataset, error) from error


def _other_count(path: object, found: str, count: int) -> DicomRefusal:
    return DicomRefusal(
        path,
        tag="PixelData",
        found=f"{found} long",
        needed=f"{count} frames, as the header says",
        cure="copy the file again, or export it again",
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__
