"""What charging puts into a scanned micrograph: bodies whose charge leaves tails along the scanned rows.

The tail behind a charged body follows Fermi and Dirac's function of the distance, as fitted to a real artefact (yeast
SEM of the Rosalind Franklin Institute, CHAFER): right tail 0.45, d0 98 px, s 37 px, with an rms of 0.017 of the range,
an exponential one with 0.038. The real one is dark; mostly bright ones are the paper's word. The ranges are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_filter1d

Image = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Charge:
    """Charged ellipses and what comes with them. Ranges are drawn from evenly.

    Attributes:
        bodies: least and greatest number in a patch.
        patch_px: side of the square patch that so many lie in.
        axes_px: height and width of an ellipse, each.
        peak: added grey, of the range 0 to 1.
        bright: share of bodies that are brighter, not darker.
        row_jitter: factor of each row of a body.
        taper: exponent by which a body gets weaker toward its first and last row.
        tail_px: d0 of the tail in the middle row.
        softness: s of the tail, as a share of d0.
        front_px: length of the edge on the side that is scanned first, in half of the images.
        blur_px: of everything, across rows and along them.
        drift: standard deviation of the rows' brightness.
        drift_rows: its standard deviation in space.
        grain: standard deviation of white noise.
    """

    bodies: tuple[int, int] = (6, 14)
    patch_px: int = 512
    axes_px: tuple[float, float] = (5.0, 40.0)
    peak: tuple[float, float] = (0.08, 0.35)
    bright: float = 0.8
    row_jitter: tuple[float, float] = (0.4, 1.6)
    taper: float = 0.6
    tail_px: tuple[float, float] = (15.0, 100.0)
    softness: tuple[float, float] = (0.2, 0.4)
    front_px: float = 2.0
    blur_px: tuple[float, float] = (0.7, 1.0)
    drift: float = 0.02
    drift_rows: float = 6.0
    grain: float = 0.02


def add_charge(image: Image, charge: Charge, rng: np.random.Generator) -> Image:
    """An image with charging: ``y = x + C``; the scan runs along each row, to the right.

    Args:
        image: (row, column), 0 to 1.
        charge: its parameters.
        rng: of this image alone.

    Returns:
        The same shape, neither clipped nor rounded.
    """
    added = np.zeros(image.shape)
    long_front = rng.random() < 0.5
    patches = image.size / charge.patch_px**2
    for _ in range(round(rng.integers(charge.bodies[0], charge.bodies[1], endpoint=True) * patches)):
        _add_body(added, charge, rng, long_front=long_front)
    added = gaussian_filter(added, charge.blur_px)
    drift = gaussian_filter1d(rng.standard_normal(image.shape[0]), charge.drift_rows, mode="wrap")
    added += charge.drift * (drift / drift.std())[:, None]
    added += charge.grain * rng.standard_normal(image.shape)
    degraded: Image = image + added
    return degraded


def tail(distance_px: Image, d0_px: float, s_px: float) -> Image:
    """``F(d) = (1 + exp(-d0/s)) / (1 + exp((d - d0)/s))``: 1 at the body, one half near d0."""
    fallen: Image = (1 + np.exp(-d0_px / s_px)) / (1 + np.exp(np.minimum((distance_px - d0_px) / s_px, 700)))
    return fallen


def _add_body(added: Image, charge: Charge, rng: np.random.Generator, *, long_front: bool) -> None:
    rows, columns = added.shape
    row, column = rng.uniform(0, rows), rng.uniform(0, columns)
    down, across = rng.uniform(*charge.axes_px, 2) / 2
    peak = rng.uniform(*charge.peak) * (1 if rng.random() < charge.bright else -1)
    d0 = rng.uniform(*charge.tail_px)
    s = rng.uniform(*charge.softness) * d0
    places = np.arange(columns, dtype=np.float64)
    for line in range(max(0, int(np.ceil(row - down))), min(rows, int(row + down) + 1)):
        jitter = rng.uniform(*charge.row_jitter)
        chord = np.sqrt(max(0.0, 1 - ((line - row) / down) ** 2))  # r: of the middle row 1, of the outermost 0
        if chord < 1e-3:
            continue
        front = chord * d0 if long_front else charge.front_px
        begin, end = column - across * chord, column + across * chord
        profile = np.exp(-np.maximum(begin - places, 0) / front)
        profile *= tail(np.maximum(places - end, 0), chord * d0, chord * s)
        added[line] += peak * chord**charge.taper * jitter * profile
