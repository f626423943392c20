"""Are two volumes of one place also one image? Scale, offset and orientation of their voxels, on a thinned sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.errors import ImageRefusal

LOWEST_HU, HIGHEST_HU = -1100.0, 2000.0
"""Of the reference; air with its noise is within, padding and metal are not."""
LEAST_SLOPE, LARGEST_SLOPE = 0.5, 2.0
LARGEST_OFFSET_HU = 200.0
LOWEST_TISSUE_HU = -300.0
LARGEST_TISSUE_OFFSET_HU = 20.0
LARGEST_TISSUE_SLOPE = 1.15
"""Of a truth to its reference, and its inverse the other way: they differ by noise, partial volume and streaks."""
LEAST_TISSUE_STRUCTURE_HU = 40.0
FEWEST_BLOCKS = 20
LEAST_STRUCTURE_HU = 100.0
"""Standard deviation of the sampled reference: with less, noise alone could flatten the slope."""
LEAST_RMSE_HU = 1.0
"""Images this near are one image, whichever way round."""
MOST_SLICES = 12
BLOCKS = 64
"""Blocks of pixels across a slice, about: their means carry a fraction of the noise."""

Volume = NDArray[np.float32]
Floats = NDArray[np.float64]


def check_same_image(test_hu: Volume, reference_hu: Volume, *, names: tuple[Path | str, Path | str]) -> None:
    """Refuse a volume in another scale or another way round than its reference.

    Files do not say either: HU over 1000, stored integers or flipped rows lie under the same affine, and are scored
    like a poor image. Told from means of pixel blocks in at most 12 slices, so the noise of a low dose, and what a bad
    denoiser does, pass. A scale is told only where the reference has structure (100 HU), and never from a constant
    volume.

    Args:
        test_hu: (slice, row, column), what should be HU.
        reference_hu: HU of the same shape.
        names: of the two, as a refusal tells them.

    Raises:
        ImageRefusal: if test grows by less than 0.5 or more than 2 HU for each HU of the reference, lies more than
            200 HU off at the median, or has less than half its RMSE when flipped or transposed.
    """
    reference = thinned(reference_hu)
    test = thinned(test_hu)
    if np.ptp(test) == 0 or np.ptp(reference) == 0:
        return
    _check_orientation(test_hu, rmse_hu(test, reference), reference, names)
    _check_scale(test, reference, names)


def check_same_units(truth_hu: Volume, reference_hu: Volume, *, names: tuple[Path | str, Path | str]) -> None:
    """Refuse a truth whose tissue lies elsewhere than that of its reference, which vouches for its Hounsfield units.

    Air is not looked at: it may be masked, padded or clipped in one of them. Each sampled slice is looked at by
    itself; one with hardly any tissue is left out.

    Args:
        truth_hu: (slice, row, column).
        reference_hu: HU of the same shape.
        names: of the two, as a refusal tells them.

    Raises:
        ImageRefusal: if tissue lies more than 20 HU off at the median of a slice, or grows by more than 1.15 or less
            than its inverse for each HU of the reference.
    """
    truth, reference = thinned(truth_hu), thinned(reference_hu)
    tissue = (reference > LOWEST_TISSUE_HU) & (reference < HIGHEST_HU)
    tissue = ndimage.binary_erosion(tissue, np.ones((1, 3, 3)))  # at skin and lung a sharper or softer edge is all
    for one, other, within in zip(truth, reference, tissue, strict=True):
        if within.sum() >= FEWEST_BLOCKS:
            _check_tissue(one[within], other[within], names)


def _check_tissue(truth: Floats, reference: Floats, names: tuple[Path | str, Path | str]) -> None:
    offset_hu = float(np.median(truth - reference))
    if abs(offset_hu) > LARGEST_TISSUE_OFFSET_HU:
        raise ImageRefusal(
            f"{names[0]}: tissue of a slice lies {offset_hu:+.0f} HU from that of {names[1]} at the median",
            allowed=f"within {LARGEST_TISSUE_OFFSET_HU:g} HU",
            cure="give both in Hounsfield units (air -1000, water 0), of one place",
        )
    # The reference over the truth, not the other way round: its noise would flatten that slope.
    away = truth - truth.mean()
    if truth.std() < LEAST_TISSUE_STRUCTURE_HU:
        return
    slope = float((away * away).sum() / (away * reference).sum())
    if not 1 / LARGEST_TISSUE_SLOPE <= slope <= LARGEST_TISSUE_SLOPE:
        raise ImageRefusal(
            f"{names[0]}: tissue of a slice changes by {slope:.3g} where {names[1]} changes by 1 HU",
            allowed=f"{1 / LARGEST_TISSUE_SLOPE:.2g} to {LARGEST_TISSUE_SLOPE:g}",
            cure="give both in Hounsfield units (air -1000, water 0), neither scaled nor windowed",
        )


def _check_scale(test: Floats, reference: Floats, names: tuple[Path | str, Path | str]) -> None:
    kept = (reference >= LOWEST_HU) & (reference <= HIGHEST_HU)
    if not kept.any():
        return
    test, reference = test[kept], reference[kept]
    if reference.std() >= LEAST_STRUCTURE_HU:
        away = reference - reference.mean()
        slope = float((away * test).sum() / (away * away).sum())
        if not LEAST_SLOPE <= slope <= LARGEST_SLOPE:
            raise ImageRefusal(
                f"{names[0]} changes by {slope:.3g} where {names[1]} changes by 1 HU",
                allowed=f"{LEAST_SLOPE:g} to {LARGEST_SLOPE:g}",
                cure="give both in Hounsfield units (air -1000, water 0), neither scaled, windowed nor inverted",
            )
    offset_hu = float(np.median(test - reference))
    if abs(offset_hu) > LARGEST_OFFSET_HU:
        raise ImageRefusal(
            f"{names[0]} lies {offset_hu:+.0f} HU from {names[1]} at the median",
            allowed=f"within {LARGEST_OFFSET_HU:g} HU",
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
