"""NIfTI volumes as a stream of slices, and back with every byte of the header but the description."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.images import CURE_HU, check_range, open_nifti, spatial_shape, unreadable
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.value_statistics import SampledSlice, sample_indices
from iscl_monai.dicom.values import check_image_values, judge_values
from iscl_monai.durable import move_into_place, workshop
from iscl_monai.errors import ImageRefusal, OutputRefusal

DESCRIPTION = {348: slice(148, 228), 540: slice(240, 320)}
"""Where the free text is, by the size of the header: NIfTI-1 and NIfTI-2 (nifti1.h, nifti2.h)."""

COMPRESSION = 4
"""Of .nii.gz: noise hardly compresses, and higher levels cost much time for little."""


class NiftiVolume:
    """One NIfTI file, read slice by slice along its third axis, which is how the file lies on the disk.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        check: read all voxels once, and look whether they are HU (:mod:`iscl_monai.dicom.values`).
        trust_hu: take values as HU that show no air, e.g. a crop within the body; not what cannot be HU.
        any_axis: the third axis may run in any direction of the body, as in MR.

    Attributes:
        spacing_mm: between rows, between columns.
        sampled_hu: up to nine slices, by which the values were judged; none without ``check``.
        description: the free text of the header.

    Raises:
        ImageRefusal: no whole CT volume in Hounsfield units.
    """

    def __init__(self, path: Path, *, check: bool = True, trust_hu: bool = False, any_axis: bool = False) -> None:
        self.path = path
        try:
            image = open_nifti(path, any_axis=any_axis)
            self.dtype = image.header.get_data_dtype()  # with the file's byte order
            self.header_size = int(image.header.sizeof_hdr)
            self.columns, self.rows, self.count = spatial_shape(image)
            # Front and patient's right, as a report shows them: RAS counts toward the right, the front, the head.
            self.upright = tuple(-1 if step > 0 else 1 for step in (image.affine[1, 1], image.affine[0, 0]))
            columns_mm, rows_mm = np.linalg.norm(image.affine[:3, :2], axis=0)
            self.spacing_mm = (float(rows_mm), float(columns_mm))
            self.slope, self.intercept = float(image.dataobj.slope), float(image.dataobj.inter)
            with _open(path, "rb") as file:
                self.header = file.read(int(image.dataobj.offset))
            self.description = self.header[DESCRIPTION[self.header_size]].rstrip(b"\0").decode("latin-1")
            slope = _slope_as_written(self.header, image.header)
            finite = np.isfinite([self.slope, self.intercept]).all() and not np.isinf(slope)
            if self.dtype.kind not in "iuf" or not finite or self.slope == 0:
                raise ImageRefusal(f"{path}: {self.dtype} with slope {slope:g}", allowed="real numbers", cure=CURE_HU)
            ends, sampled = self._looked_at() if check else ([], [])
            self.sampled_hu = [hu for hu, _ in sampled]
        except ImageRefusal:
            raise
        except Exception as error:  # nibabel and zlib raise nearly anything for damaged files
            raise unreadable(path, error) from error
        if check:
            check_range(path, *self._range(ends))
            judgement = judge_values(sampled, spacing_mm=self.spacing_mm)
            check_image_values(path, judgement, trust_hu=trust_hu)

    def _looked_at(self) -> tuple[list[tuple[np.float32, np.float32]], list[SampledSlice]]:
        """Lowest and highest value of every slice, and the slices by which values are judged."""
        ends, sampled, chosen = [], list[SampledSlice](), set(sample_indices(self.count))
        for index, hu in enumerate(map(self.hu, self.slices())):
            ends.append((hu.min(), hu.max()))
            if index in chosen:
                sampled.append((hu, None))
        return ends, sampled

    @staticmethod
    def _range(ends: Sequence[tuple[np.float32, np.float32]]) -> tuple[float, float]:
        lowest, highest = np.array(ends, np.float64).T  # NaN wins in both
        return float(lowest.min()), float(highest.max())

    def slices(self) -> Iterator[npt.NDArray[Any]]:
        """Stored values (row, column) = (second axis, first axis) of each slice, in file order.

        Raises:
            EOFError: when the file ends early, or later than its header says.
            OSError: when it is compressed, and its checksum is another one.
        """
        size = self.rows * self.columns * self.dtype.itemsize
        with _open(self.path, "rb") as file:
            file.seek(len(self.header))
            for index in range(self.count):
                block = file.read(size)
                if len(block) != size:
                    raise EOFError(f"the file ends in slice {index + 1} of {self.count}")
                yield np.frombuffer(block, self.dtype).reshape(self.rows, self.columns)
            if file.read(1):  # reading to the end also makes gzip compare its checksum
                raise EOFError(f"the file goes on after its {self.count} slices")

    def hu(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Hounsfield units of stored values (``scl_slope``, ``scl_inter``)."""
        values: npt.NDArray[np.float64] = stored * np.float64(self.slope) + self.intercept
        return values.astype(np.float32)

    def changed(self, stored: npt.NDArray[Any], change_hu: npt.NDArray[np.floating]) -> npt.NDArray[Any]:
        """Stored values after a change in HU: rounded if they are integers, and the same bits where nothing changed."""
        if self.dtype.kind == "f":
            after = stored.astype(np.float64) + change_hu.astype(np.float64) / self.slope
            return np.where(change_hu == 0, stored, after).astype(self.dtype)
        limits = np.iinfo(self.dtype)
        slice_ = StoredSlice(
            stored=stored,
            padded=None,
            padding_range=None,
            stored_range=(int(limits.min), int(limits.max)),
            slope=self.slope,
            intercept=self.intercept,
        )
        return slice_.changed(change_hu)


def _slope_as_written(header: bytes, read: Any) -> float:
    """What nibabel forgets: 0 and NaN mean none, but it takes infinity for none, too."""
    again = type(read)(header[: read.sizeof_hdr], read.endianness, check=False)
    return float(again["scl_slope"])


def described(header: bytes, description: str, *, header_size: int) -> bytes:
    """A header with another free text.

    Args:
        header: the file's bytes before its voxels.
        description: at most 79 ASCII characters.
        header_size: 348 or 540, as :attr:`NiftiVolume.header_size`; what the header itself says may be wrong.
    """
    place = DESCRIPTION[header_size]
    text = description.encode("ascii", "replace")[:79].ljust(80, b"\0")
    return header[: place.start] + text + header[place.stop :]


def residual_header(volume: NiftiVolume) -> tuple[bytes, np.dtype[Any]]:
    """Header and type of a float32 volume of the same geometry, for differences in HU."""
    header = open_nifti(volume.path, any_axis=True).header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    header.set_data_offset(0)  # the smallest that the format allows
    start = 352 if header.sizeof_hdr == 348 else 544
    header["vox_offset"] = start
    return header.binaryblock.ljust(start, b"\0"), header.get_data_dtype()


class NiftiWriter:
    """Writes a volume slice by slice.

    Args:
        path: a new ``.nii`` or ``.nii.gz``.
        header: the bytes before the voxels.
        dtype: of the voxels, with the header's byte order.
    """

    def __init__(self, path: Path, header: bytes, dtype: np.dtype[Any]) -> None:
        self.path = path
        self.dtype = dtype
        self.raw = path.open("xb")
        # No time and no name inside, so that a repeat gives the same bytes.
        zipped = gzip.GzipFile("", "wb", COMPRESSION, self.raw, mtime=0) if path.name.lower().endswith(".gz") else None
        self.file: IO[bytes] = zipped or self.raw  # type: ignore[assignment]
        self.file.write(header)
        self.digests: list[bytes] = []

    def write(self, stored: npt.NDArray[Any]) -> None:
        """Append the next slice, (row, column)."""
        block = np.ascontiguousarray(stored, self.dtype)
        self.file.write(block.tobytes())
        self.digests.append(_digest(block))

    def finish(self) -> None:
        """Flush everything to the disk, read it again and compare.

        Raises:
            OutputRefusal: when the file does not hold what was written.
        """
        if self.file is not self.raw:
            self.file.close()
        self.raw.flush()
        os.fsync(self.raw.fileno())
        self.raw.close()
        try:
            same = [
                _digest(stored) for stored in NiftiVolume(self.path, check=False, any_axis=True).slices()
            ] == self.digests
        except (ImageRefusal, EOFError, OSError):
            same = False
        if not same:
            raise OutputRefusal(
                f"{self.path} reads back differently", allowed="what was written", cure="check the disk"
            )

    def close(self) -> None:
        """Give the file up; nothing happens after :meth:`finish`."""
        self.file.close()
        self.raw.close()


def write_volume(
    destination: Path,
    header: bytes,
    dtype: np.dtype[Any],
    slices: Iterable[npt.NDArray[Any]],
    progress: Callable[[int], object] | None = None,
    before_named: Callable[[], object] | None = None,
) -> Path:
    """Write all slices, read them again, and only then give the file its name.

    Args:
        destination: a free name, ``.nii`` or ``.nii.gz``.
        header: the bytes before the voxels.
        dtype: of the voxels, with the header's byte order.
        slices: stored values (row, column), in file order.
        progress: called with the number of slices written since the last call.
        before_named: called when all is written and compared, and before the file takes its name.

    Raises:
        OutputRefusal: the name is taken, it cannot be written, or reads back differently.
    """
    with workshop(destination) as folder:
        file = folder / destination.name
        with closing(NiftiWriter(file, header, dtype)) as writer:
            for stored in slices:
                writer.write(stored)
                if progress is not None:
                    progress(1)
            writer.finish()
        if before_named is not None:
            before_named()
        move_into_place({file: destination})
    return destination


def _digest(stored: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(stored.tobytes(), digest_size=16).digest()


def _open(path: Path, mode: str) -> IO[bytes]:
    return gzip.open(path, mode) if path.name.lower().endswith(".gz") else path.open(mode)  # type: ignore[return-value]
