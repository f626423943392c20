"""A patient's scans as entries of a datalist, whole or cut along z."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.split.people import Person
from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow

Range = tuple[float, float]
EVENLY_SPACED = {"even", "tilted", "unknown"}
MINIMUM_SLICES = 3
CUTS = (
    # Which part lies lower changes from patient to patient, so that no body level belongs to one pool.
    ("noisy", "clean", "validation"),
    ("clean", "noisy", "validation"),
    ("validation", "clean", "noisy"),
    ("validation", "noisy", "clean"),
)


@dataclass(frozen=True)
class Part:
    """One entry to be.

    Attributes:
        row: the series; the noisy one of a pair.
        clean: its counterpart: the other half of a pair, the reference of a noisy scan.
        z_range_mm: None: all of it.
        slices: number of slices.
    """

    row: SeriesRow
    clean: SeriesRow | None = None
    z_range_mm: Range | None = None
    slices: int = 0


Option = Mapping[str, tuple[Part, ...]]
"""What becomes of one patient: section of the datalist -> entries."""


def whole(person: Person, section: str) -> Option:
    """All of a patient in one section."""
    return {section: _parts(person, section, None)}


def cuts(person: Person, request: SplitRequest) -> list[Option]:
    """The ways to cut a patient into a noisy, a clean and perhaps a validation part.

    Each part is at least as long as the gap between them, and holds some slices; where three are too many, there is
    no validation part.

    Returns:
        One option per order of the parts; none when the patient cannot be cut.
    """
    extent = _extent(person)
    if extent is None or not person.free:
        return []
    with_validation = bool(request.validation and person.pairs)
    for share in [request.validation, 0.0] if with_validation else [0.0]:
        orders = CUTS if share else tuple(tuple(name for name in order if name != "validation") for order in CUTS[:2])
        options = [_cut(person, extent, order, share, _gap_mm(person, request)) for order in orders]
        if all(options):
            return [option for option in options if option]
    return []


def positions_mm(row: SeriesRow) -> list[float]:
    """Where the slices lie, taken as even; empty when the table does not say."""
    if row.z_lowest_mm is None or row.z_highest_mm is None or row.geometry not in EVENLY_SPACED:
        return []
    return [float(z) for z in np.linspace(row.z_lowest_mm, row.z_highest_mm, row.slices)]


def _parts(person: Person, section: str, z_range: Range | None) -> tuple[Part, ...]:
    if section == "noisy":
        rows: Sequence[tuple[SeriesRow, SeriesRow | None]] = [(row, person.counterpart(row)) for row in person.noisy]
    elif section == "clean":
        rows = [(row, None) for row in person.clean]
    else:
        rows = [(pair.noisy, pair.clean) for pair in person.pairs]
    counted = [Part(row, clean, z_range, _count(row, z_range)) for row, clean in rows]
    return tuple(part for part in counted if z_range is None or part.slices >= MINIMUM_SLICES)


def _count(row: SeriesRow, z_range: Range | None) -> int:
    if z_range is None:
        return max(row.slices, 1)  # a table of a user's own may not tell
    return sum(z_range[0] <= z <= z_range[1] for z in positions_mm(row))


def _extent(person: Person) -> Range | None:
    """From the lowest to the highest slice of a patient with one scan.

    Positions of two scans can only be compared if nothing moved: neither the patient nor, from phase to phase of one
    study, an organ. The table does not tell, so a patient with several scans stays whole.
    """
    rows = [*person.noisy, *person.clean]
    if len({row.simulated_from or row.series_uid or row.path for row in rows}) > 1:
        return None
    lows, highs = [], []
    for row in rows:
        if row.slices < 1 or row.z_lowest_mm is None or row.z_highest_mm is None or not positions_mm(row):
            return None
        lows.append(row.z_lowest_mm)
        highs.append(row.z_highest_mm)
    return min(lows), max(highs)


def _gap_mm(person: Person, request: SplitRequest) -> int:
    """Between slice positions: a slice shows tissue up to half its thickness away, on either side of the gap."""
    rows = [*person.noisy, *person.clean]
    thickest = max(max(row.slice_thickness_mm or 0.0, row.slice_step_mm or 0.0) for row in rows)
    return math.ceil(request.gap_mm + thickest)


def _cut(person: Person, extent: Range, order: Sequence[str], share: float, gap_mm: int) -> Option | None:
    """Cut at whole millimetres: readable in the datalist, and the gap is exact."""
    lowest, highest = math.floor(extent[0]), math.ceil(extent[1])
    usable = highest - lowest - gap_mm * (len(order) - 1)
    held_out = max(math.floor(share * usable), gap_mm) if share else 0
    lengths = {"validation": held_out, "noisy": (usable - held_out) // 2, "clean": (usable - held_out) // 2}
    if min(lengths[name] for name in order) < gap_mm:
        return None
    option: dict[str, tuple[Part, ...]] = {}
    start = lowest
    for name in order:
        end = highest if name == order[-1] else start + lengths[name]
        option[name] = _parts(person, name, (float(start), float(end)))
        start = end + gap_mm
    return option if all(option.values()) else None
