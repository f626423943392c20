"""Are two volumes of one place also one image? Scale, offset and orientation of their voxels, on a thinned sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal

LOWEST_HU, HIGHEST_HU = -1100.0, 2000.0
"""Of the reference; air with its noise is within, padding and metal are not."""
LARGEST_OFFSET_HU = 200.0
LEAST_STRUCTURE_HU = 100.0
"""Standard deviation of the sampled reference: with less, noise alone could flatten the slope."""
LEAST_RMSE_HU = 1.0
"""Images this near are one image, whichever way round."""
MOST_SLICES = 12
BLOCKS = 64
"""Blocks of pixels across a slice, about: their means carry a fraction of the noise."""

Volume = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """How far two images of one place may lie apart.

    Attributes:
        slopes: least and largest change of the one for each HU of the other.
        offset_hu: largest difference of their medians.
    """

    slopes: tuple[float, float]
    offset_hu: float


SAME_IMAGE = Scale((0.5, 2.0), LARGEST_OFFSET_HU)
"""Wide enough for a poor denoiser."""
SAME_UNITS = Scale((0.9, 1.1), 20.0)
"""A truth differs from its reference by noise, partial volume and streaks."""


def check_same_image(
    test_hu: Volume, reference_hu: Volume, *, names: tuple[Path | str, Path | str], scale: Scale = SAME_IMAGE
) -> None:
    """Refuse a volume in another scale or another way round than its reference.

    Files do not say either: HU over 1000, stored integers or flipped rows lie under the same affine, and are scored
    like a poor image. Told from means of pixel blocks in at most 12 slices, so the noise of a low dose, and what a bad
    denoiser does, pass. A scale is told only where the reference has structure (100 HU), and never from a constant
    volume.

    Args:
        test_hu: (slice, row, column), what should be HU.
        reference_hu: HU of the same shape.
        names: of the two, as a refusal tells them.
        scale: how far they may lie apart.

    Raises:
        ImageRefusal: if test grows by less or more for each HU of the reference than ``scale`` allows, lies further off
            at the median, or has less than half its RMSE when flipped or transposed.
    """
    reference = thinned(reference_hu)
    test = thinned(test_hu)
    if np.ptp(test) == 0 or np.ptp(reference) == 0:
        return
    _check_orientation(test_hu, rmse_hu(test, reference), reference, names)
    _check_scale(test, reference, names, scale)


def _check_scale(test: Floats, reference: Floats, names: tuple[Path | str, Path | str], scale: Scale) -> None:
    kept = (reference >= LOWEST_HU) & (reference <= HIGHEST_HU)
    if not kept.any():
        return
    test, reference = test[kept], reference[kept]
    if reference.std() >= LEAST_STRUCTURE_HU:
        away = reference - reference.mean()
        slope = float((away * test).sum() / (away * away).sum())
        least, largest = scale.slopes
        if not least <= slope <= largest:
            raise ImageRefusal(
                f"{names[0]} changes by {slope:.3g} where {names[1]} changes by 1 HU",
                allowed=f"{least:g} to {largest:g}",
                cure="give both in Hounsfield units (air -1000, water 0), neither scaled, windowed nor inverted",
            )
    offset_hu = float(np.median(test - reference))
    if abs(offset_hu) > scale.offset_hu:
        raise ImageRefusal(
            f"{names[0]} lies {offset_hu:+.0f} HU from {names[1]} at the median",
            allowed=f"within {scale.offset_hu:g} HU",
            cure="give both in Hounsfield units (air -1000, water 0), with the rescale intercept applied",
        )


def _check_orientation(
    test_hu: Volume, away_hu: float, reference: Floats, names: tuple[Path | str, Path | str]
) -> None:
    if away_hu < LEAST_RMSE_HU:
        return
    found = [(rmse_hu(thinned(turned), reference), how) for turned, how in _turned(test_hu)]
    least_hu, how = min(found)
    if least_hu < away_hu / 2:
        raise ImageRefusal(
            f"{names[0]} fits {names[1]} better {how}: RMSE {least_hu:.1f} instead of {away_hu:.1f} HU",
            allowed="voxels of both in one order under one affine",
            cure="write it again with the axes of its reference, neither flipped nor transposed",
        )


def _turned(volume: Volume) -> Iterator[tuple[Volume, str]]:
    """Views of a volume the other ways round, each with its name; itself not."""
    axes = ("slices", "rows", "columns")
    flips = [chosen for count in range(4) for chosen in itertools.combinations(range(3), count)]
    square = volume.shape[1] == volume.shape[2]
    for transposed, chosen in itertools.product((False, True) if square else (False,), flips):
        if transposed or chosen:
            turned = volume.transpose(0, 2, 1) if transposed else volume
            turns = ["transposed"] * transposed + [f"with {axes[axis]} flipped" for axis in chosen]
            yield np.flip(turned, chosen), ", ".join(turns)


def thinned(volume: NDArray[Any]) -> Floats:
    """Means of pixel blocks in evenly spread slices, the first and the last among them; (slice, row, column)."""
    slices = np.unique(np.linspace(0, len(volume) - 1, MOST_SLICES).round().astype(int))
    rows, columns = (max(1, length // BLOCKS) for length in volume.shape[1:])
    picked = volume[slices, : volume.shape[1] // rows * rows, : volume.shape[2] // columns * columns]
    blocks = picked.reshape(len(slices), picked.shape[1] // rows, rows, picked.shape[2] // columns, columns)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float64), np.float64)


def rmse_hu(one: Floats, other: Floats) -> float:
    """Root mean square difference of two thinned volumes."""
    return float(np.sqrt(np.mean((one - other) ** 2)))
