"""What an image looks like that has neither Hounsfield units nor a body: how bright, how varied and how fine it is.

Weights for one tissue, contrast and scale take structure off another without a word: on the rat's myelin those of the
fly's medulla took brightness for film. All three show in these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]

APPEARANCE = ("brightness", "contrast", "detail")
LARGEST_PX = 1024
"""More of an image's middle is not looked at."""
LOWEST = 0.01
"""Cycles per pixel; what is wider is brightness that changes across the image."""


def appearance_of(image: Image) -> dict[str, float]:
    """Mean, standard deviation, and mean frequency of one image.

    Args:
        image: (row, column), grey levels 0 to 255.

    Returns:
        ``brightness`` and ``contrast`` in grey levels, ``detail`` in cycles per pixel, each weighed by its power; NaN
        where an image is too small or too flat for it.
    """
    middle = image[tuple(_middle(size) for size in image.shape)].astype(np.float64)
    differing = middle - middle.mean()
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in middle.shape))
    power = np.square(np.abs(fft.fft2(differing * window)))
    down, across = (fft.fftfreq(size) for size in middle.shape)
    frequency = np.hypot(down[:, None], across)
    power[frequency < LOWEST] = 0
    total = power.sum()
    detail = float((power * frequency).sum() / total) if total > 0 else float("nan")
    return {"brightness": float(middle.mean()), "contrast": float(differing.std()), "detail": detail}


def median_appearance(images: Iterable[Image]) -> dict[str, float]:
    """Of several images of one stack: the median of each quantity, of those that have it."""
    looks = [appearance_of(image) for image in images]
    return {name: _median([look[name] for look in looks]) for name in APPEARANCE}


def _middle(size: int) -> slice:
    start = max(0, (size - LARGEST_PX) // 2)
    return slice(start, start + LARGEST_PX)


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")
