"""What a chest holds: lungs with vessels and airways, heart, great vessels, and the liver's dome below.

The origin lies at the bifurcation of the windpipe.
"""

from __future__ import annotations

import math

import numpy as np

from iscl_monai.phantom.body import Hull
from iscl_monai.phantom.canvas import AIR_HU, FAT_HU, MUSCLE_HU, Canvas, Floats, Organ, Point
from iscl_monai.phantom.vessels import draw_tree

LUNG_HU = -860.0
_SOFT = (Organ.INNER_FAT, Organ.MUSCLE, Organ.OTHER)


def draw_chest(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """Fill the cavity of a chest.

    Args:
        canvas: with the hull painted.
        rng: decides all that varies.
        hull: of the body.
    """
    contrast = float(rng.choice([42.0, 130.0, 220.0]))
    _lungs(canvas, rng, hull)
    _domes(canvas, rng, hull, 58.0 + 0.15 * contrast)
    _heart(canvas, rng, contrast)
    _great_vessels(canvas, rng, hull, contrast)
    _airways(canvas, hull)
    _hila(canvas, rng, contrast)
    _nodules(canvas, rng, hull)


def _lungs(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """All of the cavity but the mediastinum, whose width depends on depth and height; darker in front."""
    y = canvas.x[:, None]
    spine = hull.spine_y
    at = [-hull.half_depth, -70, -45, -10, 25, spine - 22, spine, spine + 25]
    lean = 14 * np.exp(-(((y + 30) / 45) ** 2)) + 3 * np.sin(y / 14 + rng.uniform(0, 6))
    level = LUNG_HU + float(rng.uniform(-30, 20)) + 35 * y / hull.half_depth
    for index, z in enumerate(canvas.z):
        upper = 1 / (1 + math.exp(-(z - 5) / 15))
        widths = [6, 7, 22 + 10 * upper, 30 + 6 * upper, 28, 27, 27, 24]
        half = np.interp(y, at, widths).astype(np.float32) + rng.uniform(-1.5, 1.5)
        apex = max(0.0, 1 - (max(0.0, z - 30) / 120) ** 2) ** 0.5
        inside = canvas.radius < (hull.cavity - 2) * apex
        canvas.fill(index, canvas.radius < hull.cavity - 2, -70.0, Organ.INNER_FAT, over=_SOFT)
        inside &= np.abs(canvas.x[None, :] - lean * (1 - 0.5 * upper)) > half
        # The muscles along the spine stay outside.
        inside &= np.hypot(canvas.x[None, :] / 25, (y - spine) / 28) > 1
        canvas.fill(index, inside, 0.0, Organ.LUNG)
        canvas.hu[index] = np.where(inside, level, canvas.hu[index])


def _domes(canvas: Canvas, rng: np.random.Generator, hull: Hull, liver_hu: float) -> None:
    """Liver, fat and stomach rise into the lungs from below."""
    a, b = 0.5 * hull.half_width, 0.75 * hull.half_depth
    top = float(rng.uniform(-85, -65))
    canvas.ellipsoid((-a, 0, top - 80), (0.56 * hull.half_width, b, 80), liver_hu, Organ.LIVER, over=(Organ.LUNG,))
    canvas.ellipsoid((a, 5, top - 95), (0.5 * hull.half_width, b, 80), FAT_HU, Organ.INNER_FAT, over=(Organ.LUNG,))
    canvas.ellipsoid((a, 22, top - 100), (50, 42, 78), liver_hu, Organ.SPLEEN, over=(Organ.INNER_FAT,))
    canvas.ellipsoid(
        (a - 8, -20, top - 100), (38, 30, 70), MUSCLE_HU, Organ.BOWEL, over=(Organ.INNER_FAT, Organ.SPLEEN)
    )
    canvas.ellipsoid((a - 8, -24, top - 100), (33, 25, 66), AIR_HU + 30, Organ.BOWEL, over=(Organ.BOWEL,))


def _heart(canvas: Canvas, rng: np.random.Generator, contrast: float) -> None:
    """Muscle and four chambers in a bag of fat."""
    x, y, z, turn = float(rng.uniform(18, 28)), float(rng.uniform(-36, -28)), float(rng.uniform(-78, -66)), 0.55
    grown = float(rng.uniform(0.9, 1.12))
    over = (*_SOFT, Organ.LUNG, Organ.LIVER)
    canvas.ellipsoid((x, y, z), (60 * grown, 46 * grown, 60), -80.0, Organ.INNER_FAT, over=over, turn=turn)
    canvas.ellipsoid((x, y, z), (55 * grown, 41 * grown, 56), MUSCLE_HU, Organ.HEART, turn=turn)
    chambers = (
        ((24.0, 4.0, -6.0), (22.0, 15.0, 34.0)),
        ((-4.0, -18.0, -6.0), (28.0, 11.0, 34.0)),
        ((-30.0, -6.0, 4.0), (15.0, 18.0, 30.0)),
        ((-8.0, 22.0, 22.0), (24.0, 13.0, 22.0)),
    )
    for number, (centre, radii) in enumerate(chambers):
        place = (x + centre[0] * grown, y + centre[1] * grown, z + centre[2])
        size = (radii[0] * grown, radii[1] * grown, radii[2])
        blood = contrast * (0.9 if number in (1, 2) else 1.0)
        canvas.ellipsoid(place, size, blood, Organ.VESSEL, over=(Organ.HEART, Organ.VESSEL), turn=turn * 0.8)


def _great_vessels(canvas: Canvas, rng: np.random.Generator, hull: Hull, contrast: float) -> None:
    """Aorta with its arch, caval vein, lung arteries, the branches above the arch, and the gullet."""
    behind, r = hull.spine_y - 18, float(rng.uniform(11, 14))

    def vessel(start: Point, end: Point, radius: float, share: float = 1.0) -> None:
        canvas.tube(start, end, radius + 1.2, MUSCLE_HU - 10, Organ.OTHER, over=(*_SOFT, Organ.LUNG))
        canvas.tube(start, end, radius, contrast * share, Organ.VESSEL)

    vessel((24, behind, -400), (24, behind, 20), r - 1)
    vessel((-12, -24, -40), (-12, -24, 26), r + 3)
    vessel((-12, -24, 28), (8, 0, 40), r + 1)
    vessel((8, 0, 40), (22, behind - 6, 28), r)
    vessel((-28, -18, -60), (-27, -20, 90), 8.5, 1.15)
    vessel((14, -34, -45), (14, -26, -14), r + 2, 0.95)
    vessel((14, -24, -14), (-36, -4, -17), 9.5, 0.95)
    vessel((16, -20, -10), (40, 4, -6), 9.0, 0.95)
    for x, y in ((-14, -16), (2, -10), (16, 2)):
        vessel((x * 0.6, y + 4, 42), (x * 1.6, y, 110), 5.5)
    canvas.tube((7, behind - 14, -400), (2, behind - 10, 120), 7.5, 45.0, Organ.OTHER, over=(*_SOFT, Organ.LUNG))
    canvas.tube((7, behind - 14, -400), (2, behind - 10, 120), 2.0, -600.0, Organ.OTHER)


def _airways(canvas: Canvas, hull: Hull) -> None:
    """The windpipe and its main branches."""
    y = min(12.0, hull.spine_y - 40)
    tubes: list[tuple[Point, Point, float]] = [((0, y - 6, 140), (0, y, 2), 9.0)]
    for side in (-1, 1):
        tubes.append(((0, y, 2), (side * 40, y + 10, -34), 6.8))
        tubes.append(((side * 40, y + 10, -34), (side * 52, y + 22, -75), 4.5))
        tubes.append(((side * 34, y + 8, -28), (side * 62, y - 22, -40), 3.6))
    for start, end, radius in tubes:
        canvas.tube(start, end, radius + 1.5, 30.0, Organ.OTHER, over=(*_SOFT, Organ.LUNG))
    for start, end, radius in tubes:
        canvas.tube(start, end, radius, AIR_HU + 10, Organ.OTHER, over=(Organ.OTHER,))


def _hila(canvas: Canvas, rng: np.random.Generator, contrast: float) -> None:
    """Arteries and veins of both lungs."""
    for side in (-1.0, 1.0):
        for up in (0.9, 0.35, -0.1, -0.5, -1.0):
            for _ in range(3):
                start = (side * float(rng.uniform(32, 40)), float(rng.uniform(-6, 14)), -14.0 + 16 * up)
                heading = (side, float(rng.uniform(-0.9, 0.9)), up + float(rng.uniform(-0.3, 0.3)))
                draw_tree(
                    canvas,
                    rng,
                    start,
                    heading,
                    radius=float(rng.uniform(3.4, 5.2)),
                    hu=min(contrast, 120.0),
                    over=(Organ.LUNG,),
                    generations=13,
                )


def _nodules(canvas: Canvas, rng: np.random.Generator, hull: Hull) -> None:
    """A few solid nodules: what must never be denoised away."""
    for _ in range(4):
        angle, reach = float(rng.uniform(0.3, 2.6)) * float(rng.choice([-1, 1])), float(rng.uniform(0.5, 0.75))
        x, y = reach * hull.half_width * math.sin(angle), reach * hull.half_depth * math.cos(angle)
        place: Point = (x, y, float(rng.choice(canvas.z)))
        canvas.ellipsoid(place, (float(rng.uniform(1.8, 5)),) * 3, 30.0, Organ.OTHER, over=(Organ.LUNG, Organ.VESSEL))


def lung_texture(canvas: Canvas, noise: Floats) -> None:
    """Uneven air in the lungs.

    Args:
        canvas: with its lungs painted; changed in place.
        noise: smooth, standard deviation 1, of the canvas's shape.
    """
    canvas.hu += np.where(canvas.organ == Organ.LUNG, 14 * noise, 0).astype(np.float32)
