"""A low-dose DICOM series made from a full-dose one, marked as simulated wherever a reader may look."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.dose.header import SimulationRecipe, derived_header, middle_slice
from data_prep.dose.simulation import Simulation, SliceNoise, check_request, read_scan, recipe_of
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import StoredSlice, load_slice, without_warnings
from iscl_monai.dicom.write import set_pixels, write_and_verify
from iscl_monai.durable import check_free, finished_file, resumable_folder
from iscl_monai.inference.series import check_places
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
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int], object] | None = None,
) -> Simulated:
    """Write a series as it would look at a fraction of its dose.

    An interrupted run is resumed by the same call; the files then are the same, byte for byte.

    Args:
        source: folder with one CT series (or several, then ``series_uid`` chooses).
        destination: folder to make; appears only when complete.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 writes the (averaged) scan itself.
        z_range_mm: positions along the slice normal to keep, borders included; None: all.
        series_uid: the Series Instance UID to take.
        seed: decides the noise together with the fraction and each slice's SOP Instance UID.
        average: so many neighbouring slices are averaged before noise is added (3 mm targets from 1 mm
            slices); a remainder at the end is left out.
        workers: slices worked on at the same time; None: the CPU cores.
        device: where torch computes, if it does (see :mod:`iscl_monai.scanner.projector`).
        progress: called with the number of slices simulated since the last call.

    Raises:
        ConfigRefusal: if an argument makes no sense.
        OutputRefusal: if ``destination`` is taken or cannot be written.
        DicomRefusal: if ``source`` does not hold exactly one CT series of the kind asked for.
        ImageRefusal: if no slice shows soft tissue to calibrate on.
    """
    check_request(fraction, average)
    check_free(destination)
    check_places(source, destination)
    series = read_scan(source, average=average, series_uid=series_uid, z_range_mm=z_range_mm)
    simulation = Simulation(series, fraction=fraction, average=average, seed=seed, device=device)
    recipe = recipe_of(simulation, average=average, z_range_mm=z_range_mm)
    workers = workers or useful_workers("cpu", len(simulation.groups), series.hu.shape[1:])
    with without_warnings(), resumable_folder(destination, _identity(simulation, recipe)) as folder:

        def work(index: int) -> float | None:
            file = folder / f"{index + 1:05d}.dcm"
            return None if file.exists() else _make_slice(simulation, recipe, index, file)

        starved = []
        for share in in_order(range(len(simulation.groups)), work, workers=workers):
            starved += [] if share is None else [share]
            if progress is not None:
                progress(1)
    return Simulated(
        folder=destination,
        series_uid=recipe.series_uid(series),
        slices=len(simulation.groups),
        noise_hu=recipe.noise_hu,
        simulation=simulation,
        starved=float(np.mean(starved)) if starved else 0.0,
    )


def _identity(simulation: Simulation, recipe: SimulationRecipe) -> str:
    """Tells this work from any other, down to the source's slices."""
    words = "\n".join(recipe.entropy(simulation.series.series_uid))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _make_slice(simulation: Simulation, recipe: SimulationRecipe, index: int, file: Path) -> float:
    """Simulate one slice, write it, read it again, and only then give it its name."""
    group = simulation.groups[index]
    noise = simulation.noise(index)
    header = read_header(simulation.series.files[middle_slice(group)])
    source, _ = load_slice(header)
    dataset = derived_header(simulation.series, group, recipe)
    set_pixels(dataset, _stored(noise, simulation.padding(index), source))
    with finished_file(file) as unfinished:
        write_and_verify(dataset, unfinished, source=header.path)
    return noise.starved


def _stored(noise: SliceNoise, padding: NDArray[np.bool_], source: StoredSlice) -> NDArray[np.integer]:
    """Round HU to stored integers; padding stays bit for bit, and nothing else becomes padding."""
    low_hu = noise.mean_hu + noise.added_hu
    stored = source.changed(np.where(padding, 0, low_hu - source.hu()))
    if source.padding_range is not None:
        # In a group, the header's slice may show something where its neighbour does not.
        shown = padding if source.padded is None else padding & ~source.padded
        stored[shown] = source.padding_range[0]
    return stored
