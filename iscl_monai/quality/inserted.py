"""Lesions put into real slices: where there is room, what they look like, what a filter matched to them sees.

A lesion is a disc with a soft edge in soft tissue. A matched filter is the lesion's own profile laid over its place:
the spread of its responses to noise, in HU, is the noise *in the lesion's band*, whatever the noise of single pixels
is. Low-pass filtering lowers the latter at will, and the former hardly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from iscl_monai.quality.noise import NEIGHBOURHOOD_PX, SOFT_TISSUE_HU

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

EDGE_PX = 1.5
"""From all to nothing of a lesion's contrast."""
MARGIN_PX = 2
"""Of soft tissue around a lesion."""


@dataclass(frozen=True, kw_only=True)
class Inserted:
    """One lesion.

    Args:
        row: of its centre.
        column: of its centre.
        radius_px: where half of its contrast is left.
        sign: 1 for a bright one, -1 for a dark one.
    """

    row: int
    column: int
    radius_px: float
    sign: int = 1

    def window(self, reach_px: int) -> tuple[slice, slice]:
        """Rows and columns around it."""
        return (
            slice(self.row - reach_px, self.row + reach_px + 1),
            slice(self.column - reach_px, self.column + reach_px + 1),
        )


def profile(radius_px: float, *, reach_px: int | None = None, edge_px: float = EDGE_PX) -> Floats:
    """A disc with a soft edge, 1 in its middle, (row, column) of odd sides.

    Args:
        radius_px: where it is a half.
        reach_px: pixels on each side of the centre; None: as many as it has.
        edge_px: over which it falls from 1 to 0, on a straight line.
    """
    reach = reach_of(radius_px, edge_px) if reach_px is None else reach_px
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(rows, columns)
    falling: Floats = np.clip((radius_px + edge_px / 2 - distance) / edge_px, 0, 1)
    return falling


def reach_of(radius_px: float, edge_px: float = EDGE_PX) -> int:
    """Pixels on each side of a lesion's centre that it has a share of."""
    return int(np.ceil(radius_px + edge_px / 2))


def soft_tissue_of(image_hu: Image) -> NDArray[np.bool_]:
    """Where the 9x9 mean is soft tissue, without the image's border; (row, column)."""
    mean = ndimage.uniform_filter(image_hu, NEIGHBOURHOOD_PX)
    inside: NDArray[np.bool_] = (mean >= SOFT_TISSUE_HU[0]) & (mean <= SOFT_TISSUE_HU[1])
    edge = np.zeros_like(inside)
    edge[NEIGHBOURHOOD_PX:-NEIGHBOURHOOD_PX, NEIGHBOURHOOD_PX:-NEIGHBOURHOOD_PX] = True
    return inside & edge


def places_for(
    tissue: NDArray[np.bool_], radii_px: Sequence[float], *, most: int, seed: int, clear_px: int = 0
) -> list[Inserted]:
    """Places for lesions wholly inside of soft tissue and far from each other, large ones first; signs alternate.

    Args:
        tissue: of :func:`soft_tissue_of`.
        radii_px: of the lesions.
        most: how many of each radius; fewer where there is no room.
        seed: of the places.
        clear_px: that the image must have on each side of a centre.

    Returns:
        Maybe none.
    """
    depth = ndimage.distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1]
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[: tissue.shape[0], : tissue.shape[1]]
    free = np.zeros_like(tissue)
    free[clear_px : tissue.shape[0] - clear_px, clear_px : tissue.shape[1] - clear_px] = True
    placed: list[Inserted] = []
    for radius in sorted(radii_px, reverse=True):
        for number in range(most):
            room = free & (depth >= radius + EDGE_PX / 2 + MARGIN_PX)
            for other in placed:
                apart = 1.5 * (radius + other.radius_px) + 2 * MARGIN_PX
                room &= (rows - other.row) ** 2 + (columns - other.column) ** 2 > apart**2
            candidates = np.flatnonzero(room)
            if not candidates.size:
                break
            row, column = divmod(int(rng.choice(candidates)), tissue.shape[1])
            placed.append(Inserted(row=row, column=column, radius_px=radius, sign=1 if number % 2 == 0 else -1))
    return placed


def drawn(shape: tuple[int, int], lesions: Sequence[Inserted], *, edge_px: float = EDGE_PX) -> Image:
    """All lesions with a contrast of 1 HU each, (row, column)."""
    image = np.zeros(shape, np.float32)
    for lesion in lesions:
        reach = reach_of(lesion.radius_px, edge_px)
        image[lesion.window(reach)] += np.float32(lesion.sign) * profile(lesion.radius_px, edge_px=edge_px).astype(
            np.float32
        )
    return image


def response(image_hu: Image, lesion: Inserted) -> float:
    """What the lesion's matched filter sees at its place, HU of the lesion's contrast: 1 for :func:`drawn` itself."""
    template = profile(lesion.radius_px)
    seen = image_hu[lesion.window(reach_of(lesion.radius_px))].astype(np.float64)
    return float(lesion.sign * (template * seen).sum() / (template**2).sum())


def band_response(image_hu: Image, radius_px: float, inside: NDArray[np.bool_]) -> Floats:
    """Responses of the matched filter of a radius to an image, everywhere a lesion would fit; (place,), in HU.

    Args:
        image_hu: noise, (row, column).
        radius_px: of the lesion.
        inside: soft tissue, likewise.
    """
    template = profile(radius_px)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    fits = depth >= radius_px + EDGE_PX / 2
    seen = signal.fftconvolve(image_hu.astype(np.float64), template, mode="same") / (template**2).sum()
    places: Floats = seen[fits]
    return places
