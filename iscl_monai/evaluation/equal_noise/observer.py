"""Can faint lesions in anatomy be told from their absence: a channelised Hotelling observer on noise over a truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from iscl_monai.evaluation.equal_noise.slices import RADII_PX, ROOM_PX, TestSlice
from iscl_monai.evaluation.equal_noise.strengths import OBSERVED_EVERY, STRENGTHS
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.quality.detectability import laguerre_gauss, mean_d_prime
from iscl_monai.quality.inserted import Image, Inserted, drawn

Floats = NDArray[np.float64]

OBSERVED_HU = {2.0: 40.0, 4.0: 20.0, 8.0: 10.0}
"""Contrast by radius in pixels: small ones must be stronger to be seen at all."""
CHANNELS = 5
WIDTH_OF_DIAMETER = 1.5
REACH_OF_RADIUS = 3
FEWEST_PAIRS = 4 * CHANNELS


def observed(denoiser: SliceDenoiser, one: TestSlice) -> dict[str, list[float]]:
    """D' of lesions of each radius at every second strength; radii with too few places are left out.

    Each realisation of the noise, with both signs, is denoised with all lesions and without. The truth is taken away
    from both: what is left at the places of one radius are pairs of images, and what the method does to the anatomy
    there, another thing at each place, disturbs the observer as noise does.
    """
    signal = _signal(one)
    views = {radius: _View(one, radius) for radius in RADII_PX}
    seen: dict[float, list[tuple[Floats, Floats, Floats, Floats]]] = {radius: [] for radius in RADII_PX}
    for noise in _realisations(one):
        absent = one.scene_hu + noise
        present = absent + signal
        absent_change, present_change = denoiser.change_hu(absent), denoiser.change_hu(present)
        for radius, view in views.items():
            images = (noise + signal, present_change, noise, absent_change)
            seen[radius].append(tuple(view.outputs(image) for image in images))  # type: ignore[arg-type]
    return {f"{radius:g}": d_primes(*_joined(seen[radius])) for radius, view in views.items() if view.enough(one)}


def d_primes(present: Floats, present_change: Floats, absent: Floats, absent_change: Floats) -> list[float]:
    """D' at every second strength, from channel outputs (image, channel) of the input and of the method's change."""
    return [
        mean_d_prime(present + strength * present_change, absent + strength * absent_change)
        for strength in STRENGTHS[::OBSERVED_EVERY]
    ]


def _signal(one: TestSlice) -> Image:
    parts = [
        np.float32(OBSERVED_HU[radius])
        * drawn(
            one.scene_hu.shape,
            [lesion for lesion in one.lesions if lesion.radius_px == radius],
        )
        for radius in RADII_PX
    ]
    total: Image = np.sum(parts, axis=0, dtype=np.float32)
    return total


def _realisations(one: TestSlice) -> Iterator[Image]:
    for noise in one.other_noises_hu:
        yield noise
        yield -noise


def _joined(seen: list[tuple[Floats, Floats, Floats, Floats]]) -> tuple[Floats, Floats, Floats, Floats]:
    """All realisations of one kind of image under each other."""
    first, second, third, fourth = (np.concatenate(kind) for kind in zip(*seen, strict=True))
    return first, second, third, fourth


class _View:
    """What channels see at the places of lesions of one radius."""

    def __init__(self, one: TestSlice, radius_px: float) -> None:
        self.lesions: list[Inserted] = [lesion for lesion in one.lesions if lesion.radius_px == radius_px]
        self.reach = min(int(np.ceil(REACH_OF_RADIUS * radius_px)), ROOM_PX)
        side = 2 * self.reach + 1
        width = WIDTH_OF_DIAMETER * 2 * radius_px
        self.channels = laguerre_gauss((side, side), count=CHANNELS, width_mm=width, pixel_spacing_mm=(1.0, 1.0))

    def enough(self, one: TestSlice) -> bool:
        return 2 * len(one.other_noises_hu) * len(self.lesions) >= FEWEST_PAIRS

    def outputs(self, image: Image) -> Floats:
        """(place, channel); dark lesions count as bright ones seen in a negative."""
        windows = [lesion.sign * image[lesion.window(self.reach)].astype(np.float64) for lesion in self.lesions]
        if not windows:
            return np.empty((0, CHANNELS))
        flat: Floats = np.stack(windows).reshape(len(windows), -1) @ self.channels.reshape(CHANNELS, -1).T
        return flat
