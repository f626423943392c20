"""Derive one multi-frame CT file from another, frame by frame, and read it again before it counts."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom

from iscl_monai.dicom.compare import first_difference
from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.enhanced import EnhancedImage, image_of, load_header
from iscl_monai.dicom.enhanced_derive import derive_enhanced
from iscl_monai.dicom.extent import PIXEL_DATA
from iscl_monai.dicom.headers import refusing_malformed
from iscl_monai.dicom.write import changed_on_disk, not_written
from iscl_monai.durable import PARTIAL, sync_folder
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal

LONGEST_VALUE = 2**32 - 2
"""What the 32-bit length of native pixel data can say: an even number that does not mean "undefined"."""

CHUNK = 1 << 20


class EnhancedWriter:
    """Writes the frames of one derived multi-frame file, in frame order, straight to the disk.

    The file has a hidden name until :meth:`finish` has read it back. Use it in a ``with`` block: what was not finished
    is removed at its end. pydicom's warnings are left to the caller
    (:func:`iscl_monai.dicom.pixels.without_warnings`).

    Args:
        image: the source, whose header is read again.
        derivation: what is done to it. Its ``kind`` only takes part in the UIDs: value 4 of ImageType is kept, since
            noise reduction is none of its terms (PS3.3 C.8.16.1.4).
        folder: where the file goes; exists.
        number: names the file, ``00001.dcm`` and so on.

    Raises:
        DicomRefusal: a source that has changed, cannot be copied, or has more than 4 GiB of pixels.
        OutputRefusal: the file exists or cannot be written.
    """

    def __init__(self, image: EnhancedImage, derivation: Derivation, folder: Path, *, number: int = 1) -> None:
        dataset, encoded_bytes = load_header(image.path)
        if image_of(image.path, dataset) != image:
            raise _changed(image)
        sign = "i" if dataset.PixelRepresentation else "u"
        self._dtype = np.dtype(f"<{sign}{dataset.BitsAllocated // 8}")
        self._image = image
        self._written = 0
        self._path = folder / f"{number:05d}.dcm"
        self._partial = folder / f".{self._path.name}.{os.getpid()}{PARTIAL}"
        length = _value_length(image, self._dtype)
        with refusing_malformed(image.path):
            self._derived = derive_enhanced(dataset, image, derivation, encoded_bytes=encoded_bytes)
        self._digest = hashlib.sha256()
        self._file = self._open()
        try:
            self._write_header()
            self._pixels_at = self._file.tell()
            self._put(struct.pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, b"OW", 0, length))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> EnhancedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, index: int, stored: npt.NDArray[np.integer]) -> None:
        """Append one frame.

        Args:
            index: of the frame, from 0; frames come in order.
            stored: new stored integers (row, column), of the source's type.

        Raises:
            ImageRefusal: another frame than the next, another shape or type.
            OutputRefusal: the disk did not take it.
        """
        shape = (self._image.rows, self._image.columns)
        alike = stored.dtype.kind == self._dtype.kind and stored.dtype.itemsize == self._dtype.itemsize
        if index != self._written or index >= self._image.frames or stored.shape != shape or not alike:
            raise ImageRefusal(
                f"frame {index} of {self._path}: {stored.dtype} of shape {stored.shape}",
                allowed=f"{self._dtype} of shape {shape}, {self._image.frames} frames in order, now {self._written}",
                cure="write every frame of EnhancedImage.slices() once, in its order and type",
            )
        self._put(np.ascontiguousarray(stored, self._dtype).tobytes())
        self._written += 1

    def finish(self) -> Path:
        """Flush the file to the disk, read it back, and give it its name.

        Returns:
            The file.

        Raises:
            ImageRefusal: frames are missing.
            OutputRefusal: the disk did not take it, or gives something else back.
        """
        if self._written != self._image.frames:
            raise ImageRefusal(
                f"{self._path} with {self._written} frames",
                allowed=f"all {self._image.frames} frames of {self._image.path}",
                cure="write every frame before finishing",
            )
        try:
            self._put(b"\0" * (self._image.frames * self._image.rows * self._image.columns * self._dtype.itemsize % 2))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._verify()
            self._partial.rename(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise not_written(self._path, error, self._image.path) from error
        return self._path

    def close(self) -> None:
        """Remove what was not finished."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        if self._path.exists():
            raise OutputRefusal(f"{self._path} exists", allowed="a name that is free", cure="give an empty folder")
        try:
            return self._partial.open("wb")
        except OSError as error:
            raise not_written(self._path, error, self._image.path) from error

    def _write_header(self) -> None:
        self._derived.preamble = b"\0" * 128  # the source's may be the head of a TIFF file, or name somebody
        try:
            pydicom.dcmwrite(self._file, self._derived, enforce_file_format=True, implicit_vr=False, little_endian=True)
        except Exception as error:  # pydicom's writers raise whatever the value makes them raise
            raise not_written(self._path, error, self._image.path) from error

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise not_written(self._path, error, self._image.path) from error
        self._digest.update(data)

    def _verify(self) -> None:
        """Compare the header element by element, and the pixels to the end of the file by their digest."""
        try:
            difference = first_difference(self._derived, pydicom.dcmread(self._partial, stop_before_pixels=True))
        except OSError:
            raise
        except Exception:  # what the disk made of it may make pydicom raise nearly anything
            difference = "header, which cannot be read"
        digest = hashlib.sha256()
        with self._partial.open("rb") as file:
            file.seek(self._pixels_at)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if difference is None and digest.digest() != self._digest.digest():
            difference = "PixelData"
        if difference is not None:
            raise changed_on_disk(self._path, difference, self._image.path)


def _changed(image: EnhancedImage) -> DicomRefusal:
    return DicomRefusal(
        image.path,
        tag="file",
        found="not what it was when it was opened",
        needed="the same file until the end",
        cure="open it again",
    )


def _value_length(image: EnhancedImage, dtype: np.dtype[np.integer]) -> int:
    """Bytes of the native pixel data, made even."""
    size = image.frames * image.rows * image.columns * dtype.itemsize
    if size > LONGEST_VALUE:
        raise DicomRefusal(
            image.path,
            tag="NumberOfFrames",
            found=f"{image.frames} of {image.rows}x{image.columns}, {size} bytes when uncompressed",
            needed=f"at most {LONGEST_VALUE} bytes, what one DICOM element can hold",
            cure="export it in several files, each of them complete",
        )
    return size + size % 2
