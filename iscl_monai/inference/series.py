"""DICOM in, derived DICOM out: one series or a folder of anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.examine import Skipped
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.durable import move_into_place, whole_folder, workshop
from iscl_monai.errors import DicomRefusal, OutputRefusal
from iscl_monai.inference.classic import DenoisedSlice
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.naming import folder_names
from iscl_monai.inference.places import check_places
from iscl_monai.inference.plan import Plan, Source, plan
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.inference.stream import stream
from iscl_monai.parallel import useful_processes


class Watcher(Protocol):
    """Sees every slice as it is written, in order, and may add files (a report) before the output appears."""

    def begins(self, title: str, count: int, unlike: Sequence[str]) -> None:
        """A series of so many slices begins; a sentence for each thing in which it is unlike the training."""

    def slice_written(self, written: DenoisedSlice) -> None:
        """The next slice has been written."""

    def gave_up(self) -> None:
        """The series that was begun last turned out to be one that is refused."""

    def ends(self, folder: Path, done: Plan) -> None:
        """All is written; the folder has not got its name yet."""


@dataclass(frozen=True)
class Outcome:
    """What became of a source.

    Attributes:
        destination: the folder or file that was made.
        series: title and number of slices of each denoised series.
        skipped: every file that was not used, with the reason.
        refused: series that cannot be denoised, and damaged files.
        unlike: title of a series, and a sentence, for each thing in which a series is unlike the training.
        unmeasured: title of a series, and a sentence, for each whose noise cannot be compared with the training.
        notes: title of a series, and a sentence, for what was compared and is no reason to warn.
    """

    destination: Path
    series: tuple[tuple[str, int], ...]
    skipped: tuple[Skipped, ...] = ()
    refused: tuple[DicomRefusal, ...] = ()
    unlike: tuple[tuple[str, str], ...] = ()
    unmeasured: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def denoise_series(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: SliceDenoiser,
    series_uid: str | None = None,
    save_residual: bool = False,
    strict: bool = False,
    keep_private: Sequence[str] = (),
    workers: int | None = None,
    processes: int | None = 0,
    watcher: Watcher | None = None,
    moment: datetime | None = None,
    training: TrainingRecord | None = None,
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
        strict: refuse everything when one series is refused; else the others are denoised.
        keep_private: private creators whose elements are copied.
        workers: slices worked on at the same time; default: see :func:`useful_workers`.
        processes: that read and write the files of long series beside this one, for denoisers on a GPU;
            0: threads do; None: see :func:`iscl_monai.parallel.useful_processes`.
        watcher: see :class:`Watcher`.
        moment: date and time, with a time zone, that the derived objects bear; default: now. Who adds late slices to a
            series gives that of the first ones: one series has one time.
        training: of the weights; in what a series is unlike it stands in the outcome and in every derived object.
            None: series are compared with none.

    Returns:
        What was denoised and what was not.

    Raises:
        Refusal: whatever would have to be guessed, or cannot be written; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    with without_warnings():
        decided = plan(source, series_uid=series_uid, strict=strict, training=training)
        derivation = derivation_of(denoiser, keep_private, moment)
        processes = useful_processes(denoiser.device.type) if processes is None else processes
        with _whole(source, destination) as folder:
            done, refused = [], list(decided.refused)
            names = folder_names([one.title for one in decided.series])
            for one, name in zip(decided.series, names, strict=True):
                slices = stream(
                    one,
                    folder / name,
                    denoiser,
                    derivation,
                    save_residual=save_residual,
                    workers=workers,
                    processes=processes,
                )
                try:
                    _watch(one, slices, watcher)
                    done.append(one)
                except DicomRefusal as refusal:  # pixels are looked at only now
                    if strict or not name:
                        raise
                    shutil.rmtree(folder / name)
                    refused.append(refusal)
            decided = replace(decided, series=tuple(done), refused=tuple(refused))
            if not done:
                raise refused[0]
            if watcher is not None:
                watcher.ends(folder, decided)
    counts = tuple((series.title, series.count) for series in decided.series)
    compared = [(series.title, series.comparison) for series in decided.series]
    return Outcome(
        destination,
        counts,
        decided.skipped,
        decided.refused,
        unlike=tuple((title, one.sentence) for title, comparison in compared for one in comparison.unlike),
        unmeasured=tuple((title, comparison.unmeasured) for title, comparison in compared if comparison.unmeasured),
        notes=tuple((title, note) for title, comparison in compared for note in comparison.notes),
    )


def _watch(one: Source, slices: Iterator[DenoisedSlice], watcher: Watcher | None) -> None:
    """Take every slice of a series, and show it to whoever watches."""
    if watcher is not None:
        watcher.begins(one.title, one.count, [difference.sentence for difference in one.comparison.unlike])
    try:
        for seen in slices:
            if watcher is not None:
                watcher.slice_written(seen)
    except DicomRefusal:
        if watcher is not None:
            watcher.gave_up()
        raise


def derivation_of(
    denoiser: SliceDenoiser, keep_private: Sequence[str] = (), moment: datetime | None = None
) -> Derivation:
    """What a denoiser's images say about how they were made."""
    return Derivation.by_network(
        model=denoiser.identity.name,
        version=denoiser.identity.version,
        weights_digest=denoiser.identity.weights_digest,
        parameters=denoiser.parameters,
        moment=moment,
        keep_private=tuple(keep_private),
    )


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
        beside = {path: destination.with_name(f"{destination.stem}.{path.name}") for path in folder.glob("report.*")}
        residual = {path: destination.with_name(f"{destination.stem}.residual.dcm") for path in folder.glob("*/*.dcm")}
        move_into_place({**beside, **residual, folder / "00001.dcm": destination})
