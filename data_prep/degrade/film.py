"""What a support film puts into a micrograph: areas that let fewer or more electrons through.

Beer and Lambert: section and film lie on each other, so their transmissions multiply. The paper (Lee and Jeong, ISCL)
names the noise and tells nothing of its strength; the numbers here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Image = npt.NDArray[np.float64]

SPOT_REACH = 4
"""Standard deviations after which a spot is over."""


@dataclass(frozen=True)
class Film:
    """Thickness of a film, in absorption lengths. Ranges are drawn from evenly.

    Attributes:
        clouds: standard deviation of the slow unevenness.
        clouds_px: its standard deviation in space.
        mottle: likewise of the fine unevenness.
        mottle_px: likewise.
        spots: mean number of spots in 512 x 512 pixels.
        spots_px: standard deviation of a spot in space.
        spots_depth: of the thinnest and the thickest spot; negative ones are dark.
    """

    clouds: float = 0.10
    clouds_px: tuple[float, float] = (20.0, 60.0)
    mottle: float = 0.06
    mottle_px: tuple[float, float] = (1.2, 3.0)
    spots: float = 12.0
    spots_px: tuple[float, float] = (2.0, 10.0)
    spots_depth: tuple[float, float] = (-0.5, 0.15)


def add_film(image: Image, film: Film, rng: np.random.Generator) -> Image:
    """An image seen through a film: ``y = x T`` with ``T = exp(g) / mean(exp(g))``.

    Args:
        image: (row, column), 0 to 1.
        film: its parameters.
        rng: of this image alone.

    Returns:
        The same shape, neither clipped nor rounded.
    """
    thickness = film.clouds * smooth_noise(image.shape, rng.uniform(*film.clouds_px), rng)
    thickness += film.mottle * smooth_noise(image.shape, rng.uniform(*film.mottle_px), rng)
    _add_spots(thickness, film, rng)
    transmission = np.exp(thickness)
    degraded: Image = image * (transmission / transmission.mean())
    return degraded


def smooth_noise(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Image:
    """White noise, blurred by a Gaussian, of mean 0 and standard deviation 1."""
    noise = gaussian_filter(rng.standard_normal(shape), sigma_px, mode="wrap")
    noise -= noise.mean()
    smooth: Image = noise / noise.std()
    return smooth


def _add_spots(thickness: Image, film: Film, rng: np.random.Generator) -> None:
    rows, columns = thickness.shape
    for _ in range(rng.poisson(film.spots * thickness.size / 512**2)):
        row, column = rng.uniform(0, rows), rng.uniform(0, columns)
        sigma, depth = rng.uniform(*film.spots_px), rng.uniform(*film.spots_depth)
        reach = int(np.ceil(SPOT_REACH * sigma))
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        bottom, right = min(rows, int(row) + reach + 1), min(columns, int(column) + reach + 1)
        down = np.exp(-((np.arange(top, bottom) - row) ** 2) / (2 * sigma**2))
        across = np.exp(-((np.arange(left, right) - column) ** 2) / (2 * sigma**2))
        thickness[top:bottom, left:right] += depth * np.outer(down, across)
