"""A few neighbouring slices of one made-up patient, with rods along z that begin or end between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.phantom.anatomy import draw_patient
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.phantom.lesions import HOSTS, MARGIN_MM
from iscl_monai.phantom.rooms import Rooms
from iscl_monai.phantom.seeds import named_rng

SLICES = 8
REGION = "abdomen"
RODS = 8
RADII_MM = (9.0, 7.5, 6.0)
"""The largest for which there is room."""

CONTRAST_HU = (80.0, 160.0)
APART_MM = 4.0
FARTHEST_FROM_ENDS = 2
"""So many slices at least lie on each side of a rod's end."""


@dataclass(frozen=True, kw_only=True)
class StepRod:
    """A rod along z that ends inside of the stack.

    Args:
        centre: (row, column).
        radius_mm: of it.
        contrast_hu: of it, signed.
        step: index of the first slice on the other side of its end.
        above: whether it fills the slices from ``step`` on, else those before.
    """

    centre: tuple[int, int]
    radius_mm: float
    contrast_hu: float
    step: int
    above: bool

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "centre_row_column": list(self.centre),
            "radius_mm": self.radius_mm,
            "contrast_hu": self.contrast_hu,
            "step": self.step,
            "above": self.above,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AnatomyStack:
    """Neighbouring slices without noise.

    Args:
        hu: float32 (slice, row, column).
        organs: :class:`iscl_monai.phantom.canvas.Organ` of each voxel, 255 where several meet.
        rods: that end inside.
    """

    hu: Floats
    organs: NDArray[np.uint8]
    rods: tuple[StepRod, ...]


def draw_anatomy_stack(*, seed: int, size: int, spacing_mm: float, slice_mm: float) -> AnatomyStack:
    """Draw a few neighbouring slices of a patient, and put rods in where an organ has room in all of them.

    Args:
        seed: decides the patient, the places, contrasts and ends.
        size: rows and columns.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
    """
    rng = named_rng(seed, "stack")
    patient = draw_patient(
        rng, region=REGION, slices=SLICES, size=size, spacing_mm=spacing_mm, slice_mm=slice_mm, lesions=0
    )
    hu, organs = patient.truth_hu, patient.organs
    same = np.where((organs == organs[0]).all(axis=0), organs[0], np.uint8(255))
    rooms = Rooms(same, HOSTS, spacing_mm=spacing_mm, margin_mm=MARGIN_MM, apart_mm=APART_MM)
    rods = []
    for _ in range(RODS):
        for radius_mm in RADII_MM:
            place = rooms.take(rng, radius_mm)
            if place is not None:
                rods.append(_rod(rng, place[1], radius_mm))
                break
    for rod in rods:
        coverage = disc_coverage(hu.shape[1:], rod.centre, rod.radius_mm / spacing_mm)
        filled = slice(rod.step, None) if rod.above else slice(None, rod.step)
        hu[filled] += np.float32(rod.contrast_hu) * coverage
    return AnatomyStack(hu=hu, organs=organs, rods=tuple(rods))


def _rod(rng: np.random.Generator, centre: tuple[int, int], radius_mm: float) -> StepRod:
    return StepRod(
        centre=centre,
        radius_mm=radius_mm,
        contrast_hu=round(float(rng.uniform(*CONTRAST_HU) * rng.choice([-1, 1])), 1),
        step=int(rng.integers(FARTHEST_FROM_ENDS, SLICES - FARTHEST_FROM_ENDS + 1)),
        above=bool(rng.integers(2)),
    )
