"""Header and pixels of the files of one series in a single open of each: opening is what costs on a network disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iscl_monai.dicom import rules
from iscl_monai.dicom.elements import number_of
from iscl_monai.dicom.examine import reason_to_skip
from iscl_monai.dicom.geometry import slice_normal
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader, digest_of, read_header_and
from iscl_monai.dicom.pixels import decode_slice, read_content, without_warnings
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.errors import DicomRefusal


@dataclass(frozen=True, eq=False)
class _Kept:
    """What was read of one file: its slice, or why it cannot be decoded."""

    header: SliceHeader
    slice_: StoredSlice | DicomRefusal
    digest: bytes


class OnePass:
    """Reads headers for a search, and at once the pixels of the slices that are going to be asked for.

    Which those are is guessed from the header: they are of the series that was asked for, or of the only one, can be
    slices, and lie within the range. Of a second series nothing is kept, nor of the first one then. A wrong guess costs
    time and never changes an answer: what was not kept is read when it is asked for. Memory is that of the stored
    pixels of one series, 2 bytes a voxel mostly, given up slice by slice as they are taken.

    Args:
        series_uid: the SeriesInstanceUID that is wanted; None: the only one.
        z_range_mm: lowest and highest position along the slice normal that is wanted; None: all.
        numbers: keywords of further elements that are one number.
    """

    def __init__(
        self,
        *,
        series_uid: str | None = None,
        z_range_mm: tuple[float, float] | None = None,
        numbers: Sequence[str] = (),
    ) -> None:
        self.series_uid = series_uid
        self.z_range_mm = z_range_mm
        self.numbers = tuple(numbers)
        self._kept: dict[Path, _Kept] = {}
        self._numbers: dict[Path, tuple[float | None, ...]] = {}
        self._first: tuple[str, Path | None] | None = None
        self._several = False

    def read(self, path: Path) -> SliceHeader:
        """The header of a file, for :func:`iscl_monai.dicom.examine.examine`; the rest of it may be kept.

        Raises:
            Exception: see :func:`iscl_monai.dicom.headers.read_header`.
        """
        with path.open("rb") as file:
            header, dataset = read_header_and(path, self.numbers, file=file)
            if self._is_wanted(header):
                file.seek(0)
                self._kept[path] = _decoded(header, file.read())
        self._numbers[path] = tuple(number_of(dataset, keyword) for keyword in self.numbers)
        return header

    def take(self, header: SliceHeader) -> tuple[StoredSlice, bytes]:
        """The slice of a file, and the digest of the file; it is not kept any longer.

        Args:
            header: as :meth:`read` gave it, checked by :mod:`iscl_monai.dicom.rules`.

        Raises:
            DicomRefusal: see :func:`iscl_monai.dicom.pixels.load_slice`.
        """
        kept = self._kept.pop(header.path, None)
        if kept is None or kept.header != header:
            kept = _decoded(header, read_content(header))
        if isinstance(kept.slice_, DicomRefusal):
            raise kept.slice_
        return kept.slice_, kept.digest

    def number(self, header: SliceHeader, keyword: str) -> float | None:
        """One of the further elements of a file; None when it is absent or no number."""
        return self._numbers[header.path][self.numbers.index(keyword)]

    def _is_wanted(self, header: SliceHeader) -> bool:
        skipped = reason_to_skip(header, named=self.series_uid is not None)
        if header.sop_class in MULTIFRAME_CT or skipped or not self._is_of_the_series(header):
            return False
        try:
            rules.check_slice(header)
        except DicomRefusal:
            return False
        if self.z_range_mm is None:
            return True
        position_mm = float(np.dot(header.position or (), slice_normal(header.orientation or ())))
        try:
            lowest, highest = self.z_range_mm
            return bool(lowest <= position_mm <= highest)
        except (TypeError, ValueError):  # no range: refused when all headers have been read
            return False

    def _is_of_the_series(self, header: SliceHeader) -> bool:
        if self.series_uid is not None:
            return header.series_uid == self.series_uid
        series = (header.series_uid, None if header.series_uid else header.path.parent)
        self._first = self._first or series
        if series != self._first:
            self._several = True  # it is going to be refused that none was chosen
            self._kept.clear()
        return not self._several


def _decoded(header: SliceHeader, content: bytes) -> _Kept:
    try:
        with without_warnings():
            slice_, _ = decode_slice(header, content)
    except DicomRefusal as refusal:
        return _Kept(header, refusal, b"")
    return _Kept(header, slice_, digest_of(content))
