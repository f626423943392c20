"""Lesions of low contrast: where they are, how large, how much they differ, and wholly inside of one organ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.phantom.canvas import Floats, Mask, Organ
from iscl_monai.phantom.discs import disc_coverage

RADII_MM = (3.0, 12.0)
CONTRASTS_HU = (5.0, 50.0)
MARGIN_MM = 3.0
"""Of plain organ around a lesion, to measure it against."""

HOSTS = (Organ.LIVER, Organ.SPLEEN, Organ.MUSCLE, Organ.FAT, Organ.HEART, Organ.KIDNEY)
_TRIES = 6


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where voxels are: index (slice, row, column) to LPS mm, 0 in the volume's middle."""

    slices: int
    size: int
    spacing_mm: float
    slice_mm: float

    def lps_mm(self, index: Sequence[float]) -> tuple[float, float, float]:
        """Patient coordinates of an index (slice, row, column)."""
        middle = (self.size - 1) / 2
        x, y = (index[2] - middle) * self.spacing_mm, (index[1] - middle) * self.spacing_mm
        return x, y, (index[0] - (self.slices - 1) / 2) * self.slice_mm


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A sphere that differs from its organ.

    Args:
        number: from 1, as in the mask.
        organ: that it lies in, in small letters.
        index: (slice, row, column) of its centre.
        centre_lps_mm: the same in patient coordinates.
        radius_mm: of the sphere.
        contrast_hu: what was added to the organ.
    """

    number: int
    organ: str
    index: tuple[int, int, int]
    centre_lps_mm: tuple[float, float, float]
    radius_mm: float
    contrast_hu: float

    def entry(self) -> Mapping[str, Any]:
        """As written into ``truth.json``."""
        return {
            "number": self.number,
            "organ": self.organ,
            "centre_lps_mm": [round(value, 3) for value in self.centre_lps_mm],
            "centre_slice_row_column": list(self.index),
            "radius_mm": self.radius_mm,
            "contrast_hu": self.contrast_hu,
        }


def place_lesions(
    rng: np.random.Generator, truth_hu: Floats, organs: NDArray[np.uint8], grid: Grid, *, count: int
) -> tuple[tuple[Lesion, ...], NDArray[np.uint8]]:
    """Add lesions where organs have room for them.

    Contrast and radius are spread evenly over their ranges (one lesion in each of ``count`` parts of both, in
    random order); a radius that fits nowhere shrinks.

    Args:
        rng: decides places, sizes and contrasts.
        truth_hu: (slice, row, column); changed in place.
        organs: of each voxel, same shape.
        grid: of the voxels.
        count: how many; fewer where there is no room.

    Returns:
        The lesions, and their mask: uint8, number of the lesion that fills at least half of a voxel.
    """
    radii_mm, contrasts_hu = _spread(rng, RADII_MM, count), _spread(rng, CONTRASTS_HU, count)
    depths = {host: _depth_mm(organs == host, grid) for host in HOSTS if (organs == host).any()}
    mask = np.zeros(organs.shape, np.uint8)
    placed: list[Lesion] = []
    # Large ones first: small ones find room beside them.
    for radius_mm, contrast_hu in sorted(zip(radii_mm, contrasts_hu, strict=True), reverse=True):
        found = _place(rng, depths, placed, grid, radius_mm)
        if found is None:
            continue
        host, index, radius_mm = found
        signed = round(float(contrast_hu * rng.choice([-1, 1])), 1)
        lesion = Lesion(
            number=len(placed) + 1,
            organ=host.name.lower(),
            index=index,
            centre_lps_mm=grid.lps_mm(index),
            radius_mm=radius_mm,
            contrast_hu=signed,
        )
        _paint(truth_hu, mask, lesion, grid)
        placed.append(lesion)
    return tuple(placed), mask


def _spread(rng: np.random.Generator, ends: tuple[float, float], count: int) -> list[float]:
    """One random value in each of ``count`` equal parts of a range, shuffled."""
    parts = (rng.permutation(count) + rng.random(count)) / count
    values: list[float] = (ends[0] + parts * (ends[1] - ends[0])).tolist()
    return values


def _depth_mm(inside: Mask, grid: Grid) -> NDArray[np.float64]:
    """How far each voxel is from the border of its organ, slice by slice."""
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)))
    depth = [ndimage.distance_transform_edt(one, sampling=grid.spacing_mm)[1:-1, 1:-1] for one in padded]
    # The border runs half a pixel before the first voxel that is not of the organ.
    return np.stack(depth) - grid.spacing_mm / 2


def _place(
    rng: np.random.Generator,
    depths: Mapping[Organ, NDArray[np.float64]],
    placed: Sequence[Lesion],
    grid: Grid,
    radius_mm: float,
) -> tuple[Organ, tuple[int, int, int], float] | None:
    """A random place where a sphere fits, in a random one of the organs that have one; shrinks until it does."""
    for _ in range(_TRIES):
        rooms = {}
        for host, depth in depths.items():
            room = _room(depth, radius_mm, grid) & _apart(placed, radius_mm, depth.shape, grid)
            if room.any():
                rooms[host] = room
        if rooms:
            host = list(rooms)[int(rng.integers(len(rooms)))]
            places = np.argwhere(rooms[host])
            index, row, column = places[int(rng.integers(len(places)))].tolist()
            return host, (index, row, column), round(radius_mm, 2)
        radius_mm = max(RADII_MM[0], radius_mm * 0.75)
    return None


def _room(depth: NDArray[np.float64], radius_mm: float, grid: Grid) -> Mask:
    """Centres whose sphere, with a margin, lies inside of the organ in all slices that it cuts."""
    room = np.ones(depth.shape, np.bool_)
    reach = int(radius_mm / grid.slice_mm)
    for step in range(-reach, reach + 1):
        needed = (radius_mm**2 - (step * grid.slice_mm) ** 2) ** 0.5 + MARGIN_MM
        fits = depth >= needed
        here = slice(max(0, -step), len(depth) - max(0, step))
        there = slice(max(0, step), len(depth) + min(0, step))
        room[here] &= fits[there]
    return room


def _apart(placed: Sequence[Lesion], radius_mm: float, shape: tuple[int, ...], grid: Grid) -> Mask:
    """Centres far enough from all lesions that neither reaches the other's margin."""
    apart = np.ones(shape, np.bool_)
    index, row, column = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for lesion in placed:
        dz = (index - lesion.index[0]) * grid.slice_mm
        dy, dx = (row - lesion.index[1]) * grid.spacing_mm, (column - lesion.index[2]) * grid.spacing_mm
        apart &= dz**2 + dy**2 + dx**2 > (radius_mm + lesion.radius_mm + MARGIN_MM) ** 2
    return apart


def _paint(truth_hu: Floats, mask: NDArray[np.uint8], lesion: Lesion, grid: Grid) -> None:
    """Add the sphere's section to each slice that it cuts."""
    reach = int(lesion.radius_mm / grid.slice_mm)
    middle, row, column = lesion.index
    for index in range(max(0, middle - reach), min(len(truth_hu), middle + reach + 1)):
        section_mm = (lesion.radius_mm**2 - ((index - middle) * grid.slice_mm) ** 2) ** 0.5
        coverage = disc_coverage(truth_hu.shape[1:], (row, column), section_mm / grid.spacing_mm)
        truth_hu[index] += np.float32(lesion.contrast_hu) * coverage
        mask[index][coverage >= 0.5] = lesion.number
