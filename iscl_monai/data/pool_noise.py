"""Noise of micrographs, as the two pools differ: what the noisy one varies more than the clean one, at every frequency.

A film multiplies and charging adds (Lee and Jeong, ISCL), and both are wide: no place of an image is so flat that what
varies there could be cut out as noise, as it is done in CT. But the pools show the same kind of tissue. So the power
spectrum of the noisy pool less that of the clean one is the spectrum of the noise: of the images where noise adds, of
their logarithms where it multiplies. Nothing else is known of it, neither a partner of any image nor a formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from iscl_monai.data.degradation import Degradation, images_of
from iscl_monai.errors import ConfigRefusal, DatalistRefusal

Image = NDArray[np.float32]

LARGEST_TILE_PX = 512
SMOOTHING = 3
"""Frequencies next to each other that a spectrum is averaged over: a pool holds a dozen images or so."""
DARKEST = 1.0
"""Added to grey levels before their logarithm."""
LEAST_EXCESS = 0.5
"""Of more to less variance: tissue of two pools differs too, on the fly's medulla so much that both are alike."""
COUNT = 48
"""Fields that are made in advance."""


class PoolNoise(Degradation):
    """Fields of noise of the spectrum that the noisy pool has over the clean one, put on clean patches.

    The fields are Gaussian: amplitudes are those of the spectrum, phases random. Phases of noisy images, which hold the
    shapes of noise, but those of tissue too, taught less (charge, 300 steps, one fold: 26.2 dB instead of 26.35).

    Args:
        noisy: cached volumes of the noisy pool.
        clean: cached volumes of the clean pool, of other places.
        multiplies: whether noise multiplies; else it adds.
        strengths: least and largest factor on a field, drawn evenly.
        seed: of the fields.

    Raises:
        ConfigRefusal: strengths that are none.
        DatalistRefusal: the noisy pool varies less than the clean one, or the clean one not at all.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        clean: Sequence[Mapping[str, Any]],
        *,
        multiplies: bool,
        strengths: tuple[float, float] = (0.5, 1.5),
        seed: int = 0,
    ) -> None:
        if not 0 <= strengths[0] <= strengths[1]:
            raise ConfigRefusal(f"strengths={strengths}", allowed="two numbers, 0 <= least <= largest", cure="0.5, 1.5")
        self.multiplies, self.strengths = multiplies, strengths
        pools = [[self._additive(image) for image in images_of(pool)] for pool in (noisy, clean)]
        side = min(LARGEST_TILE_PX, *(min(image.shape) for pool in pools for image in pool))
        tiles, clean_tiles = (_tiles(pool, side) for pool in pools)
        total, own = _power(tiles), _power(clean_tiles)
        if all(image.min() == image.max() for image in pools[1]):
            raise DatalistRefusal(
                f"a clean pool of {len(pools[1])} images of one grey level each",
                allowed="images of the kind of tissue that the noisy pool shows",
                cure="check the files of 'clean', and their grey_range",
            )
        more, less = np.maximum(total - own, 0), np.maximum(own - total, 0)
        if not more.mean() > LEAST_EXCESS * less.mean():
            raise DatalistRefusal(
                f"no noise to harvest: the noisy pool varies {more.mean() / own.mean():.0%} more at some frequencies, "
                f"{less.mean() / own.mean():.0%} less at others",
                allowed=f"more {LEAST_EXCESS:g} times as much as less",
                cure="check which pool is which, and that both show the same kind of tissue",
            )
        white = np.random.default_rng(seed).standard_normal((COUNT, side, side))
        self.fields = _filtered(white, np.sqrt(more))
        spread = float(self.fields.std())
        what = f"multiplies, {spread:.1%} of the brightness" if multiplies else f"adds, {spread:.1f} grey levels"
        print(f"noise of the noisy pool over the clean one: {what}")

    def _additive(self, image: Image) -> Image:
        """An image whose noise adds."""
        return np.log(image + np.float32(DARKEST)) if self.multiplies else image

    def pair(self, clean: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Degradation`."""
        field = self.fields[int(rng.integers(len(self.fields)))]
        rows, columns = (
            (int(rng.integers(side)) + np.arange(size)) % side
            for side, size in zip(field.shape, clean.shape[-2:], strict=True)
        )  # fields are periodic
        cut = field[np.ix_(rows, columns)][:: rng.choice((1, -1)), :: rng.choice((1, -1))]
        noise = torch.from_numpy(np.float32(rng.uniform(*self.strengths)) * cut)
        return clean, (clean + DARKEST) * noise.exp() - DARKEST if self.multiplies else clean + noise


def _tiles(images: Sequence[Image], side: int) -> Image:
    """Square tiles that cover all images, their mean taken away: (tile, side, side)."""
    found = []
    for image in images:
        rows, columns = (
            np.linspace(0, length - side, -(-length // side)).round().astype(int) for length in image.shape
        )
        found += [image[row : row + side, column : column + side] for row in rows for column in columns]
    tiles = np.stack(found)
    return np.asarray(tiles - tiles.mean((1, 2), keepdims=True))


def _power(tiles: Image) -> NDArray[np.float64]:
    """Mean power of white noise of the same variance, at every frequency, (side, side // 2 + 1)."""
    side = tiles.shape[-1]
    window = np.hanning(side + 2)[1:-1]
    window = np.outer(window, window)
    window /= np.sqrt(np.square(window).mean())
    power = np.mean([np.square(np.abs(fft.fft2(tile * window))) for tile in tiles], axis=0) / side**2
    smooth = ndimage.uniform_filter(power, SMOOTHING, mode="wrap")
    return np.asarray(smooth[:, : side // 2 + 1])


def _filtered(images: NDArray[np.floating[Any]], gain: NDArray[np.float64]) -> Image:
    filtered: Image = fft.irfft2(fft.rfft2(images) * gain, images.shape[-2:]).astype(np.float32)
    return filtered
