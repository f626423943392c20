"""Round pieces of dense bone and of contrast medium in organs, and tiny calcifications: what a drawn patient lacks.

A drawn patient's bones are thin shells around marrow, and its vessels may hold no contrast medium at all; these are
large enough for a mean in their middle, and there in every patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.phantom.canvas import Floats, Organ
from iscl_monai.phantom.discs import disc_coverage

ISLANDS: Sequence[tuple[Organ, tuple[float, float]]] = (
    (Organ.BONE, (350.0, 900.0)),
    (Organ.VESSEL, (180.0, 380.0)),
    (Organ.BONE, (350.0, 900.0)),
    (Organ.VESSEL, (180.0, 380.0)),
)
"""What is put in, and the range of its Hounsfield units."""

RADII_MM = (8.5, 7.5, 6.5, 5.5)
"""The largest for which there is room."""

MIXED = 255
"""Organ of a pixel in which several meet."""

CALCIFICATIONS_MM = (3.0, 2.5, 2.0, 1.5, 1.0, 0.7, 0.5)
CALCIUM_HU = (600.0, 1200.0)
"""Above the tissue around, if it filled the pixel."""


@dataclass(frozen=True, kw_only=True)
class Island:
    """A disc that replaces a piece of an organ.

    Args:
        organ: that it is from now on: bone, or a vessel full of contrast medium.
        centre: (row, column), whole pixels.
        radius_mm: of it.
        hu: inside.
    """

    organ: Organ
    centre: tuple[int, int]
    radius_mm: float
    hu: float

    def paint(self, hu: Floats, organs: NDArray[np.uint8], spacing_mm: float) -> None:
        """Replace what is there, and say whose place it is; both (row, column), changed in place."""
        coverage = disc_coverage(hu.shape, self.centre, self.radius_mm / spacing_mm)
        hu += coverage * (np.float32(self.hu) - hu)
        organs[coverage > 0] = MIXED
        organs[coverage >= 1] = self.organ

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "organ": self.organ.name.lower(),
            "centre_row_column": list(self.centre),
            "radius_mm": self.radius_mm,
            "hu": self.hu,
        }


@dataclass(frozen=True, kw_only=True)
class Calcification:
    """A small bright disc in an organ.

    Args:
        organ: that it lies in, in small letters.
        centre: (row, column), pixels; anywhere in a pixel.
        diameter_mm: of it.
        contrast_hu: above the tissue around.
    """

    organ: str
    centre: tuple[float, float]
    diameter_mm: float
    contrast_hu: float

    def image(self, shape: tuple[int, ...], spacing_mm: float) -> Floats:
        """What it adds, HU (row, column)."""
        return np.asarray(self.contrast_hu * disc_coverage(shape, self.centre, self.diameter_mm / 2 / spacing_mm))

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "organ": self.organ,
            "centre_row_column": [round(value, 3) for value in self.centre],
            "diameter_mm": self.diameter_mm,
            "contrast_hu": self.contrast_hu,
        }
