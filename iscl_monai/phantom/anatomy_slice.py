"""One slice through a made-up patient with small lesions of each size and contrast, to measure what is kept of them.

Uniform test objects are not enough: denoisers treat noise in anatomy differently (Solomon and Samei, doi
10.1118/1.4893497), so noise, detectability and lesions are measured here, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iscl_monai.phantom.anatomy import draw_patient
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.phantom.islands import CALCIFICATIONS_MM, CALCIUM_HU, ISLANDS, RADII_MM, Calcification, Island
from iscl_monai.phantom.lesions import HOSTS, MARGIN_MM
from iscl_monai.phantom.rooms import Rooms
from iscl_monai.phantom.seeds import named_rng

REGIONS = ("chest", "abdomen")
DIAMETERS_MM = (10, 7, 5, 3)
"""The largest first: small ones find room beside them."""

CONTRASTS_HU = (50, -50, 20, -20, 10, -10)
APART_MM = 9.0
"""Between borders: further than the reach of what measures them (6 mm)."""

JITTER = 0.1
"""A lesion's diameter and contrast differ from those of its kind by up to this share: none can be known by heart."""

CALCIFIED = ("liver", "spleen", "muscle", "heart", "kidney")

_FWHM = math.sqrt(8 * math.log(2))
_GAUSSIAN_REACH = 1.5  # in sigma of tissue that is plain around a Gaussian's half height


@dataclass(frozen=True, kw_only=True)
class SmallLesion:
    """One lesion of the slice.

    Args:
        number: from 1.
        organ: that it lies in, in small letters.
        centre: (row, column), whole pixels.
        diameter_mm: of the disc, or the full width at half maximum of the Gaussian.
        contrast_hu: what was added at its middle, signed.
        shape: sharp disc or Gaussian.
        kind_mm: diameter of its kind, of :data:`DIAMETERS_MM`.
        kind_hu: contrast of its kind, of :data:`CONTRASTS_HU`.
    """

    number: int
    organ: str
    centre: tuple[int, int]
    diameter_mm: float
    contrast_hu: float
    shape: Literal["disc", "gaussian"]
    kind_mm: float
    kind_hu: float

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "number": self.number,
            "organ": self.organ,
            "centre_row_column": list(self.centre),
            "diameter_mm": self.diameter_mm,
            "contrast_hu": self.contrast_hu,
            "shape": self.shape,
            "kind_mm": self.kind_mm,
            "kind_hu": self.kind_hu,
        }

    def image(self, shape: tuple[int, ...], spacing_mm: float) -> Floats:
        """What it adds, HU (row, column)."""
        if self.shape == "disc":
            coverage = disc_coverage(shape, self.centre, self.diameter_mm / 2 / spacing_mm)
            return np.asarray(np.float32(self.contrast_hu) * coverage)
        rows, columns = (np.arange(count) - at for count, at in zip(shape, self.centre, strict=True))
        distance_mm = np.hypot(rows[:, None], columns) * spacing_mm
        height = np.exp(-((distance_mm * _FWHM / self.diameter_mm) ** 2) / 2)
        return np.asarray(np.float32(self.contrast_hu) * height.astype(np.float32))


@dataclass(frozen=True, kw_only=True, eq=False)
class AnatomySlice:
    """A slice without noise.

    Args:
        plain_hu: without lesions and calcifications, float32 (row, column).
        with_lesions_hu: with them.
        organs: :class:`iscl_monai.phantom.canvas.Organ` of each pixel, 255 where several meet.
        lesions: what was put in.
        calcifications: likewise.
        islands: of bone and contrast medium; in ``plain_hu``, too.
    """

    plain_hu: Floats
    with_lesions_hu: Floats
    organs: NDArray[np.uint8]
    lesions: tuple[SmallLesion, ...]
    calcifications: tuple[Calcification, ...]
    islands: tuple[Island, ...]


def draw_anatomy_slice(region: str, *, seed: int, size: int, spacing_mm: float) -> AnatomySlice:
    """Draw a patient's slice, and put a lesion of each diameter and contrast where organs have room.

    Args:
        region: of :data:`REGIONS`.
        seed: decides the patient, the places, and how far each lesion differs from its kind.
        size: rows and columns.
        spacing_mm: distance of pixels.

    Returns:
        The slice with and without; fewer lesions where there is no room.
    """
    rng = named_rng(seed, f"{region} slice")
    patient = draw_patient(rng, region=region, slices=1, size=size, spacing_mm=spacing_mm, slice_mm=5.0, lesions=0)
    plain_hu, organs = patient.truth_hu[0], patient.organs[0]
    rooms = Rooms(organs, HOSTS, spacing_mm=spacing_mm, margin_mm=MARGIN_MM, apart_mm=APART_MM)
    islands = _placed_islands(rng, rooms)
    lesions = _placed_lesions(rng, rooms)
    calcifications = _placed_calcifications(rng, rooms)
    for island in islands:
        island.paint(plain_hu, organs, spacing_mm)
    added_hu = np.zeros_like(plain_hu)
    for lesion in lesions:
        added_hu += lesion.image(plain_hu.shape, spacing_mm)
    for calcification in calcifications:
        added_hu += calcification.image(plain_hu.shape, spacing_mm)
    return AnatomySlice(
        plain_hu=plain_hu,
        with_lesions_hu=plain_hu + added_hu,
        organs=organs,
        lesions=lesions,
        calcifications=calcifications,
        islands=islands,
    )


def _placed_islands(rng: np.random.Generator, rooms: Rooms) -> tuple[Island, ...]:
    """Each as large as there is room for."""
    placed = []
    for organ, (lowest_hu, highest_hu) in ISLANDS:
        hu = round(float(rng.uniform(lowest_hu, highest_hu)), 1)
        for radius_mm in RADII_MM:
            place = rooms.take(rng, radius_mm)
            if place is not None:
                placed.append(Island(organ=organ, centre=place[1], radius_mm=radius_mm, hu=hu))
                break
    return tuple(placed)


def _placed_lesions(rng: np.random.Generator, rooms: Rooms) -> tuple[SmallLesion, ...]:
    """A random place for each kind; discs and Gaussians alternate over sizes and contrasts."""
    placed: list[SmallLesion] = []
    for (size, kind_mm), (kind, kind_hu) in itertools.product(enumerate(DIAMETERS_MM), enumerate(CONTRASTS_HU)):
        disc = (size + kind + kind // 2) % 2 == 0
        larger, stronger = rng.uniform(1 - JITTER, 1 + JITTER, 2)
        diameter_mm = round(float(kind_mm * larger), 2)
        place = rooms.take(rng, diameter_mm / 2 if disc else diameter_mm * (0.5 + _GAUSSIAN_REACH / _FWHM))
        if place is None:
            continue
        placed.append(
            SmallLesion(
                number=len(placed) + 1,
                organ=place[0],
                centre=place[1],
                diameter_mm=diameter_mm,
                contrast_hu=round(float(kind_hu * stronger), 2),
                shape="disc" if disc else "gaussian",
                kind_mm=float(kind_mm),
                kind_hu=float(kind_hu),
            )
        )
    return tuple(placed)


def _placed_calcifications(rng: np.random.Generator, rooms: Rooms) -> tuple[Calcification, ...]:
    """One of each size, anywhere in a pixel."""
    placed = []
    for diameter_mm in CALCIFICATIONS_MM:
        place = rooms.take(rng, diameter_mm / 2, hosts=CALCIFIED)
        if place is None:
            continue
        row, column = (float(at + within) for at, within in zip(place[1], rng.uniform(-0.5, 0.5, 2), strict=True))
        placed.append(
            Calcification(
                organ=place[0],
                centre=(row, column),
                diameter_mm=diameter_mm,
                contrast_hu=round(float(rng.uniform(*CALCIUM_HU)), 1),
            )
        )
    return tuple(placed)
