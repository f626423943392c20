"""Grey levels: which numbers are taken for them, and how a change of them is stored again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ImageRefusal

Stored = npt.NDArray[Any]
Grey = npt.NDArray[np.float32]

INTEGERS = ("i1", "u1", "i2", "u2")
"""Kinds and bytes of the stored integers that are taken, in either byte order."""


@dataclass(frozen=True)
class Clipped:
    """Pixels whose change led out of what their type can hold.

    Attributes:
        low: set to the lowest number of the type.
        high: set to the highest one.
    """

    low: int = 0
    high: int = 0

    def __add__(self, other: Clipped) -> Clipped:
        return Clipped(self.low + other.low, self.high + other.high)


def check_dtype(path: Path, dtype: np.dtype[Any], *, floats: bool = False) -> None:
    """Refuse stored numbers that are no grey levels.

    Args:
        path: of the file, for the message.
        dtype: of its pixels.
        floats: float32 is allowed, too.

    Raises:
        ImageRefusal: complex, logical, floating or wider numbers.
    """
    kind = f"{dtype.kind}{dtype.itemsize}"
    if kind in INTEGERS or (floats and kind == "f4"):
        return
    name = {"b": "one bit per pixel", "c": "complex numbers", "f": f"{dtype.itemsize * 8}-bit floating numbers"}.get(
        dtype.kind, f"pixels of type {dtype.name}"
    )
    cures = {
        "b": "give the grey image, not a mask of it",
        "c": "give the magnitude, e.g. the power spectrum's inverse, as 16-bit integers",
        "f": "save it as 16-bit integers, e.g. Image > Type > 16-bit of ImageJ, or as MRC",
    }
    allowed = "grey integers of 8 or 16 bits" + (", or float32" if floats else " (float32 in MRC only)")
    raise ImageRefusal(f"{path}: {name}", allowed=allowed, cure=cures.get(dtype.kind, "save it with 16 bits"))


def check_finite(path: Path, stored: Stored) -> None:
    """Refuse NaN and infinity.

    Raises:
        ImageRefusal: naming how many pixels.
    """
    if stored.dtype.kind != "f" or np.isfinite(stored).all():
        return
    bad = int(stored.size - np.isfinite(stored).sum())
    raise ImageRefusal(
        f"{path}: {bad} of {stored.size} pixels are NaN or infinite",
        allowed="finite numbers",
        cure="replace them, e.g. numpy.nan_to_num, or cut them off",
    )


def grey_range(dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Lowest and highest grey level a type can hold; None for floats."""
    if dtype.kind == "f":
        return None
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def apply_change(stored: Stored, change: npt.NDArray[np.floating]) -> tuple[Stored, Clipped]:
    """Stored numbers after a change, rounded and clipped if they are integers.

    Where the change is 0 the stored number stays bit for bit.

    Args:
        stored: (row, column), of a type that :func:`check_dtype` takes, in any byte order.
        change: same shape, grey levels to add; finite.

    Returns:
        Numbers of the same type and byte order, and how many were clipped.

    Raises:
        ValueError: another shape, or a change that is not finite.
    """
    if change.shape != stored.shape or not np.isfinite(change).all():
        raise ValueError(f"a change of shape {change.shape} for {stored.shape}, finite {np.isfinite(change).all()}")
    limits = grey_range(stored.dtype)
    if limits is None:
        after = stored.astype(np.float32) + change.astype(np.float32)
        return np.where(change == 0, stored, after).astype(stored.dtype), Clipped()
    wanted = stored.astype(np.float64)  # in place from here: bands are large
    wanted += change
    np.rint(wanted, out=wanted)
    lowest, highest = limits
    clipped = Clipped(int(np.count_nonzero(wanted < lowest)), int(np.count_nonzero(wanted > highest)))
    np.clip(wanted, lowest, highest, out=wanted)
    return wanted.astype(stored.dtype), clipped
