"""One source on its way from file to file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.pixels import decode_slice, read_content
from iscl_monai.dicom.residual import ResidualWriter, residual_of
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.plan import ClassicSeries, MultiFrame, Source
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.parallel import in_order, useful_workers

RESIDUAL_FOLDER = "residual"


@dataclass(frozen=True, eq=False)
class DenoisedSlice:
    """One slice before and after, as it was written; Hounsfield units are made when somebody looks at them.

    Attributes:
        index: in slice order.
        make_before_hu: see ``before_hu``.
        make_after_hu: see ``after_hu``.
        padded: bool (row, column); None when no pixel is padding.
    """

    index: int
    make_before_hu: Callable[[], npt.NDArray[np.float32]]
    make_after_hu: Callable[[], npt.NDArray[np.float32]]
    padded: npt.NDArray[np.bool_] | None

    @cached_property
    def before_hu(self) -> npt.NDArray[np.float32]:
        """Hounsfield units of the source, float32 (row, column)."""
        return self.make_before_hu()

    @cached_property
    def after_hu(self) -> npt.NDArray[np.float32]:
        """Hounsfield units of what was written, same shape."""
        return self.make_after_hu()


def stream(
    source: Source,
    folder: Path,
    denoiser: SliceDenoiser,
    derivation: Derivation,
    *,
    save_residual: bool = False,
    workers: int | None = None,
) -> Iterator[DenoisedSlice]:
    """Denoise one source into a folder, several slices at a time.

    Args:
        source: a series or a multi-frame image.
        folder: where its files go; made if absent.
        denoiser: what denoises.
        derivation: what is said about it.
        save_residual: also write what was removed.
        workers: slices worked on at the same time.

    Yields:
        The slices in order, each written; when the last has been taken everything has been read back.

    Raises:
        Refusal: what cannot be read, denoised or written.
    """
    folder.mkdir(exist_ok=True)
    derivation = replace(derivation, remark=source.remark)
    if isinstance(source, MultiFrame):
        shape = (source.image.rows, source.image.columns)
        workers = workers or useful_workers(denoiser.device.type, source.count, shape)
        return _frames(source, folder, denoiser, derivation, save_residual=save_residual, workers=workers)
    first = source.headers[0]
    shape = (first.rows or 0, first.columns or 0)
    workers = workers or useful_workers(denoiser.device.type, source.count, shape)
    series = _Series(source, folder, denoiser, derivation, save_residual=save_residual)
    return in_order(range(source.count), series.denoise, workers=workers)


class _Series:
    """A series of single-frame files; every slice is read, denoised and written by one of several threads."""

    def __init__(
        self,
        series: ClassicSeries,
        folder: Path,
        denoiser: SliceDenoiser,
        derivation: Derivation,
        *,
        save_residual: bool,
    ) -> None:
        self.headers = series.headers
        self.contents = series.contents
        self.denoiser = denoiser
        self.writer = SeriesWriter(series.headers, derivation, folder)
        self.residual_writer: ResidualWriter | None = None
        if save_residual:
            (folder / RESIDUAL_FOLDER).mkdir()
            removed = residual_of(derivation)
            self.residual_writer = ResidualWriter(series.headers, removed, folder / RESIDUAL_FOLDER)

    def denoise(self, index: int) -> DenoisedSlice:
        """One slice."""
        header = self.headers[index]
        source, dataset = decode_slice(header, self.contents.pop(header.path, b"") or read_content(header))
        after = source.changed(self.denoiser.change_hu(source.hu()))
        if self.residual_writer is not None:
            self.residual_writer.write_residual(index, copy.deepcopy(dataset), source.stored, after)
        self.writer.write(index, dataset, after)
        return _seen(index, source, after)


def _frames(
    source: MultiFrame,
    folder: Path,
    denoiser: SliceDenoiser,
    derivation: Derivation,
    *,
    save_residual: bool,
    workers: int,
) -> Iterator[DenoisedSlice]:
    """The frames of one file: read and written in order, denoised side by side."""
    if save_residual:
        raise DicomRefusal(
            source.image.path,
            tag="SOPClassUID",
            found=f"{source.image.header.sop_class_name}, with --save-residual",
            needed="single-frame CT for it",
            cure="leave --save-residual out, or choose another series with --series",
        )

    def work(slice_: StoredSlice) -> tuple[StoredSlice, npt.NDArray[np.integer]]:
        return slice_, slice_.changed(denoiser.change_hu(slice_.hu()))

    with EnhancedWriter(source.image, derivation, folder) as writer:
        done = in_order(source.image.slices(), work, workers=workers)
        for index, (before, after) in enumerate(done):
            writer.write(index, after)
            yield _seen(index, before, after)
        writer.finish()


def _seen(index: int, before: StoredSlice, after: npt.NDArray[np.integer]) -> DenoisedSlice:
    return DenoisedSlice(index, before.hu, replace(before, stored=after).hu, before.padded)
