"""What each patient has to give: noisy scans, clean scans, and pairs of both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow

SAME_PLACE_MM = 0.05


@dataclass(frozen=True)
class Pair:
    """A noisy series and its clean counterpart, voxel by voxel."""

    noisy: SeriesRow
    clean: SeriesRow


@dataclass(frozen=True)
class Person:
    """All usable series of one patient, by what they are good for."""

    patient: str
    noisy: tuple[SeriesRow, ...]
    clean: tuple[SeriesRow, ...]
    pairs: tuple[Pair, ...]

    @property
    def free(self) -> bool:
        """Whether either pool could take this patient."""
        return bool(self.noisy and self.clean)

    def counterpart(self, row: SeriesRow) -> SeriesRow | None:
        """The clean image of a noisy row, if there is one."""
        return next((pair.clean for pair in self.pairs if pair.noisy is row), None)


def gather(rows: Sequence[SeriesRow], request: SplitRequest) -> tuple[list[Person], Counter[str]]:
    """Sort each patient's series into noisy ones, clean ones and pairs.

    A series that others were simulated from is clean, whatever its noise: the limits in HU sort the other real scans
    only. Of an original and its averages the clean pool takes one, the most averaged.

    Returns:
        The patients that have something to give, sorted by name, and the series without a side, counted by reason.
    """
    sources = {row.simulated_from for row in rows if row.simulated_from}
    by_patient: dict[str, list[SeriesRow]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    sides: dict[int, str] = {}
    for row in rows:
        sides[id(row)] = side = _side(row, sources, request)
        if side in {"noisy", "clean"}:
            by_patient[row.patient].append(row)
        else:
            left_out[side] += 1
    return [_person(patient, by_patient[patient], sides) for patient in sorted(by_patient)], left_out


def _side(row: SeriesRow, sources: set[str], request: SplitRequest) -> str:
    """``noisy``, ``clean``, or why neither."""
    if row.simulated_from:
        return "noisy" if row.dose_fraction < 1 else "clean"
    if row.series_uid in sources and row.dose_class != "low":
        return "clean"
    limits = (request.noisy_above_hu, request.clean_below_hu)
    if limits == (None, None):
        sides = {"low": "noisy", "full": "clean"}
        return sides.get(row.dose_class, "dose unknown (sort by noise: --noisy-above, --clean-below)")
    if row.noise_hu is None:
        return "noise not measured"
    return _side_by_noise(row.dose_class, row.noise_hu, *limits)


def _side_by_noise(dose_class: str, noise_hu: float, above: float | None, below: float | None) -> str:
    """Where one limit is missing, the headers decide about that side."""
    if dose_class == "low" if above is None else noise_hu >= above:
        return "noisy"
    if dose_class == "full" if below is None else noise_hu <= below:
        return "clean"
    return "noise on neither side of the limits"


def _person(patient: str, rows: Sequence[SeriesRow], sides: dict[int, str]) -> Person:
    noisy = tuple(row for row in rows if sides[id(row)] == "noisy")
    clean = [row for row in rows if sides[id(row)] == "clean"]
    best: dict[str, SeriesRow] = {}
    for row in clean:
        origin = row.simulated_from or row.series_uid or row.path
        if origin not in best or row.average > best[origin].average:
            best[origin] = row
    pairs = [Pair(row, other) for row in noisy if (other := _counterpart(row, clean)) is not None]
    return Person(patient, noisy, tuple(best.values()), tuple(pairs))


def _counterpart(noisy: SeriesRow, clean: Sequence[SeriesRow]) -> SeriesRow | None:
    """The clean row on the same grid that comes from the same original in the same way."""
    if not noisy.simulated_from:
        return None
    for row in clean:
        origin = row.simulated_from or row.series_uid
        if origin == noisy.simulated_from and row.average == noisy.average and _same_grid(row, noisy):
            return row
    return None


def _same_grid(one: SeriesRow, other: SeriesRow) -> bool:
    if (one.slices, one.rows, one.columns) != (other.slices, other.rows, other.columns):
        return False  # simulated from a part of the scan
    places = ((one.z_lowest_mm, other.z_lowest_mm), (one.z_highest_mm, other.z_highest_mm))
    return all(a is None or b is None or abs(a - b) <= SAME_PLACE_MM for a, b in places)
