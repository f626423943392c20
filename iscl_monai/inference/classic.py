"""The slices of a series of single-frame files, each on its way from file to file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.pixels import decode_slice, read_content
from iscl_monai.dicom.residual import ResidualWriter, residual_of
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.inference.plan import ClassicSeries
from iscl_monai.inference.slice_denoiser import SliceDenoiser

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


class ClassicStream:
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
            (folder / RESIDUAL_FOLDER).mkdir(exist_ok=True)
            removed = residual_of(derivation)
            self.residual_writer = ResidualWriter(series.headers, removed, folder / RESIDUAL_FOLDER)

    def denoise(self, index: int) -> DenoisedSlice:
        """One slice, from file to file."""
        source, after, _ = self._written(index)
        return seen(index, source, after)

    def write(self, index: int) -> tuple[Path, npt.NDArray[np.bool_] | None]:
        """The same; gives the file that was written, and which of its pixels are padding."""
        source, _, path = self._written(index)
        return path, source.padded

    def _written(self, index: int) -> tuple[StoredSlice, npt.NDArray[np.integer], Path]:
        header = self.headers[index]
        source, dataset = decode_slice(header, self.contents.pop(header.path, b"") or read_content(header))
        after = source.changed(self.denoiser.change_hu(source.hu()))
        if self.residual_writer is not None:
            self.residual_writer.write_residual(index, copy.deepcopy(dataset), source.stored, after)
        return source, after, self.writer.write(index, dataset, after)


def seen(index: int, before: StoredSlice, after: npt.NDArray[np.integer]) -> DenoisedSlice:
    """A slice for whoever watches.

    Args:
        index: in slice order.
        before: of the source.
        after: stored integers of what was written.
    """
    return DenoisedSlice(index, before.hu, replace(before, stored=after).hu, before.padded)
