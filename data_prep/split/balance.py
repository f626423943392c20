"""What tells the sections of a split apart besides dose, counted in slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from data_prep.split.parts import Option, Part, positions_mm
from data_prep.table import SeriesRow

SECTIONS = ("noisy", "clean", "validation", "test")
NOT_SAID = "(not said)"
NONE_NAMED = "(no iterative one named)"
FEATURES = ("scanner", "kernel", "reconstruction", "body part", "slice thickness", "body level")
STRATUM = "stratum"
CUT_LEVEL = "level of cut scans"  # whatever the body part: one person's LUNG is another's CHEST

Key = tuple[str, str]
Counts = Mapping[tuple[str, Key], int]
"""Slices by section and key; a key is a feature with its value."""


@dataclass(frozen=True)
class Shares:
    """What part of all slices validation and test should have."""

    validation: float
    test: float


class Tally:
    """Slices per key and section, and how far from balance they are.

    Noisy and clean pool should be equal in every key; validation and test should have their share of it.
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._counts: dict[Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SECTIONS, 0))

    def add(self, counts: Counts, sign: int = 1) -> None:
        """Add the slices of an option, or with ``sign=-1`` take them away."""
        for (section, key), slices in counts.items():
            self._counts[key][section] += sign * slices

    def imbalance(self, keys: Iterable[Key]) -> float:
        """Slices in the wrong place, summed over some keys."""
        return sum(self._imbalance_of(self._counts[key]) for key in keys)

    def _imbalance_of(self, count: Mapping[str, int]) -> float:
        every = sum(count.values())
        validation = abs(count["validation"] - self._shares.validation * every)
        test = abs(count["test"] - self._shares.test * every)
        return abs(count["noisy"] - count["clean"]) + validation + test


def count_option(option: Option, *, levels: bool) -> Counts:
    """Slices of an option, by section and key.

    Args:
        option: what becomes of one patient.
        levels: also by lower and upper half of the scan.
    """
    counts: dict[tuple[str, Key], int] = defaultdict(int)
    for section, parts in option.items():
        for part in parts:
            for key, slices in _keys(part, levels=levels):
                counts[section, key] += slices
    return dict(counts)


def shown(options: Mapping[str, Option], *, levels: bool) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """The balance for reading: feature -> value -> section -> number of ``slices`` and ``patients``.

    Body levels are told only of body parts of which some scan is cut: a whole scan has all of them.

    Args:
        options: what became of each patient.
        levels: as in :func:`count_option`.
    """
    found: dict[str, dict[str, dict[str, dict[str, int]]]] = {"all": {}, **{name: {} for name in FEATURES}}
    parts = [part for option in options.values() for entries in option.values() for part in entries]
    cut = {level for part in parts if part.z_range_mm is not None for level in _levels(part.row)}
    for option in options.values():
        for (section, (feature, value)), slices in count_option(option, levels=levels).items():
            if feature in found and slices and (feature != "body level" or value in cut):
                row = found[feature].setdefault(value, {name: {"slices": 0, "patients": 0} for name in SECTIONS})
                row[section]["slices"] += slices
                row[section]["patients"] += 1
    return {feature: dict(sorted(values.items())) for feature, values in found.items() if values}


def one_sided(balance: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]) -> list[str]:
    """A sentence per value that only one of the two pools has."""
    sentences = []
    for feature, values in balance.items():
        for value, row in values.items():
            having = [pool for pool in ("noisy", "clean") if row[pool]["slices"]]
            if len(having) == 1:
                what = {"body level": "anatomy", "body part": "anatomy"}.get(feature, feature)
                sentences.append(
                    f"{feature} {value} is only in {having[0]}: the network can learn {what} instead of noise"
                )
    return sentences


def scanner(row: SeriesRow) -> str:
    """Manufacturer and model."""
    return " ".join(filter(None, (row.manufacturer, row.model))) or NOT_SAID


def stratum(row: SeriesRow) -> str:
    """Scanner, kernel and body part together."""
    return "|".join((scanner(row), row.kernel, row.body_part.upper()))


def _keys(part: Part, *, levels: bool) -> Iterator[tuple[Key, int]]:
    row = part.row
    thickness = NOT_SAID if row.slice_thickness_mm is None else f"{row.slice_thickness_mm:g} mm"
    yield ("all", "slices"), part.slices
    yield (STRATUM, stratum(row)), part.slices
    yield ("scanner", scanner(row)), part.slices
    yield ("kernel", row.kernel or NOT_SAID), part.slices
    yield ("reconstruction", row.reconstruction or NONE_NAMED), part.slices
    yield ("body part", _body_part(row)), part.slices
    yield ("slice thickness", thickness), part.slices
    positions = positions_mm(row) if levels else []
    if positions:
        middle = (positions[0] + positions[-1]) / 2
        lowest, highest = part.z_range_mm or (positions[0], positions[-1])
        upper = sum(middle < z <= highest for z in positions if z >= lowest)
        for level, slices in zip(_levels(row), (upper, part.slices - upper), strict=True):
            yield ("body level", level), slices
            if part.z_range_mm is not None:
                yield (CUT_LEVEL, level.rpartition(", ")[2]), slices


def _body_part(row: SeriesRow) -> str:
    return row.body_part.upper() or NOT_SAID


def _levels(row: SeriesRow) -> tuple[str, str]:
    return f"{_body_part(row)}, upper half", f"{_body_part(row)}, lower half"
