"""What flat regions tell: the right HU in every insert, across the field, and steady from slice to slice.

The regions are discs; what else measures on discs takes its geometry from here.
AAPM TG-233, doi 10.1002/mp.13763; IEC 61223-3-5 (uniformity: middle against four regions near the border).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ImageRefusal

Floats = npt.NDArray[np.float64]
FEWEST_PIXELS = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class Uniformity:
    """One material in the middle and near the border.

    Args:
        centre_hu: mean of the disc in the middle, all slices.
        periphery_hu: means of the discs above, right, below and left of it, shape (4,).
    """

    centre_hu: float
    periphery_hu: Floats

    @property
    def worst_hu(self) -> float:
        """The largest difference of a disc near the border from the middle, 0 or more."""
        return float(np.abs(self.periphery_hu - self.centre_hu).max())


@dataclass(frozen=True, kw_only=True)
class SliceBehaviour:
    """How neighbouring slices hang together after slice-by-slice work.

    Args:
        residual_correlation: mean of the pairs' Pearson correlations of the residual, in [-1, 1]. Independent noise
            gives 0; what a denoiser does alike in every slice (texture, edges removed) gives more. NaN if nothing
            changed.
        flicker: standard deviation of the difference of neighbouring outputs over that of the inputs. 1: unchanged.
            Compare it with the reduction of noise within slices: more flicker than noise left is seen in scrolling.
            NaN if neighbouring inputs are alike.
    """

    residual_correlation: float
    flicker: float


def uniformity(
    volume_hu: npt.ArrayLike,
    *,
    centre: tuple[float, float],
    distance_mm: float,
    radius_mm: float,
    pixel_spacing_mm: tuple[float, float],
) -> Uniformity:
    """The middle of a uniform object against four regions near its border.

    Args:
        volume_hu: HU (slice, row, column) or (row, column).
        centre: (row, column) of the object's middle in pixels.
        distance_mm: from there to the middle of each outer disc.
        radius_mm: of all five discs.
        pixel_spacing_mm: between rows, between columns.

    Raises:
        ImageRefusal: if a disc leaves the image.
    """
    rows, columns = (distance_mm / step for step in pixel_spacing_mm)
    around = [(-rows, 0.0), (0.0, columns), (rows, 0.0), (0.0, -columns)]
    centres = [centre, *((centre[0] + down, centre[1] + right) for down, right in around)]
    means = disc_means(volume_hu, centres=centres, radius_mm=radius_mm, pixel_spacing_mm=pixel_spacing_mm)
    return Uniformity(centre_hu=float(means[0]), periphery_hu=means[1:])


def slice_behaviour(
    output_hu: npt.ArrayLike,
    input_hu: npt.ArrayLike,
    *,
    truth_hu: npt.ArrayLike | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> SliceBehaviour:
    """What a denoiser does to the direction across slices.

    Args:
        output_hu: HU (slice, row, column), two slices or more.
        input_hu: what went in, of the same shape.
        truth_hu: if given the residual is output minus truth, else output minus input.
        mask: bool (row, column), which pixels count; None: all.

    Raises:
        ImageRefusal: if shapes differ, there is one slice only, the mask is empty, or values are not finite.
    """
    output, before = finite_array(output_hu, 3), finite_array(input_hu, 3)
    reference = before if truth_hu is None else finite_array(truth_hu, 3)
    inside = np.ones(output.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    same = output.shape == before.shape == reference.shape and inside.shape == output.shape[1:]
    if not same or len(output) < 2 or not inside.any():
        raise ImageRefusal(
            f"volumes of shape {output.shape}, {before.shape} and {reference.shape}, a mask of shape {inside.shape}",
            allowed="volumes of one shape with 2 slices or more, and a mask (row, column) that is not empty",
            cure="give neighbouring slices of one series, before and after",
        )
    residual = (output - reference)[:, inside]
    pairs = [_pearson(one, other) for one, other in itertools.pairwise(residual)]
    after, left = (np.diff(volume[:, inside], axis=0).std() for volume in (output, before))
    return SliceBehaviour(
        residual_correlation=float(np.mean(pairs)), flicker=float(after / left) if left > 0 else float("nan")
    )


def disc_means(
    volume_hu: npt.ArrayLike,
    *,
    centres: Sequence[tuple[float, float]],
    radius_mm: float,
    pixel_spacing_mm: tuple[float, float],
) -> Floats:
    """Mean HU of each disc over all slices, shape (disc,).

    Args:
        volume_hu: HU (slice, row, column) or (row, column).
        centres: (row, column) of each disc in pixels.
        radius_mm: of the discs.
        pixel_spacing_mm: between rows, between columns.

    Raises:
        ImageRefusal: if a disc leaves the image or holds fewer than 9 pixels, or values are not finite.
    """
    image = finite_array(volume_hu, 3).mean(axis=0)
    means = []
    for centre in centres:
        require_inside(image.shape, centre, radius_mm, pixel_spacing_mm)
        disc = image[distance_mm_from(centre, image.shape, pixel_spacing_mm) <= radius_mm]
        if disc.size < FEWEST_PIXELS:
            raise ImageRefusal(
                f"a disc of radius {radius_mm:g} mm with {disc.size} pixels",
                allowed=f"at least {FEWEST_PIXELS} pixels",
                cure="measure a larger disc",
            )
        means.append(disc.mean())
    return np.array(means, np.float64)


def distance_mm_from(
    centre: tuple[float, float], shape: tuple[int, ...], pixel_spacing_mm: tuple[float, float]
) -> Floats:
    """Distance of each pixel's middle from a point.

    Args:
        centre: (row, column) in pixels; middles of pixels are whole numbers.
        shape: (rows, columns).
        pixel_spacing_mm: between rows, between columns.

    Returns:
        mm, of that shape.
    """
    down, right = (
        (np.arange(count) - middle) * step for count, middle, step in zip(shape, centre, pixel_spacing_mm, strict=True)
    )
    away: Floats = np.hypot(down[:, None], right[None, :])
    return away


def require_inside(
    shape: tuple[int, ...], centre: tuple[float, float], radius_mm: float, pixel_spacing_mm: tuple[float, float]
) -> None:
    """Refuse a disc that is not wholly inside the image.

    Raises:
        ImageRefusal: naming the disc and the image.
    """
    for count, middle, step in zip(shape, centre, pixel_spacing_mm, strict=True):
        # Negated, so that NaN is refused too.
        if not (radius_mm > 0 and middle - radius_mm / step >= -0.5 and middle + radius_mm / step <= count - 0.5):
            raise ImageRefusal(
                f"a disc of radius {radius_mm:g} mm around (row, column) {centre} in an image of {shape} pixels "
                f"of {pixel_spacing_mm} mm",
                allowed="discs that lie wholly inside the image",
                cure="check centre, radius and pixel spacing; leave out what the field of view cuts",
            )


def finite_array(values: npt.ArrayLike, axes: int) -> Floats:
    """As float64 with that many axes; one axis less gets a first axis of length 1.

    Float64, because differences and squares of images are taken.

    Raises:
        ImageRefusal: if the number of axes is another, nothing is there, or values are not finite.
    """
    array = np.asarray(values, np.float64)
    array = array[None] if array.ndim == axes - 1 else array
    if array.ndim != axes or array.size == 0 or not np.isfinite(array).all():
        raise ImageRefusal(
            f"an array of shape {np.shape(values)}, {int((~np.isfinite(array)).sum())} values not finite",
            allowed=f"{axes} axes, the last two (row, column), not empty, all values finite HU",
            cure="drop the batch and channel axes, and find out which step made NaN or infinity",
        )
    return array


def _pearson(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    first, second = one - one.mean(), other - other.mean()
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else float("nan")
