"""One source on its way from file to file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.enhanced_write import EnhancedWriter
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.beside import LEAST_SLICES, Work
from iscl_monai.inference.beside import processes as start_processes
from iscl_monai.inference.classic import RESIDUAL_FOLDER, ClassicStream, DenoisedSlice, seen
from iscl_monai.inference.plan import MultiFrame, Source
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.parallel import in_order, useful_workers


def stream(
    source: Source,
    folder: Path,
    denoiser: SliceDenoiser,
    derivation: Derivation,
    *,
    save_residual: bool = False,
    workers: int | None = None,
    processes: int = 0,
) -> Iterator[DenoisedSlice]:
    """Denoise one source into a folder, several slices at a time.

    Args:
        source: a series or a multi-frame image.
        folder: where its files go; made if absent.
        denoiser: what denoises.
        derivation: what is said about it.
        save_residual: also write what was removed.
        workers: slices worked on at the same time.
        processes: that read and write the files of a long series, instead of threads; 0: none.

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
    if processes and source.count >= LEAST_SLICES:
        work = Work(source, folder, derivation, save_residual)
        return _beside(work, denoiser, processes)
    series = ClassicStream(source, folder, denoiser, derivation, save_residual=save_residual)
    return in_order(range(source.count), series.denoise, workers=workers)


def _beside(work: Work, denoiser: SliceDenoiser, count: int) -> Iterator[DenoisedSlice]:
    """A series whose files are read and written by other processes, one for each slice in the making."""
    if work.save_residual:
        (work.folder / RESIDUAL_FOLDER).mkdir(exist_ok=True)
    with start_processes(count, work) as started:
        yield from in_order(range(work.series.count), lambda index: started.denoise(index, denoiser), workers=count)


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
            yield seen(index, before, after)
        writer.finish()
