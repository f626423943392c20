"""The body's hull: skin, fat, muscles, ribs, spine, and the table below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from iscl_monai.phantom.canvas import AIR_HU, FAT_HU, MUSCLE_HU, Canvas, Floats, Organ

BONE_HU, MARROW_HU, CARTILAGE_HU, DISC_HU = 750.0, 190.0, 120.0, 90.0
RIB_PITCH_MM = 26.0
VERTEBRA_PITCH_MM = 30.0


@dataclass(frozen=True, kw_only=True)
class Hull:
    """Where the layers of a body end: distance from the axis, (row, column), and the place of the spine.

    Args:
        half_width: of the body.
        half_depth: of the body.
        skin: the body's surface.
        muscle: below the subcutaneous fat.
        cavity: the inner wall of chest or abdomen.
        spine_y: centre of the vertebral bodies.
    """

    half_width: float
    half_depth: float
    skin: Floats
    muscle: Floats
    cavity: Floats
    spine_y: float


def draw_hull(canvas: Canvas, rng: np.random.Generator, *, chest: bool) -> Hull:
    """Paint table, skin, fat and muscle.

    Args:
        canvas: to paint on; empty.
        rng: decides shape and fat.
        chest: chest, else abdomen.

    Returns:
        The layers, for what comes inside.
    """
    hull = _hull(canvas, rng, chest=chest)
    _table(canvas, hull)
    streaks = np.sin(7 * canvas.angle + rng.uniform(0, 6)) + np.sin(11 * canvas.angle + rng.uniform(0, 6)) > 0.3
    seam = (np.abs(canvas.radius - hull.cavity - 12) < 0.9) & streaks & (canvas.radius < hull.muscle - 2)
    for index in range(len(canvas.z)):
        canvas.fill(index, canvas.radius < hull.skin, -10.0, Organ.SKIN)
        canvas.fill(index, canvas.radius < hull.skin - 1.8, FAT_HU, Organ.FAT)
        canvas.fill(index, canvas.radius < hull.muscle, MUSCLE_HU, Organ.MUSCLE)
        # Muscles lie in layers, with fat between them.
        canvas.fill(index, seam, -60.0, Organ.OTHER)
    return hull


def _hull(canvas: Canvas, rng: np.random.Generator, *, chest: bool) -> Hull:
    angle, aside = canvas.angle, np.abs(canvas.angle)
    a, b = float(rng.uniform(135, 156)), float(rng.uniform(98, 116))
    power = float(rng.uniform(2.0, 2.4))
    skin = ((np.abs(np.sin(angle)) / a) ** power + (np.abs(np.cos(angle)) / b) ** power) ** (-1 / power)
    for waves in (2, 3, 4, 5):
        skin *= 1 + rng.uniform(-0.012, 0.012) * np.cos(waves * angle + rng.uniform(0, 0.6))
    skin -= 5 * np.exp(-((angle / 0.13) ** 2))  # the groove along the spine
    fat = float(rng.uniform(5, 20))
    cover = fat * (0.55 + 0.45 * np.sin(aside / 2) ** 2 + 0.25 * np.sin(aside) ** 2)
    if chest and rng.random() < 0.5:
        breasts = rng.uniform(8, 22) * np.exp(-(((aside - 2.45) / 0.3) ** 2))
        skin, cover = skin + breasts, cover + breasts
    muscle = skin - 1.8 - cover
    back = np.exp(-(((aside - 0.3) / 0.28) ** 2))
    wall = (13 + 17 * back + 5 * np.sin(aside) ** 2) if chest else (10 + 24 * back + 3 * np.sin(aside) ** 2)
    wall = wall + rng.uniform(0, 4)
    spine_y = b - 1.8 - 0.55 * fat - float(rng.uniform(50, 56))
    layers = {"skin": skin, "muscle": muscle, "cavity": muscle - wall}
    return Hull(
        half_width=a,
        half_depth=b,
        spine_y=spine_y,
        **{name: layer.astype(np.float32) for name, layer in layers.items()},
    )


def _table(canvas: Canvas, hull: Hull) -> None:
    """A hollow curved board under the patient."""
    drop, width = 190.0, 260.0
    for inset, hu in ((0.0, -250.0), (2.5, -930.0), (15.0, -250.0), (17.0, AIR_HU)):
        shape = (width - inset, drop - inset, math.inf)
        canvas.ellipsoid((0, hull.half_depth + 19 - drop, 0), shape, hu, Organ.TABLE)


def draw_ribs(canvas: Canvas, rng: np.random.Generator, hull: Hull, *, chest: bool) -> None:
    """Ribs that run aslant from the spine forwards and down, so that a slice cuts each one somewhere else.

    Args:
        canvas: to paint on.
        rng: decides their phase and thickness.
        hull: of the body.
        chest: whole rings that end in cartilage at the breastbone; else short ribs at sides and back.
    """
    aside = np.abs(canvas.angle)
    side = np.where(canvas.angle > 0, rng.uniform(-3, 3), 0.0)
    drop = 42 * aside**1.25 + side
    phase, thick = float(rng.uniform(0, RIB_PITCH_MM)), float(rng.uniform(3.2, 4.2))
    depth = (canvas.radius - hull.cavity - 4.5) / thick
    for index, z in enumerate(canvas.z):
        height = (z + drop + phase) % RIB_PITCH_MM - RIB_PITCH_MM / 2
        shape = depth**2 + (height / 6.2) ** 2
        reach = 2.45 if chest else np.clip(1.4 + z / 80, 0.4, 2.3)
        ring = (aside > 0.22) & (aside < reach)
        canvas.fill(index, (shape < 1) & ring, BONE_HU, Organ.BONE)
        canvas.fill(index, (shape < 0.36) & ring, MARROW_HU, Organ.BONE)
        if chest:
            front = (aside >= reach) & (aside < 2.95)
            canvas.fill(index, (shape < 1) & front, CARTILAGE_HU, Organ.BONE)


def radius_at(canvas: Canvas, layer: Floats, angle: float) -> float:
    """How far from the axis a layer ends in some direction."""
    middle, reach = (len(canvas.x) - 1) / 2, len(canvas.x) * 0.4
    row, column = middle + reach * math.cos(angle), middle + reach * math.sin(angle)
    return float(layer[round(row), round(column)])


def draw_sternum(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """The breastbone, between the ends of the ribs."""
    front = -radius_at(canvas, hull.cavity, math.pi) - 5
    width = float(rng.uniform(15, 20))
    for inset, hu in ((0.0, BONE_HU - 200), (1.6, MARROW_HU - 40)):
        canvas.ellipsoid((0, front, 0), (width - inset, 6 - inset, 130), hu, Organ.BONE)


def draw_shoulder_blades(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """Thin plates of bone in the muscles of the upper back, ending at the seventh rib."""
    tilt = float(rng.uniform(0.5, 0.8))
    for side in (-1, 1):
        radius = radius_at(canvas, hull.cavity, side * 0.95) + 15
        x, y = radius * math.sin(side * 0.95), radius * math.cos(0.95)
        for inset, hu in ((0.0, BONE_HU), (1.4, MARROW_HU)):
            shape = (30 - inset, 3.4 - inset, 95)
            over = (Organ.MUSCLE, Organ.OTHER, Organ.BONE)
            canvas.ellipsoid((x, y, 60), shape, hu, Organ.BONE, over=over, turn=-side * tilt)


def draw_spine(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """Vertebrae with cortex, marrow, arch and processes, and the discs between them."""
    y, width = hull.spine_y, float(rng.uniform(18, 23))
    depth, phase = 0.78 * width, float(rng.uniform(0, VERTEBRA_PITCH_MM))
    marrow = MARROW_HU + float(rng.uniform(-60, 60))
    arch = y + depth + 8
    for index, z in enumerate(canvas.z):
        height = (z + phase) % VERTEBRA_PITCH_MM
        _arch(canvas, index, y + depth, arch, width, low=height < 18)
        for inset in (0.0, 1.5):
            inside = canvas.inside_ellipsoid(index, (0, y, z), (width - inset, depth - inset, 1))
            if height < 5:  # a disc, soft inside
                canvas.fill(index, inside, DISC_HU + 20 * (inset == 0), Organ.OTHER)
            else:
                plate = height < 6.5 or height > VERTEBRA_PITCH_MM - 1.5
                canvas.fill(index, inside, BONE_HU - 150 if inset == 0 or plate else marrow, Organ.BONE)
        canal = canvas.inside_ellipsoid(index, (0, arch - 1, z), (9, 7.5, 1))
        canvas.fill(index, canal, 10.0, Organ.OTHER)
        canvas.fill(index, canvas.inside_ellipsoid(index, (0, arch - 1, z), (5, 4.5, 1)), 38.0, Organ.OTHER)


def _arch(canvas: Canvas, index: int, body_end: float, arch: float, width: float, *, low: bool) -> None:
    """What surrounds the canal, and the processes: to the back always, to the sides at the upper half."""
    z = canvas.z[index]
    for inset, hu in ((0.0, BONE_HU), (1.6, MARROW_HU + 60)):
        parts = [((0.0, arch + 18.0), (3.6, 15.0), 0.0)]
        for side in (-1.0, 1.0):
            parts.append(((side * 8, arch + 8), (9.0, 4.0), side * 0.6))
            if not low:
                parts.append(((side * (width + 5), body_end + 8), (width * 0.75, 3.8), side * 0.35))
                parts.append(((side * 12.5, body_end + 3), (4.4, 8.0), 0.0))
        for (x, y), (across, down), turn in parts:
            shape = canvas.inside_ellipsoid(index, (x, y, z), (across - inset, down - inset, 1), turn)
            canvas.fill(index, shape, hu, Organ.BONE)
