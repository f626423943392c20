"""Is a scan like those that weights were trained on? Its noise, the size of its voxels, and what of a body it shows.

A network sees pixels, so the fineness counts in cycles per pixel: a sharp kernel, a small field of view, thin slices
and iterative reconstruction all show in the noise, whatever the header says or leaves out. Pixel size and slice
thickness say how large anatomy is in pixels, and how much of it lies in one slice; size and tissues of the body say
which part of it that is (:mod:`iscl_monai.quality.composition`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.quality.spectrum import noise_power_spectrum, radial, soft_tissue_places, without_surface

Image = NDArray[np.float32]

FEWEST_PATCHES = 4
TOLERATED = 1.15
"""A scan may be so much beyond the range of the training without a word: as much as the measures scatter."""


@dataclass(frozen=True)
class Quantity:
    """Something that is measured of a scan, in words.

    Args:
        words: before its value.
        short: where no value follows.
        unit: of its value.
    """

    words: str
    short: str
    unit: str


QUANTITIES = {
    "noise": Quantity("noise of", "noise", "HU"),
    "fineness": Quantity("noise of a mean frequency of", "frequency of the noise", "cycles per pixel"),
    "pixel_mm": Quantity("pixels of", "pixel size", "mm"),
    "thickness_mm": Quantity("slices of", "slice thickness", "mm"),
    "body_cm2": Quantity("a body of", "body area", "cm2 in a slice"),
    "lung_percent": Quantity("another body region: lung in", "share of lung", "% of the body"),
    "fat_percent": Quantity("another body region: fat in", "share of fat", "% of the body"),
    "soft_percent": Quantity("another body region: soft tissue in", "share of soft tissue", "% of the body"),
    "bone_percent": Quantity("another body region: bone in", "share of bone", "% of the body"),
    "brightness": Quantity("a mean brightness of", "brightness", "grey levels"),
    "contrast": Quantity("a brightness that varies by", "contrast", "grey levels"),
    "detail": Quantity("detail of a mean frequency of", "frequency of the detail", "cycles per pixel"),
    "dark_noise": Quantity("noise of", "noise", "thousandths of the window"),
    "dark_fineness": Quantity("noise of a mean frequency of", "frequency of the noise", "cycles per pixel"),
}
NOISE, GEOMETRY = ("noise", "fineness"), ("pixel_mm", "thickness_mm")


@dataclass(frozen=True)
class Difference:
    """Something in which a scan is unlike all scans of a training.

    Args:
        sentence: what it is, how far it is from the training, and what the training had.
        short: the same in a few words, ASCII, for a DerivationDescription.
    """

    sentence: str
    short: str


@dataclass(frozen=True, kw_only=True)
class NoiseCharacter:
    """Of one scan.

    Args:
        noise: in HU (:func:`iscl_monai.quality.noise.noise_sigma_hu`); NaN without soft tissue.
        fineness: mean frequency of the noise in flat soft tissue, cycles per pixel; NaN where too little of it is flat.
    """

    noise: float
    fineness: float


def noise_character(slices_hu: Sequence[Image]) -> NoiseCharacter:
    """Measure a few slices of a scan.

    Args:
        slices_hu: HU (row, column) each.
    """
    noises = [noise_sigma_hu(image) for image in slices_hu]
    patches = [image[place] for image in slices_hu for place in soft_tissue_places(image)]
    known = [noise for noise in noises if np.isfinite(noise)]
    return NoiseCharacter(
        noise=float(np.median(known)) if known else float("nan"),
        fineness=_mean_frequency(np.stack(patches)) if len(patches) >= FEWEST_PATCHES else float("nan"),
    )


def looked_at(count: int, most: int) -> list[int]:
    """Places of at most so many of ``count`` slices, evenly spread, the first and the last among them, ascending."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def is_measured(value: float) -> bool:
    """Whether a value of one of ``QUANTITIES`` is one: all of them are finite and above zero."""
    return 0 < value < math.inf


def geometry_of(
    spacings_mm: Iterable[Sequence[float] | None], thicknesses_mm: Iterable[float | None] = ()
) -> dict[str, float]:
    """Pixel size and slice thickness of a scan, in mm: medians over its slices.

    Args:
        spacings_mm: between rows and between columns, of some or all of its slices; None: not known.
        thicknesses_mm: likewise.

    Returns:
        ``pixel_mm``, the side of a square that is as large as a pixel, and ``thickness_mm``; without what is not known.
    """
    sides = [math.sqrt(spacing[0] * spacing[1]) for spacing in spacings_mm if spacing is not None]
    thicknesses = [thickness for thickness in thicknesses_mm if thickness is not None]
    known = {
        name: [value for value in values if is_measured(value)]
        for name, values in zip(GEOMETRY, (sides, thicknesses), strict=True)
    }
    return {name: float(np.median(values)) for name, values in known.items() if values}


def ranges_of(scans: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Least and largest of each quantity over the scans of a training, as JSON can hold them; unknown ones left out.

    Args:
        scans: what was measured of each: values of some of ``QUANTITIES``.
    """
    known: dict[str, list[float]] = {}
    for scan in scans:
        for name, value in scan.items():
            if is_measured(value):
                known.setdefault(name, []).append(float(value))
    return {name: [min(values), max(values)] for name, values in known.items()}


def differences_from(ranges: Mapping[str, Any], scan: Mapping[str, float]) -> list[Difference]:
    """In what a scan lies beyond all scans of a training by more than ``TOLERATED``.

    Args:
        ranges: of :func:`ranges_of`; of what is not among them nothing is said.
        scan: values of some of ``QUANTITIES``; of what is not measured nothing is said.
    """
    found = []
    for name, quantity in QUANTITIES.items():
        value = scan.get(name, math.nan)
        least, largest = ranges.get(name) or (0.0, math.inf)
        if not is_measured(value) or least / TOLERATED <= value <= largest * TOLERATED:
            continue
        beyond = value / largest if value > largest else least / value
        distance = f"{beyond:.2g} times {'above' if value > largest else 'below'}"
        measured = f"{quantity.words} {value:.3g} {quantity.unit}"
        training = f"all scans of the training ({least:.3g} to {largest:.3g})"
        found.append(Difference(f"{measured}, {distance} {training}", f"{quantity.short} {distance}"))
    return found


def _mean_frequency(patches_hu: Image) -> float:
    return radial(noise_power_spectrum(without_surface(patches_hu), (1.0, 1.0)), (1.0, 1.0)).mean_per_mm()
