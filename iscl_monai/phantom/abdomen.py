"""What an abdomen holds: liver, spleen, kidneys, stomach, bowel, great vessels, and the fat between them.

The origin lies at the kidneys' hila.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from iscl_monai.phantom.body import Hull
from iscl_monai.phantom.canvas import AIR_HU, FAT_HU, MUSCLE_HU, Canvas, Organ, Point
from iscl_monai.phantom.vessels import draw_tree

_FREE = (Organ.INNER_FAT, Organ.OTHER)


def draw_abdomen(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """Fill the cavity of an abdomen.

    Args:
        canvas: with the hull painted.
        rng: decides all that varies.
        hull: of the body.
    """
    contrast = float(rng.choice([0.0, 60.0, 110.0]))
    for index in range(len(canvas.z)):
        canvas.fill(index, canvas.radius < hull.cavity, FAT_HU - 5, Organ.INNER_FAT)
    _front_muscles(canvas, hull)
    _psoas(canvas, rng, hull)
    _bowel(canvas, rng, hull, contrast)
    _colon(canvas, rng, hull)
    _mesentery(canvas, rng, contrast)
    _stomach(canvas, rng, hull)
    _pancreas(canvas, contrast)
    _spleen(canvas, rng, hull, 50 + 0.6 * contrast)
    _liver(canvas, rng, hull, 58 + 0.5 * contrast, contrast)
    _kidneys(canvas, rng, hull, contrast)
    _great_vessels(canvas, rng, hull, 42 + contrast)


def _front_muscles(canvas: Canvas, hull: Hull) -> None:
    """The fat line between the two straight muscles in front."""
    aside = np.abs(canvas.angle)
    wall = (canvas.radius > hull.cavity) & (canvas.radius < hull.muscle)
    gap = wall & ((np.abs(canvas.x[None, :]) < 2.5) & (aside > 2.5) | (np.abs(aside - 2.35) < 0.03))
    for index in range(len(canvas.z)):
        canvas.fill(index, gap, FAT_HU + 30, Organ.FAT, over=(Organ.MUSCLE, Organ.OTHER))


def _psoas(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """The muscles beside the spine, thicker further down; the diaphragm's pillars before it."""
    thick = float(rng.uniform(0.85, 1.15))
    for index, z in enumerate(canvas.z):
        width = thick * float(np.clip(15 - z / 12, 6, 24))
        for side in (-1, 1):
            centre = (side * (22 + width * 0.75), hull.spine_y + 6, z)
            shape = canvas.inside_ellipsoid(index, centre, (width, width * 1.15, 1), side * 0.3)
            canvas.fill(index, shape, MUSCLE_HU, Organ.MUSCLE, over=_FREE)
            pillar = canvas.inside_ellipsoid(index, (side * 17, hull.spine_y - 15, z), (5, 11, 1), -side * 0.7)
            canvas.fill(index, pillar, MUSCLE_HU, Organ.OTHER, over=_FREE)


def _liver(canvas: Canvas, rng: np.random.Generator, hull: Hull, hu: float, contrast: float) -> None:
    """Along the wall of the right side, across the middle to the left, with vessels and gall bladder."""
    high = float(rng.uniform(65, 85))
    a, b = hull.half_width, hull.half_depth
    right: tuple[Point, Point] = ((-0.5 * a, -2, high), (0.62 * a, 0.86 * b, 98))
    left: tuple[Point, Point] = ((0.02 * a, -0.4 * b, high + 15), (0.5 * a, 0.36 * b, 55))
    over = (*_FREE, Organ.BOWEL)
    for index, z in enumerate(canvas.z):
        inside = canvas.inside_ellipsoid(index, *right, 0.25) | canvas.inside_ellipsoid(index, *left, -0.15)
        inside &= canvas.radius < hull.cavity - 2.5
        for centre, radii in (((0, hull.spine_y, z), (43, 40, 1)), ((-24, 6, z), (11, 24, 1))):
            inside &= ~canvas.inside_ellipsoid(index, centre, radii)
        canvas.fill(index, inside, hu, Organ.LIVER, over=over)
    for height in (-0.4, 0.1, 0.6):
        for way in ((-1.0, -0.2, 0.3), (-0.7, 0.5, -0.4), (-0.5, -0.8, 0.0), (0.8, -0.7, 0.2)):
            start = (-20.0 + float(rng.uniform(-8, 8)), -6 + float(rng.uniform(-6, 6)), high + 40 * height)
            blood = max(hu + 0.25 * contrast, hu - 16 + 0.4 * contrast)
            draw_tree(canvas, rng, start, way, radius=4.4, hu=blood, over=(Organ.LIVER,), generations=9)
    bladder = (-0.3 * a, -0.42 * b, high - 55)
    canvas.ellipsoid(bladder, (15, 12, 32), 8.0, Organ.OTHER, over=(*_FREE, Organ.LIVER, Organ.BOWEL))


def _spleen(canvas: Canvas, rng: np.random.Generator, hull: Hull, hu: float) -> None:
    """A crescent along the wall of the left side."""
    z, a = float(rng.uniform(55, 75)), hull.half_width
    inner = ((0.46 * a, 2, z), (0.28 * a, 40, 60))
    for index in range(len(canvas.z)):
        inside = canvas.inside_ellipsoid(index, (0.68 * a, 26, z), (0.34 * a, 52, 52), -0.25)
        inside &= (canvas.radius < hull.cavity - 2.5) & ~canvas.inside_ellipsoid(index, *inner, -0.2)
        canvas.fill(index, inside, hu, Organ.SPLEEN, over=(*_FREE, Organ.BOWEL))


def _kidneys(canvas: Canvas, rng: np.random.Generator, hull: Hull, contrast: float) -> None:
    """Beans of cortex and marrow around fat, in a capsule of fat."""
    over = (*_FREE, Organ.LIVER, Organ.SPLEEN, Organ.BOWEL)
    for side in (-1, 1):
        x, y = side * float(rng.uniform(58, 66)), hull.spine_y - float(rng.uniform(0, 8))
        z, turn = float(rng.uniform(-14, 14)) + 6 * side, -side * 0.75
        canvas.ellipsoid((x, y, z), (34, 39, 64), FAT_HU, Organ.INNER_FAT, over=over, turn=turn)
        canvas.ellipsoid((x, y, z), (24, 30, 54), 34 + contrast, Organ.OTHER, over=over, turn=turn)
        canvas.ellipsoid((x, y, z), (17, 23, 46), 34 + 0.75 * contrast, Organ.KIDNEY, over=(Organ.OTHER,), turn=turn)
        hilum = (x - side * 10, y - 8, z)
        canvas.ellipsoid(hilum, (15, 12, 26), FAT_HU, Organ.INNER_FAT, over=(Organ.KIDNEY, Organ.OTHER), turn=turn)
        canvas.ellipsoid(hilum, (6, 4.5, 20), 12.0, Organ.OTHER, over=(Organ.INNER_FAT,), turn=turn)
        vein = (-6.0 if side < 0 else 2.0, hull.spine_y - 34, z)
        canvas.tube((hilum[0], hilum[1], z), vein, 4.0, 40 + contrast, Organ.VESSEL, over=_FREE)


def _stomach(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """Wall, contents, and air in front with a level surface."""
    centre = (0.42 * hull.half_width, -0.36 * hull.half_depth, float(rng.uniform(60, 85)))
    radii, turn = (float(rng.uniform(34, 46)), float(rng.uniform(24, 32)), 48.0), 0.5
    surface = centre[1] + float(rng.uniform(-18, 4))
    for index in range(len(canvas.z)):
        outer = canvas.inside_ellipsoid(index, centre, radii, turn) & (canvas.radius < hull.cavity - 2)
        inner = canvas.inside_ellipsoid(index, centre, (radii[0] - 4, radii[1] - 4, radii[2] - 4), turn)
        inner &= canvas.radius < hull.cavity - 6
        canvas.fill(index, outer, 48.0, Organ.OTHER, over=(*_FREE, Organ.BOWEL))
        canvas.fill(index, inner, 14.0, Organ.BOWEL, over=(Organ.OTHER,))
        canvas.fill(index, inner & (canvas.x[:, None] < surface), AIR_HU + 30, Organ.BOWEL, over=(Organ.BOWEL,))


def _pancreas(canvas: Canvas, contrast: float) -> None:
    """A lobed band across the middle."""
    places: list[Point] = [(-28, 2, 22), (-12, -12, 34), (14, -20, 40), (44, -10, 48), (70, 4, 56)]
    for (start, end), radius in zip(pairwise(places), (12.0, 9.0, 8.0, 8.0), strict=True):
        canvas.tube(start, end, radius, 42 + 0.4 * contrast, Organ.OTHER, over=(Organ.INNER_FAT, Organ.BOWEL))


def _colon(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """At both sides, and across in front: gas or mottled contents in a thin wall."""
    a, b, across = hull.half_width, hull.half_depth, float(rng.uniform(0, 25))
    ways: list[tuple[Point, Point, float]] = [
        ((-0.62 * a, 12, -200), (-0.6 * a, 4, across), 22.0),
        ((0.68 * a, 20, -200), (0.66 * a, 14, across + 35), 15.0),
        ((-0.5 * a, -0.35 * b, across), (0, -0.62 * b, across - 15), 17.0),
        ((0, -0.62 * b, across - 15), (0.55 * a, -0.3 * b, across + 20), 16.0),
    ]
    for start, end, radius in ways:
        canvas.tube(start, end, radius, 40.0, Organ.BOWEL, over=(*_FREE, Organ.BOWEL))
        inner = float(rng.choice([AIR_HU + 40, 20.0, -30.0]))
        canvas.tube(start, end, radius - 2.5, inner, Organ.BOWEL, over=(Organ.BOWEL,))
    for _ in range(60):  # stool and gas bubbles
        start, end, radius = ways[int(rng.integers(len(ways)))]
        along = float(rng.uniform(0, 1))
        middle = [s + along * (e - s) + float(rng.uniform(-0.5, 0.5)) * radius for s, e in zip(start, end, strict=True)]
        bubble, hu = float(rng.uniform(2, 6)), float(rng.choice([-400.0, 45.0, -120.0]))
        canvas.ellipsoid((middle[0], middle[1], middle[2]), (bubble,) * 3, hu, Organ.BOWEL, over=(Organ.BOWEL,))


def _bowel(canvas: Canvas, rng: np.random.Generator, hull: Hull, contrast: float) -> None:
    """Loops of the small bowel: bent tubes with a wall and contents, below the stomach."""
    for _ in range(60):
        place = [
            float(rng.uniform(-0.55, 0.6)) * hull.half_width,
            float(rng.uniform(-0.62, 0.1)) * hull.half_depth,
            float(rng.uniform(-130, 70)),
        ]
        heading, radius = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(8, 13))
        inner = float(rng.choice([AIR_HU + 40, 12.0, 25.0, 25.0, 120.0]))
        points: list[Point] = [(place[0], place[1], place[2])]
        for _ in range(4):
            heading += float(rng.uniform(-1.2, 1.2))
            x, y, z = points[-1]
            step = 1.3 * radius
            z += float(rng.uniform(-8, 8))
            points.append((x + step * math.cos(heading), y + step * math.sin(heading), z))
        for inset, hu in ((0.0, 45 + 0.4 * contrast), (2.2, inner)):
            for start, end in pairwise(points):
                canvas.tube(start, end, radius - inset, hu, Organ.BOWEL, over=(*_FREE, Organ.BOWEL))


def _mesentery(canvas: Canvas, rng: np.random.Generator, contrast: float) -> None:
    """Small vessels in the fat."""
    for z in (-90.0, -50.0, -15.0, 15.0, 45.0):
        for _ in range(3):
            heading = (float(rng.uniform(-1, 1)), -1.0, float(rng.uniform(-0.4, 0.4)))
            draw_tree(
                canvas,
                rng,
                (float(rng.uniform(-10, 10)), 0.0, z),
                heading,
                radius=2.6,
                hu=40 + 0.8 * contrast,
                over=(Organ.INNER_FAT,),
                generations=9,
            )


def _great_vessels(canvas: Canvas, rng: np.random.Generator, hull: Hull, hu: float) -> None:
    """Aorta with lime in its wall, caval vein, portal vein."""
    y, radius = hull.spine_y - 30, float(rng.uniform(9, 12))
    canvas.tube((7, y, -300), (7, y, 300), radius + 1.3, 45.0, Organ.OTHER)
    canvas.tube((7, y, -300), (7, y, 300), radius, hu, Organ.VESSEL)
    for _ in range(int(rng.integers(0, 5))):
        angle, z = float(rng.uniform(0, 6.28)), float(rng.choice(canvas.z))
        lime = (7 + radius * math.cos(angle), y + radius * math.sin(angle), z)
        canvas.ellipsoid(lime, (2.6, 1.6, 5), 550.0, Organ.BONE, turn=angle + math.pi / 2)
    for index, z in enumerate(canvas.z):
        shape = canvas.inside_ellipsoid(index, (-21, y + 3, z), (13, 9.5, 1))
        canvas.fill(index, shape, hu - 4, Organ.VESSEL, over=(*_FREE, Organ.LIVER, Organ.MUSCLE))
    canvas.tube((-4, -14, 20), (-26, -4, 62), 6.5, hu, Organ.VESSEL, over=(*_FREE, Organ.LIVER, Organ.BOWEL))
