"""Trees of vessels: each twig thinner and shorter than its stem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iscl_monai.phantom.canvas import Canvas, Organ, Point

THINNEST_MM, SHORTEST_MM = 0.55, 1.5


def draw_tree(
    canvas: Canvas,
    rng: np.random.Generator,
    start: Point,
    heading: Sequence[float],
    *,
    radius: float,
    hu: float,
    over: Sequence[Organ],
    generations: int,
) -> None:
    """Grow one tree over the organs named; where it leaves them it is not seen.

    Args:
        canvas: to paint on.
        rng: decides the branches.
        start: where the stem begins.
        heading: where it goes.
        radius: of the stem, mm.
        hu: of the blood.
        over: organs it is seen in.
        generations: of twigs, the stem included.
    """
    places, ways = np.array([start]), np.array([heading]) / np.linalg.norm(heading)
    radii = np.array([radius])
    for _ in range(generations):
        lengths = np.maximum(radii, SHORTEST_MM) * rng.uniform(2.5, 5, len(radii))
        ends = places + ways * lengths[:, None]
        for place, end, thick in zip(places.tolist(), ends.tolist(), radii.tolist(), strict=True):
            canvas.tube(tuple(place), tuple(end), thick, hu, Organ.VESSEL, over=(*over, Organ.VESSEL))
        # The stem goes on, a twig leaves it.
        shares, bends = np.repeat([0.88, 0.64], len(radii)), np.repeat([0.25, 0.6], len(radii))
        ways = np.tile(ways, (2, 1)) + rng.normal(0, 1, (2 * len(radii), 3)) * bends[:, None]
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        places, radii = np.tile(ends, (2, 1)), np.tile(radii, 2) * shares * rng.uniform(0.92, 1.05, 2 * len(radii))
        alive = radii >= THINNEST_MM
        places, ways, radii = places[alive], ways[alive], radii[alive]
