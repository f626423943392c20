"""Are small lesions kept: insert known ones into an image, denoise with and without, compare.

Both images hold the same noise, so what a lesion adds to the output is seen without it, and one image serves for
many lesions. Insert below the noise where that can be had (before a simulated low dose): what is added to a noisy
image brings no noise of its own, which for small contrasts makes no difference.

S. Richard et al., doi 10.1118/1.4725171 (blur by the measured transfer); E. B. Wilson, J. Am. Stat. Assoc. 22, 1927,
doi 10.1080/01621459.1927.10502953 (interval of a share).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.detectability import disc_transform
from iscl_monai.quality.linearity import Floats, finite_array

Volume = npt.NDArray[np.float32]
Denoise = Callable[[Volume], Volume]
"""float32 HU (slice, row, column) in and out, of one shape."""

Blur = Callable[[Floats], Floats]
"""From frequency (per mm) to what is left of it: :func:`gaussian_blur`, or ``TaskTransferFunction.at``."""

REMOVED_BELOW = 0.5
NORMAL_95 = 1.959964
OVERSAMPLING = 4
MARGIN_MM = 6.0


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One round lesion in one slice.

    Args:
        slice_index: which slice, from 0.
        centre: (row, column) in pixels; need not be whole numbers.
        diameter_mm: of the disc, or the full width at half maximum of the Gaussian.
        contrast_hu: against what is there, signed; before blur, at the middle.
        shape: sharp disc or Gaussian, before blur.
    """

    slice_index: int
    centre: tuple[float, float]
    diameter_mm: float
    contrast_hu: float
    shape: Literal["disc", "gaussian"] = "disc"


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many, with the Wilson interval of the share (95 %).

    Args:
        count: 0 ... total.
        total: 1 or more.
        low: lower end of the interval, 0 or more.
        high: upper end of it, at most 1.
    """

    count: int
    total: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Recovery:
    """What is left of the contrast of inserted lesions.

    Args:
        recovered: contrast out over contrast in, one per lesion: 1 kept, 0 gone, above 1 enhanced; shape (lesion,).
        mean: over the lesions.
        removed: how many are below one half.
    """

    recovered: Floats
    mean: float
    removed: Share


def gaussian_blur(sigma_mm: float) -> Blur:
    """The blur of a Gaussian point spread, ``exp(-2 pi^2 sigma^2 f^2)``."""

    def left(frequency_per_mm: Floats) -> Floats:
        value: Floats = np.exp(-2 * (np.pi * sigma_mm * np.asarray(frequency_per_mm)) ** 2)
        return value

    return left


def lesion_image(
    shape: tuple[int, int], lesion: Lesion, *, pixel_spacing_mm: tuple[float, float], blur: Blur
) -> Floats:
    """What a lesion adds to its slice.

    Made in the frequency domain: transform of the shape, times blur, moved to its place. The blur is all there is:
    a transfer function measured on images holds their pixel's blur already.

    Args:
        shape: (rows, columns) of the slice.
        lesion: where and what.
        pixel_spacing_mm: between rows, between columns.
        blur: of the system.

    Returns:
        HU (row, column), 0 beyond 6 mm from the lesion's border.

    Raises:
        ImageRefusal: if the lesion makes no sense or is not wholly inside the slice.
    """
    reach = _reach_px(lesion, pixel_spacing_mm)
    corner = [round(middle) - reach_px for middle, reach_px in zip(lesion.centre, reach, strict=True)]
    inside = all(first >= 0 and first + 2 * px < count for first, px, count in zip(corner, reach, shape, strict=True))
    if not inside or not lesion.diameter_mm > 0 or not np.isfinite(lesion.contrast_hu):
        raise ImageRefusal(
            f"{lesion} in a slice of {shape} pixels of {pixel_spacing_mm} mm",
            allowed=f"positive diameters, finite contrasts, {MARGIN_MM:g} mm between the lesion and the slice's border",
            cure="place it further inside",
        )
    # A finer grid than the pixels', so that sharp shapes do not fold over; then every fourth point is a pixel's middle.
    fine = [OVERSAMPLING * (2 * px + 1) for px in reach]
    step_mm = [mm / OVERSAMPLING for mm in pixel_spacing_mm]
    down, right = (fft.fftfreq(count, step) for count, step in zip(fine, step_mm, strict=True))
    away_mm = [(middle - first) * mm for middle, first, mm in zip(lesion.centre, corner, pixel_spacing_mm, strict=True)]
    frequency = np.hypot(down[:, None], right[None, :])
    spectrum = _transform(lesion, frequency) * blur(frequency)
    spectrum = spectrum * np.exp(-2j * np.pi * (down[:, None] * away_mm[0] + right[None, :] * away_mm[1]))
    patch = fft.ifft2(spectrum).real[::OVERSAMPLING, ::OVERSAMPLING] / (step_mm[0] * step_mm[1])
    added = np.zeros(shape, np.float64)
    added[corner[0] : corner[0] + patch.shape[0], corner[1] : corner[1] + patch.shape[1]] = patch
    return added


def insert_lesions(
    volume_hu: npt.ArrayLike, lesions: Sequence[Lesion], *, pixel_spacing_mm: tuple[float, float], blur: Blur
) -> Volume:
    """A copy with all lesions added.

    Args:
        volume_hu: HU (slice, row, column) or (row, column).
        lesions: what to add; those of one slice must keep 6 mm between their borders; twice that is better.
        pixel_spacing_mm: between rows, between columns.
        blur: of the system.

    Returns:
        float32 HU (slice, row, column).

    Raises:
        ImageRefusal: if a lesion is not inside, or two are too near each other to be told apart.
    """
    volume = finite_array(volume_hu, 3)
    _require_apart(lesions, pixel_spacing_mm)
    inserted = volume.copy()
    for lesion in lesions:
        inserted[_slice_of(lesion, len(volume))] += lesion_image(
            volume.shape[1:], lesion, pixel_spacing_mm=pixel_spacing_mm, blur=blur
        )
    copy: Volume = inserted.astype(np.float32)
    return copy


def contrast_recovery(
    denoise: Denoise,
    volume_hu: npt.ArrayLike,
    lesions: Sequence[Lesion],
    *,
    pixel_spacing_mm: tuple[float, float],
    blur: Blur,
) -> Recovery:
    """Denoise a volume with and without lesions; tell how much of each lesion's contrast is left.

    Recovery is the least-squares factor between what the lesion added to the input (s) and what it adds to the
    output (d): ``sum(d s) / sum(s^2)`` around it. All lesions are inserted at once: keep them few to a slice, or they
    shift the statistics that networks normalise with.

    Args:
        denoise: called twice.
        volume_hu: HU (slice, row, column) or (row, column), noisy.
        lesions: one or more.
        pixel_spacing_mm: between rows, between columns.
        blur: of the system.

    Raises:
        ImageRefusal: as :func:`insert_lesions`; if there are no lesions, or the output is no such volume.
    """
    if not lesions:
        raise ImageRefusal("no lesions", allowed="one or more", cure="give places inside the body")
    without = finite_array(volume_hu, 3).astype(np.float32)
    inserted = insert_lesions(without, lesions, pixel_spacing_mm=pixel_spacing_mm, blur=blur)
    outputs = [finite_array(denoise(image), 3) for image in (inserted, without)]
    if not outputs[0].shape == outputs[1].shape == without.shape:
        raise ImageRefusal(
            f"a denoiser that makes {outputs[0].shape} of {without.shape}",
            allowed="a volume (slice, row, column) of the shape that went in",
            cure="wrap it so that it takes and gives whole volumes",
        )
    added = outputs[0] - outputs[1]
    recovered = []
    for lesion in lesions:
        signal = lesion_image(without.shape[1:], lesion, pixel_spacing_mm=pixel_spacing_mm, blur=blur)
        recovered.append((added[lesion.slice_index] * signal).sum() / (signal**2).sum())
    values = np.array(recovered, np.float64)
    removed = wilson(int((values < REMOVED_BELOW).sum()), len(values))
    return Recovery(recovered=values, mean=float(values.mean()), removed=removed)


def wilson(count: int, total: int) -> Share:
    """The share ``count / total`` with its 95 % interval after Wilson.

    Raises:
        ImageRefusal: if ``count`` of ``total`` is no share.
    """
    if not 0 <= count <= total or total < 1:
        raise ImageRefusal(f"{count} of {total}", allowed="0 <= count <= total, total >= 1", cure="count something")
    square, share = NORMAL_95**2 / total, count / total
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return Share(count=count, total=total, low=max(0.0, float(middle - half)), high=min(1.0, float(middle + half)))


def _transform(lesion: Lesion, frequency: Floats) -> Floats:
    """Fourier transform of the lesion's shape, HU mm^2."""
    if lesion.shape == "disc":
        return disc_transform(frequency, diameter_mm=lesion.diameter_mm, contrast_hu=lesion.contrast_hu)
    sigma_mm = lesion.diameter_mm / np.sqrt(8 * np.log(2))
    transform: Floats = lesion.contrast_hu * 2 * np.pi * sigma_mm**2 * gaussian_blur(sigma_mm)(frequency)
    return transform


def _reach_px(lesion: Lesion, pixel_spacing_mm: tuple[float, float]) -> list[int]:
    """Half the side of what is drawn, in rows and columns."""
    return [int(np.ceil((lesion.diameter_mm / 2 + MARGIN_MM) / mm)) for mm in pixel_spacing_mm]


def _require_apart(lesions: Sequence[Lesion], pixel_spacing_mm: tuple[float, float]) -> None:
    for one, other in itertools.combinations(lesions, 2):
        apart_mm = math.dist(
            *([at * mm for at, mm in zip(each.centre, pixel_spacing_mm, strict=True)] for each in (one, other))
        )
        near_mm = (one.diameter_mm + other.diameter_mm) / 2 + MARGIN_MM
        if one.slice_index == other.slice_index and apart_mm < near_mm:
            raise ImageRefusal(
                f"lesions at {one.centre} and {other.centre} of slice {one.slice_index}, {apart_mm:.1f} mm apart",
                allowed=f"{near_mm:.1f} mm or more between their middles",
                cure="place them further apart, or in different slices",
            )


def _slice_of(lesion: Lesion, slices: int) -> int:
    if not 0 <= lesion.slice_index < slices:
        raise ImageRefusal(f"{lesion} in {slices} slices", allowed=f"slices 0 to {slices - 1}", cure="move it")
    return lesion.slice_index
