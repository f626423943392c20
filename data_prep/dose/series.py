"""A low-dose DICOM series made from a full-dose one, marked as simulated wherever a reader may look."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from data_prep.dose.header import SimulationRecipe, middle_slice, place_mean
from data_prep.dose.simulation import (
    NOTHING_DOUBTFUL,
    Acceptance,
    Simulation,
    SliceNoise,
    check_request,
    read_scan,
    recipe_of,
)
from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.derive import moment_of, series_identity
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.series import CTSeries
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.write import SeriesWriter, write_and_verify
from iscl_monai.durable import check_free, finished_file, resumable_folder
from iscl_monai.inference.places import check_places
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.scanner.virtual import VirtualScanner


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated series.

    Args:
        folder: where it is.
        series_uid: its Series Instance UID.
        slices: number of slices.
        noise_hu: noise of the scan, see :func:`iscl_monai.scanner.dose.scan_noise_hu`; None when none was added.
        simulation: what made it, for a closer look.
        starved: share of rays that were starved of photons, mean over slices simulated by this run.
    """

    folder: Path
    series_uid: str
    slices: int
    noise_hu: float | None
    simulation: Simulation
    starved: float

    @property
    def scanner(self) -> VirtualScanner | None:
        """The virtual scanner; None when no noise was added."""
        return self.simulation.scanner


def simulate_series(
    source: Path,
    destination: Path,
    *,
    fraction: float,
    z_range_mm: tuple[float, float] | None = None,
    series_uid: str | None = None,
    seed: int = 0,
    average: int = 1,
    accepted: Acceptance = NOTHING_DOUBTFUL,
    workers: int | None = None,
    device: str = "cpu",
    moment: datetime | None = None,
    progress: Callable[[int], object] | None = None,
) -> Simulated:
    """Write a series as it would look at a fraction of its dose.

    An interrupted run is resumed by the same call; the files then are the same, byte for byte, as if it had not been
    interrupted: they bear the moment of the run that began. Two runs differ in their dates and times alone, unless they
    are given the same moment.

    Each source file is opened twice: once for header and pixels, and once to copy it.

    Args:
        source: folder with one CT series (or several, then ``series_uid`` chooses).
        destination: folder to make; appears only when complete.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 writes the (averaged) scan itself.
        z_range_mm: positions along the slice normal to keep, borders included; None: all.
        series_uid: the Series Instance UID to take.
        seed: decides the noise together with the fraction and each slice's SOP Instance UID.
        average: so many neighbouring slices are averaged before noise is added (3 mm targets from 1 mm
            slices); a remainder at the end is left out.
        accepted: what is simulated although it is doubtful.
        workers: slices worked on at the same time; None: the CPU cores.
        device: where torch computes, if it does (see :mod:`iscl_monai.scanner.projector`).
        moment: date and time, with a time zone, that the derived objects bear; None: now, or that of the run that is
            resumed.
        progress: called with the number of slices simulated since the last call.

    Raises:
        ConfigRefusal: if an argument makes no sense.
        OutputRefusal: if ``destination`` is taken or cannot be written.
        DicomRefusal: if ``source`` does not hold exactly one CT series of the kind asked for, or changes meanwhile.
        ImageRefusal: if no slice shows soft tissue to calibrate on.
    """
    check_request(fraction, average)
    check_free(destination)
    check_places(source, destination)
    series = read_scan(source, average=average, series_uid=series_uid, z_range_mm=z_range_mm)
    (made,) = simulate_read_series(
        series,
        {destination: fraction},
        z_range_mm=z_range_mm,
        seed=seed,
        average=average,
        accepted=accepted,
        workers=workers,
        device=device,
        moment=moment,
        progress=progress,
    )
    return made


def simulate_read_series(
    series: CTSeries,
    fractions: Mapping[Path, float],
    *,
    z_range_mm: tuple[float, float] | None = None,
    seed: int = 0,
    average: int = 1,
    accepted: Acceptance = NOTHING_DOUBTFUL,
    workers: int | None = None,
    device: str = "cpu",
    moment: datetime | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Simulated, ...]:
    """Write a series that was read at several fractions of its dose, side by side: each source file is opened once.

    Args:
        series: by :func:`data_prep.dose.simulation.read_scan`.
        fractions: folders to make, and the fraction of each.
        z_range_mm: what was given to read it.
        seed: see :func:`simulate_series`, as for all below.
        average: so many neighbouring slices are averaged.
        accepted: what is simulated although it is doubtful.
        workers: slices worked on at the same time.
        device: where torch computes.
        moment: date and time that the derived objects bear.
        progress: called with the number of slices simulated since the last call.

    Returns:
        What was made, in the order of the folders.

    Raises:
        Refusal: as :func:`simulate_series`.
    """
    simulations = [
        Simulation(series, fraction=fraction, average=average, seed=seed, accepted=accepted, device=device)
        for fraction in fractions.values()
    ]
    count = len(simulations[0].groups)
    starved: list[list[float]] = [[] for _ in simulations]
    with without_warnings(), ExitStack() as folders:
        outputs = []
        now = _now()
        for simulation, destination in zip(simulations, fractions, strict=True):
            recipe = recipe_of(simulation, average=average, z_range_mm=z_range_mm)
            folder = folders.enter_context(resumable_folder(destination, _identity(series, recipe, moment)))
            derivation = recipe.derivation(moment or _moment_of_begun(folder) or now)
            outputs.append(_Output(simulation, derivation, folder))
        workers = workers or useful_workers("cpu", count, series.hu.shape[1:])
        for shares in in_order(range(count), partial(_make, outputs), workers=workers):
            for shares_of_output, share in zip(starved, shares, strict=True):
                shares_of_output += [] if share is None else [share]
            if progress is not None:
                progress(len(outputs))
    return tuple(
        Simulated(
            folder=destination,
            series_uid=output.series_uid,
            slices=count,
            noise_hu=None if output.simulation.scanner is None else output.simulation.noise_hu,
            simulation=output.simulation,
            starved=float(np.mean(shares)) if shares else 0.0,
        )
        for destination, output, shares in zip(fractions, outputs, starved, strict=True)
    )


def _identity(series: CTSeries, recipe: SimulationRecipe, moment: datetime | None) -> str:
    """Tells this work from any other: by the request, and by every byte of the files that are copied."""
    uid = recipe.derivation(moment or _now()).uid("series", series_identity(series.headers))
    words = [uid, moment.isoformat() if moment else "", *(digest.hex() for digest in series.digests)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _now() -> datetime:
    return datetime.now().astimezone()


def _moment_of_begun(folder: Path) -> datetime | None:
    """The moment of the run that began a folder, as its finished slices have it: one series has one time."""
    for file in sorted(folder.glob("*.dcm")):
        return moment_of(pydicom.dcmread(file, stop_before_pixels=True))
    return None


class _Output:
    """The files of one simulated series, made one by one, by several threads."""

    def __init__(self, simulation: Simulation, derivation: Derivation, folder: Path) -> None:
        self.simulation = simulation
        headers = simulation.series.headers
        self.writer = SeriesWriter(
            [headers[middle_slice(group)] for group in simulation.groups],
            replace(derivation, remark=simulation.series.remark),
            folder,
            sources=[headers[group] for group in simulation.groups],
        )

    @property
    def series_uid(self) -> str:
        """Of what is made."""
        return self.writer.derivation.uid("series", self.writer.series_identity)

    def lacks(self, index: int) -> bool:
        """Whether a slice was not made by an earlier run."""
        return not self.writer.path(index).exists()

    def make(self, index: int, source: StoredSlice, dataset: FileDataset) -> float:
        """Simulate one slice, write it, read it again, and only then give it its name.

        Returns:
            Share of rays that were starved of photons.
        """
        noise = self.simulation.noise(index)
        derived = self.writer.derive(index, dataset, _stored(noise, self.simulation.padding(index), source))
        if len(self.writer.sources[index]) > 1:
            self._place(index, derived)
        with finished_file(self.writer.path(index)) as unfinished:
            write_and_verify(derived, unfinished, source=self.writer.headers[index].path)
        return noise.starved

    def _place(self, index: int, derived: Dataset) -> None:
        series, group = self.simulation.series, self.simulation.groups[index]
        locations = series.numbers["SliceLocation"][group]
        place_mean(derived, self.writer.sources[index], locations, series.spacing_between_slices_mm or 0.0)


def _make(outputs: Sequence[_Output], index: int) -> list[float | None]:
    """One slice of every output that lacks it; None for the others."""
    lacking = [output for output in outputs if output.lacks(index)]
    shares: list[float | None] = [None] * len(outputs)
    if lacking:
        series, middle = lacking[0].simulation.series, middle_slice(lacking[0].simulation.groups[index])
        source, dataset = load_slice(series.headers[middle], digest=series.digests[middle])
        for place, output in enumerate(outputs):
            if output in lacking:
                shares[place] = output.make(index, source, copy.deepcopy(dataset) if len(lacking) > 1 else dataset)
    return shares


def _stored(noise: SliceNoise, padding: NDArray[np.bool_], source: StoredSlice) -> NDArray[np.integer]:
    """Round HU to stored integers; padding stays bit for bit, and nothing else becomes padding."""
    low_hu = noise.mean_hu + noise.added_hu
    stored = source.changed(np.where(padding, 0, low_hu - source.hu()))
    if source.padding_range is not None:
        # In a group, the header's slice may show something where its neighbour does not.
        shown = padding if source.padded is None else padding & ~source.padded
        stored[shown] = source.padding_range[0]
    return stored
