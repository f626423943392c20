"""DICOM in, derived DICOM out: one series or a folder of anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pydicom

from iscl_monai.dicom.derive import Derivation
from iscl_monai.dicom.find import Skipped
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.residual import ResidualWriter
from iscl_monai.dicom.write import SeriesWriter
from iscl_monai.durable import move_into_place, whole_folder, workshop
from iscl_monai.errors import DicomRefusal, OutputRefusal
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.parallel import in_order, useful_workers
from iscl_monai.inference.plan import ClassicSeries, Plan, folder_names, plan

RESIDUAL_FOLDER = "residual"


@dataclass(frozen=True, eq=False)
class DenoisedSlice:
    """One slice before and after, as it was written.

    Attributes:
        index: in slice order.
        before_hu: float32 (row, column).
        after_hu: same shape.
        padded: bool, same shape; None when no pixel is padding.
    """

    index: int
    before_hu: npt.NDArray[np.float32]
    after_hu: npt.NDArray[np.float32]
    padded: npt.NDArray[np.bool_] | None


class Watcher(Protocol):
    """Sees every slice as it is written, in order, and may add files (a report) before the output appears."""

    def begins(self, title: str, count: int) -> None:
        """A series of so many slices begins."""

    def saw(self, seen: DenoisedSlice) -> None:
        """The next slice has been written."""

    def ends(self, folder: Path, done: Plan) -> None:
        """All is written; the folder has not got its name yet."""


@dataclass(frozen=True)
class Outcome:
    """What became of a source.

    Attributes:
        destination: the folder or file that was made.
        series: title and number of slices of each denoised series.
        skipped: every file that was not used, with the reason.
        refused: series set aside because ``skip_refused`` was given.
    """

    destination: Path
    series: tuple[tuple[str, int], ...]
    skipped: tuple[Skipped, ...] = ()
    refused: tuple[DicomRefusal, ...] = ()


def denoise_series(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: Denoiser,
    series_uid: str | None = None,
    save_residual: bool = False,
    skip_refused: bool = False,
    keep_private: Sequence[str] = (),
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Denoise every original axial CT series of a folder, or a single file.

    Slices are read, denoised and written side by side, so memory does not grow with their number. Each file is
    flushed to the disk and read back; the destination appears only when all are there. The source is never touched.

    Args:
        source: a DICOM folder with any mixture, or a file.
        destination: folder to make; for a single file the file to make.
        denoiser: what denoises.
        series_uid: only this series.
        save_residual: also write what was removed, into ``residual`` beside the slices.
        skip_refused: set series aside that cannot be denoised, and do the others.
        keep_private: private creators whose elements are copied.
        workers: slices worked on at the same time; default: see :func:`useful_workers`.
        watcher: see :class:`Watcher`.

    Returns:
        What was denoised and what was not.

    Raises:
        Refusal: whatever would have to be guessed, or cannot be written; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    with without_warnings():
        decided = plan(source, series_uid=series_uid, skip_refused=skip_refused)
        derivation = derivation_of(denoiser, keep_private)
        with _whole(source, destination) as folder:
            for series, name in zip(decided.series, folder_names(decided.series), strict=True):
                run = _SeriesRun(series, folder / name, denoiser, derivation, save_residual=save_residual)
                for seen in run.slices(workers, watcher):
                    if watcher is not None:
                        watcher.saw(seen)
            if watcher is not None:
                watcher.ends(folder, decided)
    done = tuple((series.title, series.count) for series in decided.series)
    return Outcome(destination, done, decided.skipped, decided.refused)


def derivation_of(denoiser: Denoiser, keep_private: Sequence[str] = ()) -> Derivation:
    """What a denoiser's images say about how they were made."""
    return Derivation(
        model=denoiser.identity.name,
        version=denoiser.identity.version,
        weights_digest=denoiser.identity.weights_digest,
        parameters=denoiser.parameters,
        keep_private=tuple(keep_private),
    )


def check_places(source: Path, destination: Path) -> None:
    """Refuse to write into what is read.

    Raises:
        OutputRefusal: when the destination is the source, or lies inside of it.
    """
    if source.exists() and destination.resolve().is_relative_to(source.resolve()):
        raise OutputRefusal(
            f"{destination} lies inside {source}",
            allowed="a place outside of the source, which is never touched",
            cure="give another name for the result",
        )


class _SeriesRun:
    """One series on its way; called from several threads at once."""

    def __init__(
        self, series: ClassicSeries, folder: Path, denoiser: Denoiser, derivation: Derivation, *, save_residual: bool
    ) -> None:
        self.series = series
        self.denoiser = denoiser
        folder.mkdir(exist_ok=True)
        self.writer = SeriesWriter(series.headers, derivation, folder)
        self.residual_writer: ResidualWriter | None = None
        if save_residual:
            (folder / RESIDUAL_FOLDER).mkdir()
            removed = replace(derivation, kind="RESIDUAL", title="AI REMOVED NOISE ISCL", series_offset=78)
            self.residual_writer = ResidualWriter(series.headers, removed, folder / RESIDUAL_FOLDER)

    def slices(self, workers: int | None, watcher: Watcher | None) -> Iterator[DenoisedSlice]:
        """Denoise all slices, several at a time; give them in order."""
        if watcher is not None:
            watcher.begins(self.series.title, self.series.count)
        first = self.series.headers[0]
        shape = (first.rows or 0, first.columns or 0)
        workers = workers or useful_workers(self.denoiser.device.type, self.series.count, shape)
        return in_order(range(self.series.count), self.denoise, workers=workers)

    def denoise(self, index: int) -> DenoisedSlice:
        """Read one slice, denoise it, write it."""
        source, dataset = load_slice(self.series.headers[index])
        before_hu = source.hu()
        after = source.changed(self.denoiser.change_hu(before_hu))
        if self.residual_writer is not None:
            again = pydicom.dcmread(self.series.headers[index].path)
            self.residual_writer.write_residual(index, again, source.stored, after)
        self.writer.write(index, dataset, after)
        return DenoisedSlice(index, before_hu, replace(source, stored=after).hu(), source.padded)


@contextmanager
def _whole(source: Path, destination: Path) -> Iterator[Path]:
    """The folder that becomes the destination; for a single file, one whose files are moved there."""
    if source.is_dir():
        with whole_folder(destination) as folder:
            yield folder
        return
    if destination.is_dir():
        raise OutputRefusal(
            f"{destination} is a folder, {source} a file",
            allowed="a file for a file, a folder for a folder",
            cure=f"give e.g. {destination / source.name}",
        )
    with workshop(destination) as folder:
        yield folder
        beside = {path: destination.with_name(f"{destination.stem}.{path.name}") for path in folder.glob("*.html")}
        residual = {path: destination.with_name(f"{destination.stem}.residual.dcm") for path in folder.glob("*/*.dcm")}
        move_into_place({**beside, **residual, folder / "00001.dcm": destination})
