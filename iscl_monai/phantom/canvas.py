"""Slices to paint organs on, addressed in mm of the patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR_HU, FAT_HU, MUSCLE_HU = -1000.0, -100.0, 55.0

_FINER = 2  # drawn so many times finer and averaged, so that borders hold partial volumes

Point = tuple[float, float, float]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


class Organ(IntEnum):
    """What a place belongs to: says what may be painted over, and where lesions may lie."""

    AIR = 0
    TABLE = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    BONE = 5
    LUNG = 6
    VESSEL = 7
    HEART = 8
    LIVER = 9
    SPLEEN = 10
    KIDNEY = 11
    BOWEL = 12
    OTHER = 13
    INNER_FAT = 14


class Canvas:
    """Slices to paint on; x to the patient's left, y to the back, z to the head (LPS, mm), 0 in the field's middle.

    Args:
        slices: number of slices.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
        level_mm: z of the volume's middle in the anatomy's own coordinates.
        scale: millimetres of this patient for one of the anatomy's.

    Attributes:
        x: of the columns, and y of the rows, in units of the anatomy.
        z: of the slices, likewise.
        angle: about the z axis, (row, column): 0 at the back, positive on the left, +-pi at the front.
        radius: distance from the z axis, (row, column).
        hu: (slice, row, column), finer than the picture.
        organ: :class:`Organ` of each place, same shape.
    """

    def __init__(
        self, *, slices: int, size: int, spacing_mm: float, slice_mm: float, level_mm: float, scale: float
    ) -> None:
        fine = size * _FINER
        self.x = ((np.arange(fine) - (fine - 1) / 2) * spacing_mm / _FINER / scale).astype(np.float32)
        self.z: list[float] = (level_mm + (np.arange(slices) - (slices - 1) / 2) * slice_mm / scale).tolist()
        self.angle: Floats = np.arctan2(self.x[None, :], self.x[:, None])
        self.radius: Floats = np.hypot(self.x[None, :], self.x[:, None])
        self.hu = np.full((slices, fine, fine), AIR_HU, np.float32)
        self.organ = np.zeros((slices, fine, fine), np.uint8)

    def fill(self, index: int, inside: Mask, hu: float, organ: Organ, *, over: Sequence[Organ] = ()) -> None:
        """Paint the places of one slice.

        Args:
            index: of the slice.
            inside: (row, column).
            hu: the value to fill with.
            organ: what the places belong to from now on.
            over: paint only over these organs; none: over all.
        """
        self._fill((index, slice(None), slice(None)), inside, hu, organ, over)

    def ellipsoid(
        self,
        centre: Point,
        radii: Point,
        hu: float,
        organ: Organ,
        *,
        over: Sequence[Organ] = (),
        turn: float = 0.0,
    ) -> None:
        """Fill an ellipsoid (a cylinder along z where the third radius is infinite).

        Args:
            centre: (x, y, z).
            radii: half axes.
            hu: the value to fill with.
            organ: see :meth:`fill`.
            over: see :meth:`fill`.
            turn: rotation about z in radians.
        """
        if min(radii) <= 0:
            return
        for index in range(len(self.z)):
            inside = self.section(index, centre, radii, turn)
            if inside is not None:
                rows, columns, where = inside
                self._fill((index, rows, columns), where, hu, organ, over)

    def section(self, index: int, centre: Point, radii: Point, turn: float = 0.0) -> tuple[slice, slice, Mask] | None:
        """Where an ellipsoid cuts a slice: rows, columns, and which of these places; None where it does not."""
        section = 1 - ((self.z[index] - centre[2]) / radii[2]) ** 2
        if section <= 0:
            return None
        reach = max(radii[:2])
        rows, columns, x, y = self._window(centre[0], centre[1], reach, reach)
        across = (x * math.cos(turn) + y * math.sin(turn)) / radii[0]
        down = (y * math.cos(turn) - x * math.sin(turn)) / radii[1]
        return rows, columns, across**2 + down**2 <= section

    def inside_ellipsoid(self, index: int, centre: Point, radii: Point, turn: float = 0.0) -> Mask:
        """Where an ellipsoid cuts a slice, (row, column) of the whole slice."""
        whole = np.zeros(self.radius.shape, np.bool_)
        found = self.section(index, centre, radii, turn)
        if found is not None:
            whole[found[0], found[1]] = found[2]
        return whole

    def tube(
        self, start: Point, end: Point, radius: float, hu: float, organ: Organ, *, over: Sequence[Organ] = ()
    ) -> None:
        """Fill all places nearer than ``radius`` to the line from ``start`` to ``end``."""
        way = [e - s for s, e in zip(start, end, strict=True)]
        length2 = max(sum(w * w for w in way), 1e-6)
        low, high = min(start[2], end[2]) - radius, max(start[2], end[2]) + radius
        half = [abs(w) / 2 + radius for w in way]
        middle = [(s + e) / 2 for s, e in zip(start, end, strict=True)]
        for index, z in enumerate(self.z):
            if not low <= z <= high:
                continue
            rows, columns, x, y = self._window(middle[0], middle[1], half[0], half[1])
            dx, dy, dz = x + (way[0] / 2), y + (way[1] / 2), z - start[2]
            along = ((dx * way[0] + dy * way[1] + dz * way[2]) / length2).clip(0, 1)
            distance2 = (dx - along * way[0]) ** 2 + (dy - along * way[1]) ** 2 + (dz - along * way[2]) ** 2
            self._fill((index, rows, columns), distance2 <= radius**2, hu, organ, over)

    def picture(self) -> Floats:
        """HU (slice, row, column) at the size asked for, blurred as a scanner would."""
        slices, fine, _ = self.hu.shape
        size = fine // _FINER
        mean = self.hu.reshape(slices, size, _FINER, size, _FINER).mean(axis=(2, 4))
        blurred: Floats = ndimage.gaussian_filter(mean, (0, 0.4, 0.4))
        return blurred

    def organs(self) -> NDArray[np.uint8]:
        """The organ of each place of :meth:`picture`; 255 where several meet."""
        slices, fine, _ = self.organ.shape
        parts = self.organ.reshape(slices, fine // _FINER, _FINER, fine // _FINER, _FINER)
        lowest, highest = parts.min(axis=(2, 4)), parts.max(axis=(2, 4))
        return np.where(lowest == highest, lowest, 255).astype(np.uint8)

    def _window(self, x: float, y: float, half_x: float, half_y: float) -> tuple[slice, slice, Floats, Floats]:
        """The rows and columns around a point, and their coordinates relative to it."""
        step, first, last = float(self.x[1] - self.x[0]), float(self.x[0]), len(self.x)
        rows, columns = (
            slice(
                min(max(0, math.ceil((at - half - first) / step)), last),
                min(max(0, math.floor((at + half - first) / step) + 1), last),
            )
            for at, half in ((y, half_y), (x, half_x))
        )
        return rows, columns, self.x[None, columns] - np.float32(x), self.x[rows, None] - np.float32(y)

    def _fill(
        self, place: tuple[int, slice, slice], inside: Mask, hu: float, organ: Organ, over: Sequence[Organ]
    ) -> None:
        owner = self.organ[place]
        if over:
            allowed = owner == over[0]
            for other in over[1:]:
                allowed |= owner == other
            inside = inside & allowed
        self.hu[place][inside] = hu
        owner[inside] = organ
