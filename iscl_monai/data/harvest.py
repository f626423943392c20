"""Harvested noise: real noise, cut out of flat places of noisy scans, to be added to clean patches.

Where a scan shows nothing but soft tissue, the scan less a smooth surface *is* its noise, texture included; and so is
the difference of two neighbouring slices over the root of two, where anatomy goes through both. Added to a clean patch
it makes a noisy one whose clean twin is known, without a simulator and without pairs: a better ``x_bar``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from iscl_monai.errors import DatalistRefusal
from iscl_monai.quality.noise import NEIGHBOURHOOD_PX, noise_sigma_hu
from iscl_monai.quality.spectrum import (
    PATCH_PX,
    noise_power_spectrum,
    radial,
    soft_tissue_places,
    without_anatomy,
    without_surface,
)

Blocks = NDArray[np.float32]

FLAT_HU = 60.0
"""Span of the 9x9 means in a block of one slice, beyond which there is anatomy; in loud scans see FLAT_NOISE."""
FLAT_NOISE = 2.0
"""The same in multiples of the scan's noise, as the means of loud noise vary, too. With 60 HU alone, scans of 47 to
56 HU gave 6, 23, 25, 64 and 81 blocks in twelve slices instead of 42, 121, 240, 155 and 156; the mean frequency of all
blocks is within 3 % of that of the few."""
SAME_HU = 25.0
"""Largest span of the 9x9 means in a difference of neighbouring slices: more is anatomy that has moved."""
FEWEST_BLOCKS = 16
MOST_BLOCKS = 600
OVERLAP_PX = 8


@dataclass(frozen=True, eq=False)
class ScanNoise:
    """What was harvested from one scan.

    Attributes:
        blocks_hu: HU (block, 32, 32), each with no local mean.
        sigma_hu: root mean square of the blocks.
        quiet_hu: the scan's noise by :func:`iscl_monai.quality.noise.noise_sigma_hu`, comparable between pools.
    """

    blocks_hu: Blocks
    sigma_hu: float
    quiet_hu: float

    def mean_frequency(self) -> float:
        """Mean frequency of the noise, in cycles per pixel: 0.35 or so if it were white."""
        return radial(noise_power_spectrum(self.blocks_hu, (1.0, 1.0)), (1.0, 1.0)).mean_per_mm()


def harvest(scan: Mapping[str, Any], *, differences: bool = True, seed: int = 0) -> ScanNoise | None:
    """Cut the noise out of one scan.

    Args:
        scan: of a cached pool, ``image`` in HU (1, row, column, slice).
        differences: take differences of neighbouring slices as well.
        seed: chooses among more blocks than are kept.

    Returns:
        None if there is too little flat tissue to say what its noise is.
    """
    image: Tensor = torch.as_tensor(scan["image"])
    slices = [image[0, :, :, k].numpy().astype(np.float32) for k in range(image.shape[-1])]
    quiet_hu = noise_sigma_hu(np.stack(slices[:: max(1, len(slices) // 8)]))
    widest_hu = max(FLAT_HU, FLAT_NOISE * quiet_hu)
    found = [_flat_blocks(slice_hu, widest_hu) for slice_hu in slices]
    if differences:
        found += [_difference_blocks(one, other) for one, other in zip(slices[::2], slices[1::2], strict=False)]
    blocks = np.concatenate(found) if found else np.empty((0, PATCH_PX, PATCH_PX), np.float32)
    if len(blocks) < FEWEST_BLOCKS:
        return None
    if len(blocks) > MOST_BLOCKS:
        blocks = blocks[np.random.default_rng(seed).choice(len(blocks), MOST_BLOCKS, replace=False)]
    return ScanNoise(blocks, float(np.sqrt(np.square(blocks).mean())), quiet_hu)


def _flat_blocks(slice_hu: NDArray[np.float32], widest_hu: float) -> Blocks:
    mean = ndimage.uniform_filter(slice_hu, NEIGHBOURHOOD_PX)
    places = [place for place in soft_tissue_places(slice_hu) if np.ptp(mean[place]) < widest_hu]
    return _blocks(slice_hu, places)


def _difference_blocks(one: NDArray[np.float32], other: NDArray[np.float32]) -> Blocks:
    difference, tissue = without_anatomy(one, other)
    mean = ndimage.uniform_filter(difference, NEIGHBOURHOOD_PX)
    return _blocks(difference, [place for place in soft_tissue_places(tissue) if np.ptp(mean[place]) < SAME_HU])


def _blocks(image_hu: NDArray[np.float32], places: Sequence[tuple[slice, slice]]) -> Blocks:
    if not places:
        return np.empty((0, PATCH_PX, PATCH_PX), np.float32)
    return without_surface(np.stack([image_hu[place] for place in places])).astype(np.float32)


class NoiseSource(Protocol):
    """Where noise for clean patches comes from."""

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        """Noise for a square patch, HU (1, size, size), float32; ``rng`` decides everything."""


class HarvestedNoise:
    """Noise of the noisy pool for clean patches, as strong as what the clean pool lacks.

    Args:
        noisy: cached volumes of the noisy pool; scans with too little flat tissue are left out.
        clean: cached volumes of the clean pool, whose own noise counts.
        strengths: least and largest factor on the noise that is lacking, drawn evenly in its logarithm: many doses.
        quiet_share: share of the patches that get none, so that a full dose stays as it is.
        differences: see :func:`harvest`.

    Raises:
        DatalistRefusal: if no scan gives enough, or the noisy pool is not noisier than the clean one.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        clean: Sequence[Mapping[str, Any]],
        *,
        strengths: tuple[float, float] = (0.5, 1.6),
        quiet_share: float = 0.1,
        differences: bool = True,
    ) -> None:
        found = [harvest(scan, differences=differences, seed=number) for number, scan in enumerate(noisy)]
        own = [noise_sigma_hu(_some_slices(scan)) for scan in clean]
        self.clean_hu = float(np.nanmedian(own)) if own else float("nan")
        self.scans = [noise for noise in found if noise is not None and self._lacking(noise) > 0]
        self.strengths = strengths
        self.quiet_share = quiet_share
        if not self.scans:
            found_hu = ", ".join(f"{noise.quiet_hu:.0f}" for noise in found if noise is not None)
            raise DatalistRefusal(
                f"no noise to harvest: {len(found)} noisy scans, of {found_hu or 'no flat tissue and unknown'} HU, "
                f"a clean pool of {self.clean_hu:.0f} HU",
                allowed=f"noisy scans with {FEWEST_BLOCKS} flat blocks of soft tissue, louder than the clean pool",
                cure="check which pool is which, add scans, or train without harvested noise",
            )

    def _lacking(self, noise: ScanNoise) -> float:
        """Share of a scan's noise, as a standard deviation, that the clean pool lacks."""
        return float(np.sqrt(max(0.0, 1 - (self.clean_hu / noise.quiet_hu) ** 2)))

    def report(self) -> str:
        """What was found, in one line per scan."""
        lines = [
            f"harvested {len(noise.blocks_hu)} blocks of {noise.sigma_hu:.1f} HU, mean frequency "
            f"{noise.mean_frequency():.3f} per pixel, {self._lacking(noise):.0%} of it lacking in the clean pool"
            for noise in self.scans
        ]
        return "\n".join(lines)

    def draw(self, size: int, rng: np.random.Generator) -> Tensor:
        """Noise for a square patch.

        Args:
            size: side in pixels.
            rng: decides everything.

        Returns:
            HU (1, size, size), float32, of one scan.
        """
        noise = self.scans[int(rng.integers(len(self.scans)))]
        if rng.random() < self.quiet_share:
            return torch.zeros(1, size, size)
        strength = self._lacking(noise) * np.exp(rng.uniform(*np.log(self.strengths)))
        return torch.from_numpy(np.float32(strength) * _quilt(noise.blocks_hu, size, rng))[None]


def _some_slices(scan: Mapping[str, Any], most: int = 8) -> NDArray[np.float32]:
    image = torch.as_tensor(scan["image"])[0]
    chosen = image[:, :, :: max(1, image.shape[-1] // most)]
    return chosen.permute(2, 0, 1).numpy().astype(np.float32)


def _quilt(blocks: Blocks, size: int, rng: np.random.Generator) -> Blocks:
    """Blocks side by side in random orientations, faded into each other so that the variance is the same everywhere."""
    step = PATCH_PX - OVERLAP_PX
    count = -(-(size - OVERLAP_PX) // step)
    wide = np.zeros([count * step + OVERLAP_PX] * 2, np.float32)
    ramp = np.sin(np.pi / 2 * (np.arange(OVERLAP_PX) + 0.5) / OVERLAP_PX).astype(np.float32)
    for row in range(count):
        for column in range(count):
            block = blocks[int(rng.integers(len(blocks)))]
            block = np.rot90(block, int(rng.integers(4)))
            block = block[:, ::-1] if rng.random() < 0.5 else block
            window = np.ones((2, PATCH_PX), np.float32)
            for axis, place in enumerate((row, column)):
                if place > 0:
                    window[axis, :OVERLAP_PX] = ramp
                if place < count - 1:
                    window[axis, -OVERLAP_PX:] = ramp[::-1]
            at = (slice(row * step, row * step + PATCH_PX), slice(column * step, column * step + PATCH_PX))
            wide[at] += block * window[0][:, None] * window[1]
    top, left = (int(rng.integers(len(wide) - size + 1)) for _ in range(2))
    return wide[top : top + size, left : left + size]
