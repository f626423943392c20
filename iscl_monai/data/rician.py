"""Noise of MR magnitude: its physics, with a strength and a texture that are measured in the dark of the noisy pool.

A magnitude is ``|x + sigma (n1 + i n2)|`` (Gudbjartsson and Patz, MRM 1995). Where nothing is, that is Rayleigh's: its
mean over its standard deviation is 1.913, and half the mean of its square is the square of sigma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from iscl_monai.data.acquired import AcquiredMatrix, acquired_matrix
from iscl_monai.data.degradation import Degradation, images_of
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.quality.dark import (
    FEWEST_BLOCKS,
    REACH_PX,
    Blocks,
    correlation_of,
    dark_blocks,
    shows_noise,
    sigma_of,
)

MOST_DISCS = 8
DISCS_PX = (2.0, 40.0)
BRIGHTEST_DISC = 8.0
"""Times sigma."""
DISC_BLUR_PX = 0.7


class RicianNoise(Degradation):
    """``|y + sigma (n1 + i n2)|`` on clean patches, with sigma and texture of the dark of the noisy scans.

    Args:
        noisy: cached volumes of the noisy pool, in thousandths of the window; scans without dark do not count.
        clean: cached volumes of the clean pool: noise it has itself needs not be added. Dim tissue of masked scans is
            none.
        strengths: least and largest factor on sigma, drawn evenly.
        faint_share: of the patches that show discs as bright as noise, or nothing (:func:`faint_discs`). The corners of
            an image see no head, which hardly a patch that is drawn from it does: networks knew the dark by the head
            beside it. Patches that show nothing alone taught them that where there is no head there is nothing.

    Raises:
        ConfigRefusal: a share that is none.
        DatalistRefusal: no scan of the noisy pool shows enough dark, or it is no noisier than that of the clean pool.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        clean: Sequence[Mapping[str, Any]],
        *,
        strengths: tuple[float, float] = (0.7, 1.3),
        faint_share: float = 0.0,
    ) -> None:
        if not 0 <= faint_share < 1:
            raise ConfigRefusal(f"faint_share={faint_share}", allowed="0 to less than 1", cure="0.25 is mr.json's")
        dark = [(images, blocks) for images, blocks in _dark_of(noisy) if shows_noise(blocks)]
        quietest = min((sigma_of(blocks) for _, blocks in dark), default=0.0)
        own = [(sigma_of(blocks), shows_noise(blocks)) for _, blocks in _dark_of(clean)]
        quiet = min((sigma for sigma, sure in own if sure or sigma < quietest), default=0.0)
        self.noises = [ScanNoise.of(images, blocks, quiet) for images, blocks in dark]
        if not any(noise.sigma for noise in self.noises):
            raise DatalistRefusal(
                f"no noise to harvest: {len(noisy)} noisy scans, {len(self.noises)} of them with dark around, "
                f"a clean pool of sigma {quiet:.0f} thousandths",
                allowed=f"noisy scans with {FEWEST_BLOCKS} blocks of dark, noisier than those of the clean pool",
                cure="check which pool is which, take scans whose dark was not masked, or --harvest_weight 0",
            )
        self.strengths, self.faint_share = strengths, faint_share
        self._print()

    def pair(self, clean: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Degradation`."""
        noise = self.noises[int(rng.integers(len(self.noises)))]
        rows, columns = clean.shape[-2:]
        faint = self.faint_share > 0 and rng.random() < self.faint_share
        image = noise.sigma * faint_discs(rows, columns, rng) if faint else clean[0].numpy()
        image = noise.matrix.limited(image)
        sigma = noise.sigma * float(rng.uniform(*self.strengths))
        real, imaginary = noise.textured(rng.standard_normal((2, rows, columns)))
        noisy = np.hypot(image + sigma * real, sigma * imaginary)
        return torch.from_numpy(np.abs(image))[None], torch.from_numpy(noisy.astype(np.float32))[None]

    def _print(self) -> None:
        found = ", ".join(f"{noise.sigma:.0f}" for noise in self.noises)
        first, second = (
            np.mean([noise.correlation[REACH_PX + step, REACH_PX + 1 - step] for noise in self.noises])
            for step in (1, 0)
        )
        print(f"noise of the dark: sigma {found} thousandths, neighbours correlated {first:.2f} and {second:.2f}")
        if filled := [noise.matrix for noise in self.noises if not noise.matrix.whole]:
            shares = ", ".join(f"{matrix.rows:.0%} x {matrix.columns:.0%}" for matrix in filled)
            print(f"k-space filled up with zeros: acquired {shares}; clean patches are shown with no more than that")


@dataclass(frozen=True)
class ScanNoise:
    """What the dark of one noisy scan says.

    Attributes:
        sigma: of each channel, beyond that of the clean pool, thousandths of the window.
        correlation: as of :func:`correlation_of`.
        matrix: that was acquired.
    """

    sigma: float
    correlation: NDArray[np.float64]
    matrix: AcquiredMatrix

    @classmethod
    def of(cls, images: Sequence[NDArray[np.float32]], blocks: Blocks, quiet: float) -> ScanNoise:
        """Of the slices of a scan.

        Args:
            images: (row, column) each, thousandths of the window.
            blocks: their dark (:func:`dark_blocks`).
            quiet: sigma of the clean pool.
        """
        correlation = correlation_of(blocks)
        neighbours = float(correlation[REACH_PX + 1, REACH_PX]), float(correlation[REACH_PX, REACH_PX + 1])
        matrix = acquired_matrix(images, neighbours=neighbours)
        sigma = float(np.sqrt(max(0.0, sigma_of(blocks) ** 2 - quiet**2)))
        return cls(sigma, correlation if matrix.whole else correlation * matrix.signs(REACH_PX), matrix)

    def textured(self, white: NDArray[np.float64]) -> NDArray[np.float64]:
        """White noise given the texture of this one: (channel, row, column), standard deviation 1."""
        rows, columns = white.shape[-2:]
        kernel = np.zeros((rows, columns))
        reach = np.arange(-REACH_PX, REACH_PX + 1)
        kernel[np.ix_(reach % rows, reach % columns)] = self.correlation
        power = np.maximum(np.real(fft.fft2(kernel)), 0) * self.matrix.holds(rows, columns)
        return np.asarray(np.real(fft.ifft2(fft.fft2(white) * np.sqrt(power / power.mean()))))


def faint_discs(rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Up to 8 discs in the dark, of 2 to 40 pixels and of 0 to 8 times the noise; one in nine shows none.

    Args:
        rows: of the image.
        columns: likewise.
        rng: decides everything.

    Returns:
        (row, column), in units of sigma.
    """
    down, right = np.mgrid[:rows, :columns]
    image = np.zeros((rows, columns), np.float32)
    for _ in range(int(rng.integers(MOST_DISCS + 1))):
        radius = DISCS_PX[0] * (DISCS_PX[1] / DISCS_PX[0]) ** rng.random()
        place = np.hypot(down - rng.uniform(0, rows), right - rng.uniform(0, columns)) < radius
        image[place] = rng.uniform(0, BRIGHTEST_DISC)
    return np.asarray(ndimage.gaussian_filter(image, DISC_BLUR_PX))


def _dark_of(pool: Sequence[Mapping[str, Any]]) -> list[tuple[list[NDArray[np.float32]], Blocks]]:
    """Slices and dark of each scan that has some."""
    scans = [images_of([scan]) for scan in pool]
    return [(images, blocks) for images in scans if (blocks := dark_blocks(images)) is not None]
