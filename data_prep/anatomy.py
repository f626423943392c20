"""Made-up patients: chests and abdomens drawn from ellipsoids and tubes, each one different.

Not meant to look like a person to a person. Meant to hold what a denoiser meets: fat around muscle, lungs
with branching vessels, bone that starves rays, organs with lesions of low contrast, gas beside tissue, air
and a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR, LUNG, FAT, MUSCLE, BONE, MARROW = -1000.0, -860.0, -100.0, 55.0, 700.0, 180.0

_FINER = 2  # drawn so many times finer and averaged, so that borders hold partial volumes
_ANYTHING = (-math.inf, math.inf)
_LUNG_ONLY = (-1000.0, -500.0)

Point = tuple[float, float, float]


class Canvas:
    """Slices to paint on, addressed in mm: x to the right, y downwards (posterior), z upwards, 0 amidst.

    Args:
        slices: number of slices.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
    """

    def __init__(self, *, slices: int, size: int, spacing_mm: float, slice_mm: float) -> None:
        fine = size * _FINER
        self.x = ((np.arange(fine) - (fine - 1) / 2) * spacing_mm / _FINER).astype(np.float32)
        self.z = (np.arange(slices) - (slices - 1) / 2) * slice_mm
        self.hu = np.full((slices, fine, fine), AIR, np.float32)

    def ellipsoid(
        self,
        centre: Point,
        radii: Point,
        hu: float,
        *,
        over: tuple[float, float] = _ANYTHING,
        turn: float = 0.0,
    ) -> None:
        """Fill an ellipsoid (a cylinder along z where the third radius is infinite).

        Args:
            centre: (x, y, z) in mm.
            radii: half axes in mm.
            hu: the value to fill with.
            over: paint only over values in this range.
            turn: rotation about z in radians.
        """
        for index, z in enumerate(self.z):
            section = 1 - ((z - centre[2]) / radii[2]) ** 2
            if section <= 0:
                continue
            reach = max(radii[:2])
            rows, columns, x, y = self._window(centre[0], centre[1], reach, reach)
            across = (x * math.cos(turn) + y * math.sin(turn)) / radii[0]
            down = (y * math.cos(turn) - x * math.sin(turn)) / radii[1]
            self._fill(index, rows, columns, across**2 + down**2 <= section, hu, over)

    def tube(
        self, start: Point, end: Point, radius: float, hu: float, *, over: tuple[float, float] = _ANYTHING
    ) -> None:
        """Fill all points nearer than ``radius`` (mm) to the line from ``start`` to ``end``."""
        a, b = np.array(start), np.array(end)
        way = b - a
        middle, half = (a + b) / 2, np.abs(way) / 2 + radius
        for index, z in enumerate(self.z):
            if abs(z - middle[2]) > half[2]:
                continue
            rows, columns, x, y = self._window(middle[0], middle[1], half[0], half[1])
            dx, dy, dz = x + (middle[0] - a[0]), y + (middle[1] - a[1]), z - a[2]
            along = ((dx * way[0] + dy * way[1] + dz * way[2]) / (way @ way)).clip(0, 1)
            distance = (dx - along * way[0]) ** 2 + (dy - along * way[1]) ** 2 + (dz - along * way[2]) ** 2
            self._fill(index, rows, columns, distance <= radius**2, hu, over)

    def picture(self) -> NDArray[np.float32]:
        """HU (slice, row, column) at the size asked for, blurred as a scanner would."""
        slices, fine, _ = self.hu.shape
        size = fine // _FINER
        mean = self.hu.reshape(slices, size, _FINER, size, _FINER).mean(axis=(2, 4))
        blurred: NDArray[np.float32] = ndimage.gaussian_filter(mean, (0, 0.4, 0.4))
        return blurred

    def _window(
        self, x: float, y: float, half_x: float, half_y: float
    ) -> tuple[slice, slice, NDArray[np.float32], NDArray[np.float32]]:
        """The rows and columns around a point, and their coordinates relative to it."""
        rows = slice(*np.searchsorted(self.x, [y - half_y, y + half_y]).tolist())
        columns = slice(*np.searchsorted(self.x, [x - half_x, x + half_x]).tolist())
        return rows, columns, self.x[None, columns] - np.float32(x), self.x[rows, None] - np.float32(y)

    def _fill(
        self,
        index: int,
        rows: slice,
        columns: slice,
        inside: NDArray[np.bool_],
        hu: float,
        over: tuple[float, float],
    ) -> None:
        view = self.hu[index, rows, columns]
        view[inside & (view >= over[0]) & (view <= over[1])] = hu


def draw_patient(
    rng: np.random.Generator, *, region: str, slices: int, size: int, spacing_mm: float, slice_mm: float
) -> NDArray[np.float32]:
    """Draw one patient without noise.

    Args:
        rng: decides the patient.
        region: ``"chest"`` or ``"abdomen"``.
        slices: number of slices.
        size: rows and columns of a slice.
        spacing_mm: distance of pixels; the body fills most of ``size * spacing_mm``.
        slice_mm: distance of slices.

    Returns:
        HU (slice, row, column).
    """
    canvas = Canvas(slices=slices, size=size, spacing_mm=spacing_mm, slice_mm=slice_mm)
    field = size * spacing_mm
    a, b = rng.uniform(0.38, 0.45) * field, rng.uniform(0.28, 0.34) * field
    fat = rng.uniform(0.02, 0.07) * field
    _table(canvas, b, field)
    canvas.ellipsoid((0, 0, 0), (a, b, math.inf), -70.0)
    canvas.ellipsoid((0, 0, 0), (a - 2, b - 2, math.inf), FAT)
    a, b = a - fat, b - fat * 0.7
    canvas.ellipsoid((0, 0, 0), (a, b, math.inf), MUSCLE)
    organs = _chest if region == "chest" else _abdomen
    organs(canvas, rng, a, b)
    _ribs(canvas, rng, a, b, count=18 if region == "chest" else 10)
    _spine(canvas, rng, a, b)
    tissue = ndimage.gaussian_filter(rng.standard_normal(canvas.hu.shape, dtype=np.float32), (1, 6, 6))
    canvas.hu += tissue * np.float32(4 / tissue.std()) * (canvas.hu > -200)
    return canvas.picture()


def _within(canvas: Canvas, rng: np.random.Generator, centre: Point, radii: Point) -> Point:
    """A place inside an ellipsoid, on one of the slices."""
    x, y = rng.uniform(-0.6, 0.6, 2)
    return centre[0] + float(x) * radii[0], centre[1] + float(y) * radii[1], float(rng.choice(canvas.z))


def _table(canvas: Canvas, b: float, field: float) -> None:
    """A hollow board under the patient."""
    drop = 0.55 * field
    for inset, hu in ((0.0, -250.0), (4.0, -930.0)):
        shape = (0.75 * field - inset, drop - inset, math.inf)
        canvas.ellipsoid((0, b + 14 - drop, 0), shape, hu)
    canvas.ellipsoid((0, b - 4 - drop, 0), (0.75 * field, drop, math.inf), AIR)


def _chest(canvas: Canvas, rng: np.random.Generator, a: float, b: float) -> None:
    """Lungs with vessels and nodules, heart, aorta, airway."""
    enhanced = float(rng.choice([45.0, 130.0, 220.0]))
    for side in (-1, 1):
        centre = (side * a * rng.uniform(0.44, 0.5), b * rng.uniform(-0.08, 0.04), 0.0)
        radii = (a * rng.uniform(0.34, 0.4), b * rng.uniform(0.66, 0.76), rng.uniform(90, 140))
        canvas.ellipsoid(centre, radii, LUNG + float(rng.uniform(-20, 20)), turn=side * 0.12)
        for _ in range(4):
            hilum = (side * a * 0.14, b * rng.uniform(-0.15, 0.15), float(rng.uniform(-25, 25)))
            heading = (side * 1.0, float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.6, 0.6)))
            _branches(canvas, rng, hilum, heading, radius=a * 0.036, hu=min(enhanced, 130.0), depth=5)
        for _ in range(3):
            nodule = _within(canvas, rng, centre, radii)
            canvas.ellipsoid(nodule, (float(rng.uniform(2, 7)),) * 3, 30.0, over=_LUNG_ONLY)
    heart = (a * rng.uniform(0.1, 0.2), -b * rng.uniform(0.2, 0.35), float(rng.uniform(-60, 0)))
    canvas.ellipsoid(heart, (a * 0.32, b * 0.38, 70), MUSCLE, turn=0.5)
    canvas.ellipsoid(heart, (a * 0.18, b * 0.22, 50), max(enhanced - 10, 40.0), turn=0.5)
    canvas.ellipsoid((a * 0.14, b * 0.4, 0), (a * 0.09, a * 0.09, math.inf), enhanced)
    canvas.ellipsoid((0, b * 0.12, 40), (a * 0.06, a * 0.06, 60), AIR)


def _branches(
    canvas: Canvas,
    rng: np.random.Generator,
    start: Point,
    heading: Sequence[float],
    *,
    radius: float,
    hu: float,
    depth: int,
) -> None:
    """A tree of vessels: each twig thinner and shorter than its stem; painted over lung only."""
    way = np.array(heading) / np.linalg.norm(heading) * radius * rng.uniform(5, 8)
    x, y, z = (float(value) for value in np.array(start) + way)
    canvas.tube(start, (x, y, z), radius, hu, over=_LUNG_ONLY)
    if depth > 1:
        for _ in range(2):
            turned = np.array(heading) / np.linalg.norm(heading) + rng.normal(0, 0.5, 3)
            _branches(canvas, rng, (x, y, z), turned.tolist(), radius=radius * 0.74, hu=hu, depth=depth - 1)


def _abdomen(canvas: Canvas, rng: np.random.Generator, a: float, b: float) -> None:
    """Fat inside the abdominal wall; liver with lesions and vessels, spleen, kidneys, bowel, aorta."""
    wall = rng.uniform(8, 16)
    canvas.ellipsoid((0, 0, 0), (a - wall, b - wall, math.inf), FAT)
    enhanced = float(rng.choice([0.0, 60.0, 110.0]))
    for side in (-1, 1):
        canvas.ellipsoid((side * a * 0.17, b * 0.62, 0), (a * 0.13, b * 0.2, math.inf), MUSCLE)
        kidney = (side * a * rng.uniform(0.42, 0.5), b * rng.uniform(0.38, 0.48), float(rng.uniform(-25, 25)))
        canvas.ellipsoid(kidney, (a * 0.15, a * 0.12, 55), 35 + enhanced, turn=side * 0.7)
        canvas.ellipsoid(kidney, (a * 0.06, a * 0.05, 25), FAT + enhanced, turn=side * 0.7)
    for _ in range(9):
        place = _within(canvas, rng, (0.31 * a, -0.29 * b, 0), (0.68 * a, 0.65 * b, 0))
        x, y, z = (float(rng.uniform(*limits)) for limits in ((9, 20), (8, 15), (12, 40)))
        turn, inner = float(rng.uniform(0, 3)), float(rng.choice([AIR + 30, 15.0, 25.0, -60.0]))
        canvas.ellipsoid(place, (x, y, z), MUSCLE, turn=turn)
        canvas.ellipsoid(place, (x - 3, y - 3, z - 3), inner, turn=turn)
    canvas.ellipsoid((a * 0.66, b * 0.2, 10), (a * 0.2, b * 0.38, 60), 50 + enhanced * 0.6, turn=-0.3)
    _liver(canvas, rng, a, b, 60 + enhanced * 0.5)
    canvas.ellipsoid((a * 0.05, b * 0.36, 0), (a * 0.07, a * 0.07, math.inf), 45 + enhanced)


def _liver(canvas: Canvas, rng: np.random.Generator, a: float, b: float, hu: float) -> None:
    """The largest organ, with lesions 10 to 40 HU darker than itself and brighter vessels."""
    centre = (-a * 0.45, -b * 0.15, float(rng.uniform(0, 30)))
    radii = (a * 0.45, b * 0.68, 80.0)
    canvas.ellipsoid(centre, radii, hu, turn=0.35)
    for _ in range(14):
        x, y, z = _within(canvas, rng, centre, radii)
        way = rng.normal(0, 18, 3)
        end = (x + float(way[0]), y + float(way[1]), z + float(way[2]))
        canvas.tube((x, y, z), end, float(rng.uniform(1.5, 4)), hu + 25, over=(hu - 1, hu + 1))
    for _ in range(6):
        lesion, radius = _within(canvas, rng, centre, radii), float(rng.uniform(3, 12))
        canvas.ellipsoid(lesion, (radius,) * 3, hu - float(rng.uniform(10, 40)), over=(hu - 1, hu + 26))


def _ribs(canvas: Canvas, rng: np.random.Generator, a: float, b: float, *, count: int) -> None:
    """Sections of ribs around the body; they move along the wall from slice to slice, as ribs run aslant."""
    start = float(rng.uniform(0, 1))
    for index in range(count):
        # None at the front (y < 0), where the sternum would be, and none at the spine.
        angle = math.pi * (0.62 + 1.76 * (index + start) / count) + math.pi / 2
        if abs(math.sin(angle) - 1) < 0.12:
            continue
        slope = 0.004 * (1 if math.cos(angle) > 0 else -1)
        low = (0.955 * a * math.cos(angle - slope * 60), 0.945 * b * math.sin(angle - slope * 60), -60.0)
        high = (0.955 * a * math.cos(angle + slope * 60), 0.945 * b * math.sin(angle + slope * 60), 60.0)
        canvas.tube(low, high, 5.0, BONE)
        canvas.tube(low, high, 2.8, MARROW)


def _spine(canvas: Canvas, rng: np.random.Generator, a: float, b: float) -> None:
    """A vertebra with cortex and marrow, the canal, and processes."""
    y, width = b * 0.68, a * rng.uniform(0.13, 0.16)
    canvas.tube((0, y + width, 0), (0, b * 0.97, 0), 4.0, BONE)
    for side in (-1, 1):
        canvas.tube((0, y + width, 0), (side * width * 1.9, y + width * 1.3, 0), 4.5, BONE)
    canvas.ellipsoid((0, y, 0), (width, width * 0.8, math.inf), BONE)
    marrow = MARROW + float(rng.uniform(-40, 60))
    canvas.ellipsoid((0, y, 0), (width - 2.5, width * 0.8 - 2.5, math.inf), marrow)
    canvas.ellipsoid((0, y + width * 1.15, 0), (width * 0.62, width * 0.5, math.inf), BONE)
    canvas.ellipsoid((0, y + width * 1.15, 0), (width * 0.45, width * 0.38, math.inf), 25.0)
