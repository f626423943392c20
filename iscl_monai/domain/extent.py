"""Which part of a patient or specimen is shown, and how far two parts are from each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extent(ABC):
    """The face of both kinds.

    Attributes:
        least_gap: between parts of one patient or specimen in two roles.
        key: of an entry of the datalist that holds the part; None there: all of it.
        parts: what is kept apart, in words.
        unit: of distances.
        test_is_of_others: whether the test shares no patient with anything, however far apart.
    """

    least_gap: float
    key: str
    parts: str
    unit: str
    test_is_of_others: bool

    @abstractmethod
    def gap(self, one: Any, other: Any, step: float) -> float:
        """Distance of two parts in the unit; 0 or less where they overlap.

        Args:
            one: value of the key.
            other: likewise.
            step: distance of successive numbers, for parts that are counted.
        """

    @abstractmethod
    def words(self, part: Any) -> str:
        """A part for refusals."""


@dataclass(frozen=True)
class SliceRange(Extent):
    """From the lowest to the highest position along the slice normal."""

    least_gap: float
    key: str = "z_range_mm"
    parts: str = "z-ranges"
    unit: str = "mm"
    test_is_of_others: bool = True

    def gap(self, one: tuple[float, float], other: tuple[float, float], step: float) -> float:
        """See :class:`Extent`; positions are in mm already."""
        return max(one[0], other[0]) - min(one[1], other[1])

    def words(self, part: tuple[float, float] | None) -> str:
        """See :class:`Extent`."""
        return "z everything" if part is None else "z {:g} to {:g} mm".format(*part)


@dataclass(frozen=True)
class SectionNumbers(Extent):
    """The numbers of sections of one stack, which cross-validation divides: a specimen may be in all roles."""

    least_gap: float
    key: str = "sections"
    parts: str = "sections"
    unit: str = "nm"
    test_is_of_others: bool = False

    def gap(self, one: tuple[int, ...], other: tuple[int, ...], step: float) -> float:
        """See :class:`Extent`; of the two nearest numbers."""
        return step * min(abs(a - b) for a in one for b in other)

    def words(self, part: tuple[int, ...] | None) -> str:
        """See :class:`Extent`."""
        return "all sections" if part is None else f"{len(part)} sections, {min(part)} to {max(part)}"
