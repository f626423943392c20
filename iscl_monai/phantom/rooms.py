"""Free places in the organs of a slice: what is put in keeps its distance from borders and from the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.phantom.canvas import Organ


class Rooms:
    """Where there is room in the organs of a slice.

    Args:
        organs: :class:`Organ` of each pixel, (row, column).
        hosts: organs to put things into.
        spacing_mm: distance of pixels.
        margin_mm: of plain organ around each thing.
        apart_mm: between the borders of two things.
    """

    def __init__(
        self,
        organs: NDArray[np.uint8],
        hosts: Sequence[Organ],
        *,
        spacing_mm: float,
        margin_mm: float,
        apart_mm: float,
    ) -> None:
        self.spacing_mm, self.margin_mm, self.apart_mm = spacing_mm, margin_mm, apart_mm
        self.depths_mm = {host.name.lower(): depth_mm(organs == host, spacing_mm) for host in hosts}
        self.free_mm = np.full(organs.shape, np.inf)

    def take(
        self, rng: np.random.Generator, reach_mm: float, *, hosts: Sequence[str] | None = None
    ) -> tuple[str, tuple[int, int]] | None:
        """A random place for a disc, from now on taken.

        Args:
            rng: decides the organ, and the place in it.
            reach_mm: radius of the disc.
            hosts: names of organs to choose from; None: all.

        Returns:
            Name of the organ and (row, column); None where there is no room.
        """
        needed_mm = reach_mm + self.margin_mm
        free = self.free_mm >= reach_mm + self.apart_mm
        rooms = {
            name: room
            for name, depth in self.depths_mm.items()
            if (hosts is None or name in hosts) and (room := (depth >= needed_mm) & free).any()
        }
        if not rooms:
            return None
        organ = sorted(rooms)[int(rng.integers(len(rooms)))]
        places = np.argwhere(rooms[organ])
        row, column = places[int(rng.integers(len(places)))].tolist()
        rows, columns = np.ogrid[: free.shape[0], : free.shape[1]]
        away_mm = np.hypot(rows - row, columns - column) * self.spacing_mm - reach_mm
        self.free_mm = np.minimum(self.free_mm, away_mm)
        return organ, (row, column)


def depth_mm(inside: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.float64]:
    """How far each pixel is from the border of its organ, (row, column); 0 outside."""
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm)[1:-1, 1:-1]
    return np.where(inside, depth - spacing_mm / 2, 0.0)
