"""Low dose for a whole table of series: what ``scan`` found goes in, and comes out with simulated series beside it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.dose.series import simulate_read_series
from data_prep.dose.simulation import NOTHING_DOUBTFUL, Acceptance, read_scan
from data_prep.table import SeriesRow, read_table, write_table
from iscl_monai.dicom.geometry import sort_slices
from iscl_monai.dicom.pixels import read_slice
from iscl_monai.dicom.selection import select_series
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, Refusal
from iscl_monai.inference.places import check_places
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.scanner.dose import SIMULATOR

STEM = "series"
LOW, FULL = "low", "full"
_NOISE_SLICES = 3


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """What is wanted of each series.

    Args:
        fraction: simulated dose over the scan's dose, in (0, 1).
        thickness_mm: average neighbouring slices of thinner series to about this distance; None: as they are.
        body_parts: take these only; empty: all.
        clean_below_hu: leave series out that are noisier than this already; None: take all.
        seed: decides the noise.
        accepted: what is simulated although it is doubtful.

    Raises:
        ConfigRefusal: if a number makes no sense.
    """

    fraction: float
    thickness_mm: float | None = None
    body_parts: tuple[str, ...] = ()
    clean_below_hu: float | None = None
    seed: int = 0
    accepted: Acceptance = NOTHING_DOUBTFUL

    def __post_init__(self) -> None:
        limits = [value for value in (self.thickness_mm, self.clean_below_hu) if value is not None]
        if not 0 < self.fraction < 1 or not all(0 < value < math.inf for value in limits):
            raise ConfigRefusal(
                f"fraction={self.fraction}, thickness {self.thickness_mm} mm, clean below {self.clean_below_hu} HU",
                allowed="0 < fraction < 1, and positive numbers",
                cure="give e.g. --fraction 0.25 --thickness 3",
            )

    def average(self, row: SeriesRow) -> int:
        """How many neighbouring slices of a series become one."""
        if self.thickness_mm is None or not row.slice_step_mm:
            return 1
        return max(1, round(self.thickness_mm / row.slice_step_mm))

    def reason_against(self, row: SeriesRow) -> str:
        """Why nothing is simulated from a row; ``""`` for a full-dose original that is fit for training."""
        if not row.fit:
            return "not fit for training"
        if row.simulated_from or row.dose_fraction < 1:
            return "simulated already"
        if row.dose_class == LOW:
            return "low dose already"
        if row.reconstruction and not self.accepted.iterative:
            return f"iterative reconstruction ({row.reconstruction})"
        if not row.series_uid:
            return "without SeriesInstanceUID, which pairs an original with what is made of it"
        if self.body_parts and row.body_part.upper() not in {part.upper() for part in self.body_parts}:
            return f"body part {row.body_part or 'not said'}"
        if self.clean_below_hu is not None and (row.noise_hu is None or row.noise_hu > self.clean_below_hu):
            return f"noisier than {self.clean_below_hu:g} HU"
        return ""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What was made of a table.

    Args:
        table: the new one, parquet.
        made: simulated and averaged series.
        left_out: number of rows of the old table from which nothing was made, by reason.
        refused: why, of those that could not be simulated.
        warnings: what to know about the noise of series that this run made.
    """

    table: Path
    made: int
    left_out: Counter[str]
    refused: tuple[Refusal, ...]
    warnings: tuple[str, ...] = ()


def simulate_table(
    table: Path,
    destination: Path,
    *,
    request: TableRequest,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int], object] | None = None,
) -> Batch:
    """Simulate low dose for every fit full-dose series of a table.

    Each becomes a folder in ``destination``, which appears whole; those of an earlier run are kept. Where slices are
    averaged, the averaged full-dose series is written too: the two are a pair. A series that cannot be simulated does
    not hold up the others.

    Args:
        table: as ``scan`` wrote it (``.parquet``, ``.csv``, or their folder).
        destination: folder for the series, and for ``series.parquet`` and ``series.csv``: the old rows and the new.
        request: what is wanted of each series.
        workers: slices worked on at the same time; None: the CPU cores.
        device: where torch computes, if it does.
        progress: called with the number of slices simulated since the last call.

    Raises:
        DatalistRefusal: if the table cannot be read, or holds no series to simulate.
        Refusal: of the first series, if none can be simulated.
    """
    rows = read_table(table)
    reasons = [request.reason_against(row) for row in rows]
    wanted = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    left_out = Counter(filter(None, reasons))
    if not wanted:
        listed = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()) or "it is empty"
        raise DatalistRefusal(
            f"{table}: no series to simulate ({listed})",
            allowed="at least one full-dose original that is fit for training",
            cure="look at the column 'verdict', or leave --clean-below and --body-part out",
        )
    made: list[SeriesRow] = []
    refused: list[Refusal] = []
    warnings: list[str] = []
    for row in wanted:
        result = _attempt(row, destination, request, workers, device, progress, warnings)
        if isinstance(result, list):
            made += result
        else:
            refused.append(result)
    if not made:
        raise refused[0]
    destination.mkdir(parents=True, exist_ok=True)
    new = {row.path for row in made}
    parquet, _ = write_table([*(row for row in rows if row.path not in new), *made], destination / STEM)
    return Batch(table=parquet, made=len(made), left_out=left_out, refused=tuple(refused), warnings=tuple(warnings))


def slices_to_simulate(rows: Iterable[SeriesRow], request: TableRequest) -> int:
    """How many slices :func:`simulate_table` is going to write."""
    averages = [(row.slices, request.average(row)) for row in rows if not request.reason_against(row)]
    return sum(slices // average * (2 if average > 1 else 1) for slices, average in averages)


def _attempt(row: SeriesRow, *arguments: Any) -> list[SeriesRow] | Refusal:
    try:
        return _simulated(row, *arguments)
    except Refusal as refusal:
        return refusal


def _simulated(
    row: SeriesRow,
    destination: Path,
    request: TableRequest,
    workers: int | None,
    device: str,
    progress: Callable[[int], object] | None,
    warnings: list[str],
) -> list[SeriesRow]:
    """One series at low dose, and averaged at full dose where it was averaged."""
    average = request.average(row)
    names = {
        fraction: _name(row, fraction, average, request.seed)
        for fraction in ((1.0, request.fraction) if average > 1 else (request.fraction,))
    }
    source, series = Path(row.path), None
    if any(path for name in names.values() for path in destination.glob(f"{name}_*")):
        mark = _fingerprint(select_series(source, row.series_uid).files)
    else:  # no earlier run to compare with: the files are opened only to be read
        series = read_scan(source, average=average, series_uid=row.series_uid)
        mark = _fingerprint(series.files)
    folders = {destination / f"{name}_{mark}": fraction for fraction, name in names.items()}
    lacking = {folder: fraction for folder, fraction in folders.items() if not folder.is_dir()}
    if progress is not None and len(lacking) < len(folders):
        progress((len(folders) - len(lacking)) * (row.slices // average))
    if lacking:
        for folder in lacking:
            check_places(source, folder)
        series = series or read_scan(source, average=average, series_uid=row.series_uid)
        simulated = simulate_read_series(
            series,
            lacking,
            seed=request.seed,
            average=average,
            accepted=request.accepted,
            workers=workers,
            device=device,
            progress=progress,
        )
        warnings += [f"{row.path}: {warning}" for made in simulated for warning in made.simulation.warnings]
    return [_row_of(folder, row, fraction, average) for folder, fraction in folders.items()]


def _fingerprint(files: Sequence[Path]) -> str:
    """Tells whether the files of a series are still those of an earlier run."""
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(sorted(states)).encode()).hexdigest()[:8]


def _name(row: SeriesRow, fraction: float, average: int, seed: int) -> str:
    """How the folder begins that holds what is made of a series; tells what is inside without naming anybody."""
    words = "\n".join([SIMULATOR, row.path, row.series_uid, repr((fraction, average, seed))])
    kind = "full" if fraction == 1 else f"dose{fraction:g}"
    return f"{hashlib.sha256(words.encode()).hexdigest()[:12]}_{kind}"


def _row_of(folder: Path, original: SeriesRow, fraction: float, average: int) -> SeriesRow:
    """The row of what was made, from its files."""
    headers, positions_mm = sort_slices(select_series(folder).headers)
    step_mm = float(np.diff(positions_mm).mean()) if len(headers) > 1 else original.slice_step_mm
    chosen = {round((len(headers) - 1) * (part + 1) / (_NOISE_SLICES + 1)) for part in range(_NOISE_SLICES)}
    hu = np.empty((len(chosen), headers[0].rows or 0, headers[0].columns or 0), np.float32)
    for plane, index in zip(hu, sorted(chosen), strict=True):
        read_slice(headers[index], plane)
    noise_hu = noise_sigma_hu(hu)
    return replace(
        original,
        path=str(folder.resolve()),
        series_uid=headers[0].series_uid,
        study_uid=headers[0].study_uid,
        slices=len(headers),
        slice_step_mm=None if step_mm is None else round(step_mm, 4),
        slice_thickness_mm=headers[0].slice_thickness,
        z_lowest_mm=float(positions_mm[0]),
        z_highest_mm=float(positions_mm[-1]),
        dose_class=FULL if fraction == 1 else LOW,
        dose_fraction=fraction,
        simulated_from=original.series_uid,
        average=average,
        noise_hu=None if np.isnan(noise_hu) else round(noise_hu, 3),
        noise_peak_per_mm=None,
    )
