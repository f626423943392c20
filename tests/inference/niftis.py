"""NIfTI files made byte by byte, good ones and ones that make no sense."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import DISCLAIMER

TEXT = {1: slice(148, 228), 2: slice(240, 320)}  # the field descrip (nifti1.h, nifti2.h)
DTYPES = ("i2", "u2", "i4", "f4", "f8")


@dataclass(frozen=True, kw_only=True)
class Nifti:
    """A file made byte by byte; (columns, rows, slices) of 18 x 20 x 3."""

    version: int = 1
    order: str = "<"
    dtype: str = "i2"
    slope: float = 1.0
    intercept: float = 0.0
    comment: bytes = b""
    shape: tuple[int, ...] = (18, 20, 3)
    affine: tuple[float, ...] = (0.7, 0.8, 2.5)
    values: npt.NDArray[np.floating] | None = None

    def holds_hu(self) -> bool:
        """Whether slope and intercept bring HU into the type."""
        if self.slope == 0 and self.intercept != 0:  # then the intercept is not applied either (nifti1.h)
            return False
        return self.dtype[0] != "u" or (self.intercept <= -1024 and self.slope >= 0)

    def stored(self) -> npt.NDArray[np.generic]:
        """Voxels whose HU are a body of tissue with some bone and gas in air, within and beyond the window."""
        hu = self.values
        if hu is None:
            hu = np.random.default_rng(0).choice([-1020.0, -1000], self.shape)
            hu[4:-4, 4:-4] = np.random.default_rng(2).choice([0.0, 60], hu[4:-4, 4:-4].shape)
            for row, value in ((4, -400), (6, 900), (8, 1500)):
                hu[row : row + 2, 6:8] = value
            hu = hu + np.random.default_rng(1).normal(0, 20, self.shape)
        stored = (hu - self.intercept) / (self.slope or 1)
        if self.dtype[0] in "iu":
            limits = np.iinfo(self.dtype)
            stored = np.rint(stored).clip(limits.min, limits.max)
        return stored.astype(self.order + self.dtype)

    def header(self) -> bytes:
        """Everything before the voxels."""
        kind = nibabel.Nifti1Header if self.version == 1 else nibabel.Nifti2Header
        header = kind(endianness=self.order)
        header.set_data_shape(self.shape)
        header.set_data_dtype(self.dtype)
        header.set_sform(np.diag([*self.affine, 1]), 1)
        header["descrip"] = b"what it was"
        header["scl_slope"], header["scl_inter"] = self.slope, self.intercept
        extension = b""
        if self.comment:
            room = -(-(8 + len(self.comment)) // 16) * 16
            extension = struct.pack(self.order + "ii", room, 6) + self.comment.ljust(room - 8, b"\0")
        header["vox_offset"] = header.sizeof_hdr + 4 + len(extension)
        return bytes(header.binaryblock) + bytes([bool(extension), 0, 0, 0]) + extension

    def write(self, path: Path) -> Path:
        content = self.header() + self.stored().tobytes(order="F")
        path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
        return path


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()


def check_header(before: bytes, after: bytes, version: int) -> None:
    text = TEXT[version]
    assert after[: text.start] + after[text.stop :] == before[: text.start] + before[text.stop :]
    assert after[text].rstrip(b"\0").decode("ascii").startswith(DISCLAIMER)
