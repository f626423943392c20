"""Is a scan's noise like the noise that weights were trained on? How loud it is, and how fine, as images show it.

A network sees pixels, so the fineness counts in cycles per pixel: a sharp kernel, a small field of view, thin slices
and iterative reconstruction all show in these two, whatever the header says or leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.quality.spectrum import noise_power_spectrum, radial, soft_tissue_places, without_surface

Image = NDArray[np.float32]

FEWEST_PATCHES = 4
MOST_SLICES = 8
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
}


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


def evenly(count: int, most: int = MOST_SLICES) -> list[int]:
    """Which slices of a scan to look at."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def ranges_of(characters: Iterable[NoiseCharacter]) -> dict[str, list[float]]:
    """Least and largest of each quantity over the scans of a training, as JSON can hold them; unknown ones left out."""
    each = list(characters)
    known = {name: [value for one in each if np.isfinite(value := getattr(one, name))] for name in QUANTITIES}
    return {name: [float(min(values)), float(max(values))] for name, values in known.items() if values}


def unfamiliar_noise(scan: NoiseCharacter, ranges: Mapping[str, Any] | None) -> list[Difference]:
    """How a scan differs from all that weights were trained on, by quantity; none if it does not.

    Args:
        scan: of :func:`noise_character`.
        ranges: of :func:`ranges_of`; None: the weights do not say.
    """
    found = []
    for name, quantity in QUANTITIES.items():
        value = getattr(scan, name)
        least, largest = (ranges or {}).get(name) or (0.0, float("inf"))
        if not np.isfinite(value) or value <= 0 or least / TOLERATED <= value <= largest * TOLERATED:
            continue
        beyond = value / largest if value > largest else least / value
        distance = f"{beyond:.2g} times {'above' if value > largest else 'below'}"
        measured = f"{quantity.words} {value:.3g} {quantity.unit}"
        training = f"all scans of the training ({least:.3g} to {largest:.3g})"
        found.append(Difference(f"{measured}, {distance} {training}", f"{quantity.short} {distance}"))
    return found


def _mean_frequency(patches_hu: Image) -> float:
    return radial(noise_power_spectrum(without_surface(patches_hu), (1.0, 1.0)), (1.0, 1.0)).mean_per_mm()
