"""One slice through a made-up patient with small lesions of each size and contrast, to measure what is kept of them.

Uniform test objects are not enough: denoisers treat noise in anatomy differently (Solomon and Samei, doi
10.1118/1.4893497), so noise, detectability and lesions are measured here, too.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.phantom.anatomy import draw_patient
from iscl_monai.phantom.canvas import Floats
from iscl_monai.phantom.discs import disc_coverage
from iscl_monai.phantom.lesions import HOSTS, MARGIN_MM

REGIONS = ("chest", "abdomen")
DIAMETERS_MM = (10, 7, 5, 3)
"""The largest first: small ones find room beside them."""

CONTRASTS_HU = (50, -50, 20, -20, 10, -10)
APART_MM = 9.0
"""Between borders: further than the reach of what measures them (6 mm)."""

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
    """

    number: int
    organ: str
    centre: tuple[int, int]
    diameter_mm: float
    contrast_hu: float
    shape: Literal["disc", "gaussian"]

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "number": self.number,
            "organ": self.organ,
            "centre_row_column": list(self.centre),
            "diameter_mm": self.diameter_mm,
            "contrast_hu": self.contrast_hu,
            "shape": self.shape,
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
        plain_hu: without lesions, float32 (row, column).
        with_lesions_hu: with them.
        lesions: what was put in.
    """

    plain_hu: Floats
    with_lesions_hu: Floats
    lesions: tuple[SmallLesion, ...]


def draw_anatomy_slice(region: str, *, seed: int, size: int, spacing_mm: float) -> AnatomySlice:
    """Draw a patient's slice, and put a lesion of each diameter and contrast where organs have room.

    Args:
        region: of :data:`REGIONS`.
        seed: decides the patient and the places.
        size: rows and columns.
        spacing_mm: distance of pixels.

    Returns:
        The slice with and without; fewer lesions where there is no room.
    """
    digest = hashlib.blake2b(f"{seed}|{region} slice".encode(), digest_size=16).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    patient = draw_patient(rng, region=region, slices=1, size=size, spacing_mm=spacing_mm, slice_mm=5.0, lesions=0)
    lesions = _placed(rng, patient.organs[0], spacing_mm)
    plain_hu = patient.truth_hu[0]
    added_hu = sum((lesion.image(plain_hu.shape, spacing_mm) for lesion in lesions), np.zeros_like(plain_hu))
    return AnatomySlice(plain_hu=plain_hu, with_lesions_hu=plain_hu + added_hu, lesions=lesions)


def _placed(rng: np.random.Generator, organs: NDArray[np.uint8], spacing_mm: float) -> tuple[SmallLesion, ...]:
    """A random place for each kind; discs and Gaussians alternate over sizes and contrasts."""
    depths_mm = {host.name.lower(): _depth_mm(organs == host, spacing_mm) for host in HOSTS}
    free_mm = np.full(organs.shape, np.inf)
    placed: list[SmallLesion] = []
    for (size, diameter_mm), (kind, contrast_hu) in itertools.product(enumerate(DIAMETERS_MM), enumerate(CONTRASTS_HU)):
        disc = (size + kind + kind // 2) % 2 == 0
        reach_mm = diameter_mm / 2 if disc else diameter_mm * (0.5 + _GAUSSIAN_REACH / _FWHM)
        rooms = {
            name: room
            for name, depth_mm in depths_mm.items()
            if (room := (depth_mm >= reach_mm + MARGIN_MM) & (free_mm >= reach_mm + APART_MM)).any()
        }
        if not rooms:
            continue
        organ = sorted(rooms)[int(rng.integers(len(rooms)))]
        places = np.argwhere(rooms[organ])
        row, column = places[int(rng.integers(len(places)))].tolist()
        rows, columns = np.ogrid[: organs.shape[0], : organs.shape[1]]
        free_mm = np.minimum(free_mm, np.hypot(rows - row, columns - column) * spacing_mm - reach_mm)
        placed.append(
            SmallLesion(
                number=len(placed) + 1,
                organ=organ,
                centre=(row, column),
                diameter_mm=float(diameter_mm),
                contrast_hu=float(contrast_hu),
                shape="disc" if disc else "gaussian",
            )
        )
    return tuple(placed)


def _depth_mm(inside: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.float64]:
    """How far each pixel is from the border of its organ; 0 outside."""
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm)[1:-1, 1:-1]
    return np.where(inside, depth - spacing_mm / 2, 0.0)
