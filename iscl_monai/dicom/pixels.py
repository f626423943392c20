"""From one file to one slice in Hounsfield units."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import pixel_array

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal


def read_slice(header: SliceHeader, out_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_] | None:
    """Decode one file and rescale it with its own slope and intercept (PS3.3 C.11.1.1.2).

    Args:
        header: the file's header, checked by :mod:`iscl_monai.dicom.rules`.
        out_hu: receives ``stored * RescaleSlope + RescaleIntercept``, shape (row, column), HU.

    Returns:
        True where a pixel is padding (PixelPaddingValue to PixelPaddingRangeLimit, PS3.3 C.7.5.1.1.2),
        same shape; None when there is none. Padding keeps its HU.

    Raises:
        DicomRefusal: pixels that cannot be decoded, are cut short, or lie outside BitsStored.
    """
    with warnings.catch_warnings():
        # pydicom warns about odd but harmless elements; a short or long pixel element is checked below.
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(header.path)
        stored = _within_bits(header, dataset, _decode(header, dataset))
        padded = _padding(dataset, stored)
    slope, intercept = header.slope or 1.0, header.intercept or 0.0
    np.multiply(stored, np.float32(slope), out=out_hu, casting="unsafe", dtype=np.float32)
    out_hu += np.float32(intercept)
    return padded


def _decode(header: SliceHeader, dataset: pydicom.Dataset) -> npt.NDArray[np.integer]:
    try:
        # Unused bits are judged by us, not cut off.
        stored = pixel_array(dataset, correct_unused_bits=False)
    except Exception as error:  # every decoder plugin fails in its own way
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        raise DicomRefusal(
            header.path,
            tag="PixelData",
            found=f"not decodable ({getattr(syntax, 'name', 'no transfer syntax')}: {_one_line(error)})",
            needed=f"{header.rows}x{header.columns} whole pixels in a transfer syntax that can be decoded",
            cure="copy the file again, or export it uncompressed (Explicit VR Little Endian)",
        ) from error
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
) -> npt.NDArray[np.integer]:
    """The pixels as BitsStored says (PS3.5 8.1.1), or a refusal when that would change what was meant.

    The bits above may repeat the sign or be zero. Anything else there is an overlay, or padding wider than
    BitsStored: cutting it off, as pydicom does by itself, turns padding of -2000 into tissue.
    """
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    found_lowest, found_highest = int(stored.min()), int(stored.max())
    high_bit = int(dataset.get("HighBit", bits - 1))
    if high_bit == bits - 1 and lowest <= found_lowest and found_highest <= highest:
        return stored
    if high_bit == bits - 1 and signed and found_lowest >= 0 and found_highest < 1 << bits:
        spare = 8 * stored.dtype.itemsize - bits
        return (stored << spare) >> spare  # zeros above: extend the sign
    raise DicomRefusal(
        header.path,
        tag="BitsStored",
        found=f"{bits} with HighBit {high_bit} and pixels {found_lowest} to {found_highest}",
        needed=f"HighBit {bits - 1} and pixels {lowest} to {highest}",
        cure="export the series again, without overlays in the pixel data",
    )


def _padding(dataset: pydicom.Dataset, stored: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_] | None:
    first = _stored_value(dataset, "PixelPaddingValue", stored.dtype)
    if first is None:
        return None
    last = _stored_value(dataset, "PixelPaddingRangeLimit", stored.dtype)
    low, high = sorted((first, first if last is None else last))
    padded: npt.NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return padded if padded.any() else None


def _stored_value(dataset: pydicom.Dataset, keyword: str, dtype: np.dtype[np.integer]) -> int | None:
    """A stored value as the pixels would hold it: writers mix up US and SS, so only its bits count."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):  # VR UN
        value = int.from_bytes(value[:2], "little") if dataset.original_encoding[1] else None
    if not isinstance(value, int):
        return None
    return int(np.array(value & ((1 << 8 * dtype.itemsize) - 1)).astype(f"u{dtype.itemsize}").astype(dtype))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__
