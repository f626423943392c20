"""Noise of MR magnitude: Gaussian in both channels before the magnitude is taken (Gudbjartsson and Patz, MRM 1995)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float64]


def add_rician(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """``y = |x + sigma (n1 + i n2)|``.

    Where there is nothing, the mean of y is 1.25 sigma, not 0: averaging does not take this noise away.

    Args:
        image: magnitude, any shape, 0 or more.
        sigma: of the noise in each channel, in units of the image.
        rng: of this image alone.

    Returns:
        The same shape.
    """
    real, imaginary = rng.standard_normal((2, *image.shape))
    degraded: Image = np.hypot(image + sigma * real, sigma * imaginary)
    return degraded
