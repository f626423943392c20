"""MRC2014: images, stacks and volumes of modes 0, 1, 2 and 6 (Cheng et al., J Struct Biol 192:146, 2015)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import mrcfile
import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph.file import (
    MicrographCopy,
    MicrographFile,
    check_file,
    plausible_pixel_size,
    refuse_unreadable,
)
from iscl_monai.micrograph.grey import Stored, check_dtype, check_finite

HEADER_BYTES = 1024
MODES = (0, 1, 2, 6)
"""int8, int16, float32, uint16."""

OTHER_MODES = {3: "complex int16", 4: "complex float32", 12: "float16"}
BAND_BYTES = 1 << 24
IMOD_STAMP = 1146047817
LABELS = 10


class MrcFile(MicrographFile):
    """One uncompressed MRC file. Rows are those of the file, which by convention run from the bottom up.

    Args:
        path: the file.

    Raises:
        ImageRefusal: other modes, four axes, turned axes, bytes that IMOD wrote without a sign, NaN, or a file that
            does not keep the format.
    """

    kind = "MRC"

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of a file longer than its header says
                with mrcfile.mmap(path, mode="r", permissive=False) as mrc:
                    self.header: npt.NDArray[np.void] = np.array(mrc.header)
                    shape, self.dtype = mrc.data.shape, mrc.data.dtype
        except Exception as error:  # mrcfile raises ValueError, numpy others
            refuse_unreadable(path, self.kind, error)
        self._check_header(shape)
        self.rows, self.columns = shape[-2:]
        self.sections = shape[0] if len(shape) == 3 else 1
        self.offset = HEADER_BYTES + int(self.header["nsymbt"])
        self.pixel_size_nm, self.spacing_nm = self._sizes()
        self.description = b"\n".join(self.header["label"].ravel().tolist()).decode("latin-1")
        self._check_finite()

    def _refuse(self, came: str, allowed: str, cure: str) -> NoReturn:
        raise ImageRefusal(f"{self.path}: {came}", allowed=allowed, cure=cure)

    def _check_header(self, shape: tuple[int, ...]) -> None:
        mode = int(self.header["mode"])
        if mode not in MODES:
            name = OTHER_MODES.get(mode, "unknown")
            self._refuse(f"mode {mode} ({name})", "mode 0, 1, 2 or 6", "write mode 6: newstack -mode 6")
        check_dtype(self.path, self.dtype, floats=True)
        if len(shape) not in (2, 3) or min(shape) < 1:
            self._refuse(f"shape {shape}", "an image, a stack or one volume", "save one volume per file")
        axes = tuple(int(self.header[name]) for name in ("mapc", "mapr", "maps"))
        if axes not in ((1, 2, 3), (0, 0, 0)):
            self._refuse(f"axes {axes}", "columns, rows, sections", "turn it, e.g. clip rotx of IMOD")
        # Words 39 and 40: IMOD's stamp and flags, of which the first bit says that bytes have a sign.
        extra = self.header.tobytes()[152:160]
        stamp, flags = np.frombuffer(extra, np.dtype("i4").newbyteorder(self.header["nx"].dtype.byteorder))
        if self.dtype.itemsize == 1 and stamp == IMOD_STAMP and not flags & 1:
            self._refuse("bytes that IMOD wrote without a sign", "mode 0 with a sign", "write mode 6: newstack -mode 6")

    def _sizes(self) -> tuple[tuple[float, float] | None, float | None]:
        cell, counts = self.header["cella"], [int(self.header[name]) for name in ("mx", "my", "mz")]
        x, y, z = (
            float(cell[axis]) / count / 10 if count > 0 else 0.0 for axis, count in zip("xyz", counts, strict=True)
        )
        size = plausible_pixel_size(y, x)
        return size, z if size is not None and z > 0 and self.sections > 1 else None

    def _check_finite(self) -> None:
        if self.dtype.kind != "f":
            return
        band = max(1, BAND_BYTES // (self.columns * self.dtype.itemsize))
        for section in range(self.sections):
            for top in range(0, self.rows, band):
                self.read(section, top, min(top + band, self.rows))

    def read(self, section: int, top: int, bottom: int) -> Stored:
        """See the base class."""
        row_bytes = self.columns * self.dtype.itemsize
        with self.path.open("rb") as file:
            file.seek(self.offset + (section * self.rows + top) * row_bytes)
            block = file.read((bottom - top) * row_bytes)
        if len(block) != (bottom - top) * row_bytes:
            refuse_unreadable(self.path, self.kind, EOFError(f"it ends in section {section}"))
        stored = np.frombuffer(block, self.dtype).reshape(bottom - top, self.columns)
        check_finite(self.path, stored)
        return stored

    def copy(self, destination: Path, note: str) -> MicrographCopy:
        """See the base class."""
        return _MrcCopy(self, destination, note)


class _MrcCopy(MicrographCopy):
    """Header and extended header as they are, but for one label and the statistics of the pixels."""

    def __init__(self, source: MrcFile, destination: Path, note: str) -> None:
        self._file: BinaryIO = destination.open("xb")
        with source.path.open("rb") as original:
            self._file.write(original.read(source.offset))
        self._dtype = source.dtype
        self._header = source.header.copy()
        _label(self._header, note)
        self._lowest, self._highest = np.inf, -np.inf
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def write(self, section: int, top: int, stored: Stored) -> None:
        self._file.write(np.ascontiguousarray(stored, self._dtype).tobytes())
        values = stored.astype(np.float64)
        self._lowest, self._highest = min(self._lowest, values.min()), max(self._highest, values.max())
        self._count += values.size
        self._sum += float(values.sum())
        self._squares += float(np.square(values).sum())

    def finish(self) -> None:
        mean = self._sum / self._count
        statistics: dict[str, Any] = {
            "dmin": self._lowest,
            "dmax": self._highest,
            "dmean": mean,
            "rms": max(0.0, self._squares / self._count - mean**2) ** 0.5,
        }
        for name, value in statistics.items():
            self._header[name] = value
        self._file.seek(0)
        self._file.write(self._header.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _label(header: npt.NDArray[np.void], note: str) -> None:
    """Append a label; when all ten are taken, the last one gives way, as the format's own tools do."""
    used = min(max(int(header["nlabl"]), 0), LABELS)
    header["label"][min(used, LABELS - 1)] = note.encode("ascii", "replace")[:80]
    header["nlabl"] = min(used + 1, LABELS)
