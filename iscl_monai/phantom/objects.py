"""Test objects for measuring: discs of known place, size and Hounsfield units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from iscl_monai.phantom.canvas import AIR_HU, Floats
from iscl_monai.phantom.discs import disc_coverage

WATER_RADIUS_MM = 150.0
RODS_HU = (-1000, 100, -500, 300, -100, 1000, -50, -800, 50, 600, -200)
"""In an order that keeps the densest and the thinnest apart."""
ROD_RADIUS_MM, ROD_RING_MM = 14.0, 105.0
LOW_CONTRASTS_HU = (5, 10, 20, 35, 50)
DIAMETERS_MM = (3, 4, 5, 7, 10)
LOW_CONTRAST_RING_MM = 90.0


@dataclass(frozen=True, kw_only=True)
class Disc:
    """One disc of a test object.

    Args:
        name: of it.
        x_mm: of its centre, to the patient's left of the field's middle.
        y_mm: likewise, to the back.
        radius_mm: of it.
        hu: inside.
    """

    name: str
    x_mm: float
    y_mm: float
    radius_mm: float
    hu: float

    def place(self, size: int, spacing_mm: float) -> tuple[float, float]:
        """(row, column) of its centre; pixel centres are whole numbers."""
        middle = (size - 1) / 2
        return middle + self.y_mm / spacing_mm, middle + self.x_mm / spacing_mm

    def entry(self, size: int, spacing_mm: float) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        row, column = self.place(size, spacing_mm)
        return {
            "name": self.name,
            "centre_row_column": [round(row, 4), round(column, 4)],
            "centre_x_y_mm": [round(self.x_mm, 4), round(self.y_mm, 4)],
            "radius_mm": self.radius_mm,
            "hu": self.hu,
        }


WATER = Disc(name="water", x_mm=0.0, y_mm=0.0, radius_mm=WATER_RADIUS_MM, hu=0.0)


def water(rng: np.random.Generator) -> list[Disc]:
    """Nothing but water: for noise, its spectrum, uniformity, and images without a signal.

    Args:
        rng: decides nothing here.
    """
    return [WATER]


def inserts(rng: np.random.Generator) -> list[Disc]:
    """Rods of -1000 to +1000 HU, all equally far from the middle: for linearity and edges.

    Args:
        rng: decides where on their ring they begin, and which way round they go.
    """
    rods = []
    start, way_round = float(rng.uniform(0, 1)), int(rng.choice([-1, 1]))
    for index, hu in enumerate(RODS_HU):
        x, y = _on_ring(start + way_round * index, len(RODS_HU), ROD_RING_MM)
        rods.append(Disc(name=f"rod {hu:+d} HU", x_mm=x, y_mm=y, radius_mm=ROD_RADIUS_MM, hu=float(hu)))
    return [WATER, *rods]


def low_contrast(rng: np.random.Generator) -> list[Disc]:
    """Small discs of each contrast and diameter on one ring, where noise is alike: for detectability.

    Args:
        rng: decides their order, and where on the ring they begin.
    """
    kinds = [(hu, diameter) for hu in LOW_CONTRASTS_HU for diameter in DIAMETERS_MM]
    start = float(rng.uniform(0, 1))
    discs = []
    for index, kind in enumerate(rng.permutation(len(kinds))):
        hu, diameter = kinds[int(kind)]
        x, y = _on_ring(start + index, len(kinds), LOW_CONTRAST_RING_MM)
        discs.append(Disc(name=f"{diameter} mm {hu:+d} HU", x_mm=x, y_mm=y, radius_mm=diameter / 2, hu=float(hu)))
    return [WATER, *discs]


MODULES: Mapping[str, Callable[[np.random.Generator], list[Disc]]] = {
    "water": water,
    "inserts": inserts,
    "low_contrast": low_contrast,
}


def draw_discs(discs: list[Disc], *, size: int, spacing_mm: float) -> Floats:
    """Draw a test object in air; pixels at a border hold their share of both sides.

    Args:
        discs: later ones lie on earlier ones.
        size: rows and columns.
        spacing_mm: distance of pixels.

    Returns:
        float32 HU (row, column).
    """
    hu = np.full((size, size), AIR_HU, np.float32)
    for disc in discs:
        coverage = disc_coverage(hu.shape, disc.place(size, spacing_mm), disc.radius_mm / spacing_mm)
        hu += coverage * (np.float32(disc.hu) - hu)
    return hu


def _on_ring(index: float, count: int, radius_mm: float) -> tuple[float, float]:
    angle = 2 * math.pi * index / count
    return radius_mm * math.sin(angle), -radius_mm * math.cos(angle)
