"""Write derived slices, and read each again before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset

from iscl_monai.dicom.common_header import CommonHeader, SourceElements, only
from iscl_monai.dicom.compare import first_difference
from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.derive import derive_header, derive_own_elements, series_identity
from iscl_monai.dicom.encoded import encode
from iscl_monai.dicom.headers import SliceHeader, refusing_malformed
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.series import CTSeries
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.durable import whole_folder, write_file
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal, Refusal

NO_PREAMBLE = b"\0" * 128
"""The source's may hold anything."""


class SeriesWriter:
    """Writes the slices of one derived series, in any order and from any thread.

    Args:
        headers: one for each derived slice, in slice order, checked: of the source slice whose elements it gets.
        derivation: what is done to them.
        folder: where the files go; exists.
        sources: for each derived slice, the headers of all slices that it is made of; None: of that one alone.
    """

    def __init__(
        self,
        headers: Sequence[SliceHeader],
        derivation: Derivation,
        folder: Path,
        *,
        sources: Sequence[Sequence[SliceHeader]] | None = None,
    ) -> None:
        self.headers = headers
        self.derivation = derivation
        self.folder = folder
        self.sources = sources if sources is not None else [(header,) for header in headers]
        self.series_identity = series_identity(headers)
        self._common: CommonHeader | None = None  # of the slice that was derived as a whole last

    def path(self, index: int) -> Path:
        """The file of a slice, named after its place in the series."""
        return self.folder / f"{index + 1:05d}.dcm"

    def derive(self, index: int, dataset: FileDataset, stored: npt.NDArray[np.integer]) -> Dataset:
        """Turn the data set of a source slice into the derived one.

        Args:
            index: of the slice in ``headers``.
            dataset: of the source slice, whole; changed in place.
            stored: new stored integers (row, column), of the source's type.

        Returns:
            The same data set.

        Raises:
            DicomRefusal: a source that cannot be copied.
        """
        header = self.headers[index]
        with refusing_malformed(header.path):
            derived = derive_header(
                dataset, header, self.derivation, series_identity=self.series_identity, sources=self.sources[index]
            )
            set_pixels(derived, stored)
        derived.preamble = NO_PREAMBLE
        return derived

    def write(self, index: int, dataset: FileDataset, stored: npt.NDArray[np.integer]) -> Path:
        """Write one slice durably, and read it back.

        Args:
            index: see :meth:`derive`.
            dataset: see :meth:`derive`.
            stored: see :meth:`derive`.

        Returns:
            The file.

        Raises:
            DicomRefusal: a source that cannot be copied.
            OutputRefusal: a file that cannot be written, or does not hold what was written.
        """
        header, path = self.headers[index], self.path(index)
        with refusing_malformed(header.path):
            # Kept private elements depend on their creators, each of which is an element, too.
            source = None if self.derivation.keep_private else SourceElements.of(dataset, header)
        common = self._common
        own = common.own_tags(source) if common else None
        if common and source and own is not None:
            with refusing_malformed(header.path):
                derive_own_elements(only(dataset, own), header, self.derivation, sources=self.sources[index])
            dataset.preamble = NO_PREAMBLE
            encoded = common.completed(source, own, _encoded(dataset, path, header.path), _little_endian(stored))
        else:
            encoded = _encoded(self.derive(index, dataset, stored), path, header.path)
            self._common = CommonHeader.of(source, encoded)
        _store(encoded, path, header.path)
        return path


def set_pixels(dataset: Dataset, stored: npt.NDArray[np.integer]) -> None:
    """Put native little-endian pixels into a data set, whatever encoding it came in."""
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    pixels = _little_endian(stored).tobytes()
    dataset["PixelData"] = DataElement("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
    dataset["PixelData"].is_undefined_length = False


def _little_endian(stored: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    return np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))


def write_and_verify(dataset: Dataset, path: Path, *, source: object) -> None:
    """Write one file in Explicit VR Little Endian, flush it to the disk, read it again and compare every element.

    Raises:
        DicomRefusal: an element that cannot be encoded.
        OutputRefusal: the disk did not take it, or gives something else back.
    """
    _store(_encoded(dataset, path, source), path, source)


def _encoded(dataset: Dataset, path: Path, source: object) -> bytes:
    """The bytes of the file of a data set, decoded again and compared element by element."""
    try:
        encoded = encode(dataset)
    except Exception as error:  # pydicom's writers raise whatever the value makes them raise
        raise not_written(path, error, source) from error
    with refusing_malformed(source):
        difference = first_difference(dataset, pydicom.dcmread(BytesIO(encoded)))
    if difference is not None:
        raise changed_on_disk(path, difference, source)
    return encoded


def _store(encoded: bytes, path: Path, source: object) -> None:
    """Write a file, flush it to the disk, and compare every byte of it: what they mean has been compared before."""
    try:
        write_file(path, lambda file: file.write(encoded))
    except OSError as error:
        raise not_written(path, error, source) from error
    with refusing_malformed(source):
        read = path.read_bytes()
        if read == encoded:
            return
        difference = first_difference(pydicom.dcmread(BytesIO(encoded)), pydicom.dcmread(BytesIO(read)))
    raise changed_on_disk(path, difference or "encoding", source)


def not_written(path: Path, error: BaseException, source: object) -> Refusal:
    """The disk did not take a file, or an element of its source cannot be encoded.

    pydicom raises an OSError, too, for a value that it cannot encode, and wraps real ones into others without a number.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return OutputRefusal(
                f"{path} cannot be written ({cause.strerror or cause})",
                allowed="a folder with write permission and space left",
                cure="make room or give another place",
            )
        cause = cause.__cause__ or cause.__context__
    return DicomRefusal(
        source,
        tag="an element",
        found=f"not writable ({' '.join(str(error).split())[:160]})",
        needed="values that DICOM can hold",
        cure="export the series again, or remove that element",
    )


def changed_on_disk(path: Path, difference: str, source: object) -> OutputRefusal:
    """A file does not hold what was written."""
    return OutputRefusal(
        f"{path} reads back with another {difference} (derived from {source})",
        allowed="what was written",
        cure="check the disk; if it is sound, report this as a fault with the header of the source",
    )


def write_derived_series(
    series: CTSeries, hu: npt.NDArray[Any], destination: Path | str, *, derivation: Derivation
) -> tuple[Path, ...]:
    """Write an array as a DICOM series that belongs to the study of the series it was derived from.

    Headers come from the source files by the rules of :mod:`iscl_monai.dicom.derive`; values are rounded into the
    source's stored type, slope and intercept; padding stays padding. The folder appears only when every file has
    been written, flushed and read back.

    Args:
        series: the source, from :func:`iscl_monai.dicom.series.read_series`; its files are read again, and must
            be what they were.
        hu: Hounsfield units, shape of ``series.hu``.
        destination: folder to make.
        derivation: what was done to it.

    Returns:
        The files, in slice order.

    Raises:
        ImageRefusal: another shape, values that are not finite, or that the source's stored type cannot hold.
        OutputRefusal: the destination exists or cannot be written.
        DicomRefusal: the sources have changed or cannot be copied.
    """
    destination = Path(destination)
    _check_array(series, hu)
    with without_warnings(), whole_folder(destination) as folder:
        writer = SeriesWriter(series.headers, replace(derivation, remark=series.remark), folder)
        for index, header in enumerate(series.headers):
            source, dataset = load_slice(header, digest=series.digests[index])
            change_hu = np.asarray(hu[index], np.float64) - source.hu()
            _check_fits(header, source, np.asarray(hu[index]))
            writer.write(index, dataset, source.changed(change_hu))
    return tuple(destination / f"{index + 1:05d}.dcm" for index in range(len(series.headers)))


def _check_array(series: CTSeries, hu: npt.NDArray[Any]) -> None:
    if np.shape(hu) != series.hu.shape or not np.isfinite(hu).all():
        raise ImageRefusal(
            f"an array of shape {np.shape(hu)}, finite: {bool(np.isfinite(hu).all())}",
            allowed=f"finite Hounsfield units of shape {series.hu.shape} (slice, row, column)",
            cure="give the whole series, in the order read_series gave it",
        )


def _check_fits(header: SliceHeader, source: StoredSlice, hu: npt.NDArray[Any]) -> None:
    ends = sorted(value * source.slope + source.intercept for value in source.stored_range)
    seen = hu if source.padded is None else hu[~source.padded]
    if seen.size and (seen.min() < ends[0] - abs(source.slope) or seen.max() > ends[1] + abs(source.slope)):
        raise ImageRefusal(
            f"{seen.min():g} to {seen.max():g} HU for a slice derived from {header.path}",
            allowed=f"{ends[0]:g} to {ends[1]:g} HU, what its stored type can hold",
            cure="limit the values first",
        )
