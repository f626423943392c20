"""Stored integers: what they mean in Hounsfield units, which are padding, and how changed ones are stored again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom
from scipy.ndimage import binary_erosion, binary_propagation

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal

BODY_HU = (-900.0, 3000.0)
"""Values that tissue, lung and bone have; a padding value among them does not tell padding from the body."""

ROWS_AT_ONCE = 64
"""Of a slice, when numbers of eight bytes are made of it: so many stay in the cache of a processor."""
OVERLAYS = range(0x6000, 0x6100, 2)
OF_STORED_VALUES = ("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredSlice:
    """One slice as its file holds it.

    Attributes:
        stored: integers (row, column) as the pixel data has them.
        padded: bool (row, column), True where a pixel is padding (PixelPaddingValue to PixelPaddingRangeLimit,
            PS3.3 C.7.5.1.1.2); None when there is none. Of a value that tissue has only regions along the edges count.
        padding_range: lowest and highest stored value that means padding; None when the header names none, or when
            tissue has that value, too.
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
        changed = np.empty_like(self.stored)
        for rows in range(0, len(changed), ROWS_AT_ONCE):
            part = slice(rows, rows + ROWS_AT_ONCE)
            after = np.divide(change_hu[part], self.slope, dtype=np.float64)  # which holds such integers exactly
            np.rint(after, out=after)
            after += self.stored[part]
            changed[part] = np.clip(after, *self.stored_range, out=after)
        if self.padding_range is not None:
            lowest, highest = self.padding_range
            clash = (changed >= lowest) & (changed <= highest)
            changed[clash] = np.where(self.stored[clash] < lowest, lowest - 1, highest + 1)
        if self.padded is not None:
            changed[self.padded] = self.stored[self.padded]
        return changed


def stored_slice(header: SliceHeader, dataset: pydicom.Dataset, stored: npt.NDArray[np.integer]) -> StoredSlice:
    """What decoded pixels mean.

    Args:
        header: of the file or frame, checked by :mod:`iscl_monai.dicom.rules`.
        dataset: of the file, with the elements :data:`OF_STORED_VALUES` that it has.
        stored: integers (row, column), unused bits not cut off.

    Raises:
        DicomRefusal: pixels outside BitsStored, or a padding value that is none.
    """
    stored, stored_range = _within_bits(header, dataset, stored)
    padding_range = _padding_range(header, dataset, stored.dtype)
    padded: npt.NDArray[np.bool_] | None = None
    if padding_range is not None:
        padded = (stored >= padding_range[0]) & (stored <= padding_range[1])
        if _is_of_the_body(header, padding_range):
            padded, found = _around_the_image(padded), padded
            if not np.array_equal(padded, found):  # the value means tissue, too: results may take it
                padding_range = None
    return StoredSlice(
        stored=stored,
        padded=padded if padded is not None and padded.any() else None,
        padding_range=padding_range,
        stored_range=stored_range,
        slope=header.slope or 1.0,
        intercept=header.intercept or 0.0,
    )


def _is_of_the_body(header: SliceHeader, padding_range: tuple[int, int]) -> bool:
    slope, intercept = header.slope or 1.0, header.intercept or 0.0
    return any(BODY_HU[0] < value * slope + intercept < BODY_HU[1] for value in padding_range)


def _around_the_image(padded: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of pixels that have the padding value those of regions along the edges; scattered ones are tissue."""
    solid = binary_erosion(padded, np.ones((3, 3)), border_value=True)
    solid[1:-1, 1:-1] = False
    region: npt.NDArray[np.bool_] = binary_propagation(solid, mask=padded)
    return region


def _within_bits(
    header: SliceHeader, dataset: pydicom.Dataset, stored: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.integer], tuple[int, int]]:
    """The pixels as BitsStored says (PS3.5 8.1.1) and its range, or a refusal when that would change what was meant.

    The bits around may be zero, above also repeat the sign, or hold overlays that the header declares. Anything else
    there is padding wider than BitsStored, or nobody knows what: cutting it off, as pydicom does by itself, turns
    padding of -2000 into tissue.
    """
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    stored = _without_declared_bits(dataset, stored, bits)
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    found_lowest, found_highest = int(stored.min()), int(stored.max())
    high_bit = int(dataset.get("HighBit", bits - 1))
    below = high_bit + 1 - bits
    if below > 0 and not (stored & ((1 << below) - 1)).any():
        stored = stored >> below
        found_lowest, found_highest, below = found_lowest >> below, found_highest >> below, 0
    if below == 0 and lowest <= found_lowest and found_highest <= highest:
        return stored, (lowest, highest)
    if below == 0 and signed and found_lowest >= 0 and found_highest < 1 << bits:
        spare = 8 * stored.dtype.itemsize - bits
        return (stored << spare) >> spare, (lowest, highest)  # zeros above: extend the sign
    raise DicomRefusal(
        header.path,
        tag="BitsStored",
        found=f"{bits} with HighBit {high_bit} and pixels {found_lowest} to {found_highest}",
        needed=f"HighBit {bits - 1} and pixels {lowest} to {highest}",
        cure="export the series again, without overlays in the pixel data",
    )


def _without_declared_bits(
    dataset: pydicom.Dataset, stored: npt.NDArray[np.integer], bits: int
) -> npt.NDArray[np.integer]:
    """The pixels without the overlays that their unused bits hold (PS3.3 C.9.2, retired, and PS3.5 8.1.2)."""
    bit_positions = [tag for tag in sorted(dataset.keys()) if tag.group in OVERLAYS and tag.element == 0x0102]
    places = [int(dataset[tag].value or 0) for tag in bit_positions]
    lowest_bit = int(dataset.get("HighBit", bits - 1)) + 1 - bits
    unused = [place for place in places if not lowest_bit <= place < lowest_bit + bits]
    declared = sum({1 << place for place in unused if place < 8 * stored.dtype.itemsize})
    if not declared:
        return stored
    unsigned = stored.view(f"u{stored.dtype.itemsize}")
    kept = np.array((1 << 8 * stored.dtype.itemsize) - 1 - declared, unsigned.dtype)
    without: npt.NDArray[np.integer] = (unsigned & kept).view(stored.dtype)
    return without


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
        value = " ".join(str(error).split())
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
