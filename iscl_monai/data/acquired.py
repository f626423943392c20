"""The matrix of k-space that was acquired, of images that reconstruction filled up with zeros.

Most MR images have more pixels than were measured: k-space is filled up with zeros before it is transformed
(zero-filled interpolation). Neither tissue nor noise has anything there, edges ring, and pixels next to each other have
noise in common. An image of another scanner, with finer detail than that matrix holds, is no clean twin of such a scan:
a network that learns from it takes ringing for noise, and sharpens edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]

BESIDE = 8
"""Frequencies on each side of an edge of the matrix, through which lines are laid."""
LEAST_FALL = 0.45
"""Of the logarithm of power at the edge. Found on scans of 0.055 T: 0.60 to 1.7; of 3 T with white noise on top: less
than 0.4 above the lowest frequencies."""
LEAST_SHARE = 0.25
"""Of a matrix: the spectrum of a head alone is steep below."""
LEAST_OF_CORRELATION = 0.5
"""Of the square of that which white noise of the matrix has."""


@dataclass(frozen=True)
class AcquiredMatrix:
    """How much of k-space was acquired, in the middle of it.

    Attributes:
        rows: share of the frequencies down, 0 to 1; 1: all, or nobody can tell.
        columns: likewise across.
    """

    rows: float = 1.0
    columns: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether nothing was filled up."""
        return self.rows == self.columns == 1

    def limited(self, image: Image) -> Image:
        """An image without the detail that this matrix does not hold; it rings at edges, as scans do.

        Args:
            image: (row, column), taken to go on as its mirror image, so that its borders are no edges.

        Returns:
            The same shape; below 0 too, where it rings.
        """
        if self.whole:
            return image
        waves = fft.dctn(image, norm="ortho")
        rows, columns = (
            round(share * size) for share, size in zip((self.rows, self.columns), image.shape, strict=True)
        )
        waves[rows:] = 0
        waves[:, columns:] = 0
        return np.asarray(fft.idctn(waves, norm="ortho"), np.float32)

    def signs(self, reach_px: int) -> Image:
        """Signs of the correlation that noise of this matrix has, for pixels up to so many apart, 0 in the middle."""
        steps = np.arange(-reach_px, reach_px + 1)
        return np.asarray(np.sign(np.outer(np.sinc(self.rows * steps), np.sinc(self.columns * steps))), np.float32)

    def holds(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Which frequencies of the Fourier transform of an image lie inside: (rows, columns), 0 first."""
        down, across = (
            np.abs(2 * fft.fftfreq(size)) <= share for size, share in ((rows, self.rows), (columns, self.columns))
        )
        return np.asarray(down[:, None] & across)


def acquired_matrix(images: Sequence[Image], *, neighbours: tuple[float, float]) -> AcquiredMatrix:
    """The matrix that the slices of one scan were acquired with, by where the power of their spectra falls at once.

    Args:
        images: magnitudes (row, column) of one size, dark at their borders.
        neighbours: correlation of the noise of pixels next to each other, down and across. Noise of less than a matrix
            implies was put on an image after it had been filled up.
    """
    power = np.mean([np.square(np.abs(fft.fft2(image - image.mean()))) for image in images], axis=0)
    shares = _share(power), _share(power.T)
    rows, columns = (
        share if common**2 > LEAST_OF_CORRELATION * np.sinc(share) ** 2 else 1.0
        for share, common in zip(shares, neighbours, strict=True)
    )
    return AcquiredMatrix(rows, columns)


def _share(power: NDArray[np.float64]) -> float:
    """The share of frequencies along the first axis below the edge; 1 where no edge is."""
    size, other = power.shape
    across = np.abs(other * fft.fftfreq(other))
    # The lowest are of the borders; high ones may have been filled up themselves.
    profile = np.log(power[:, (across >= 2) & (across <= other / 4)].mean(axis=1) + np.finfo(np.float64).tiny)
    half = np.array([(profile[place] + profile[-place]) / 2 for place in range(1, size // 2)])  # from frequency 1
    falls = {place: _fall(half, place) for place in range(BESIDE, len(half) - BESIDE)}
    edge = max(falls, key=falls.__getitem__, default=0)
    share = 2 * (edge + 1) / size
    return share if falls and falls[edge] >= LEAST_FALL and share >= LEAST_SHARE else 1.0


def _fall(profile: NDArray[np.float64], place: int) -> float:
    """How much lower a profile goes on after a place than it came to it."""
    before, after = profile[place - BESIDE : place], profile[place + 1 : place + 1 + BESIDE]
    steps = np.arange(1, BESIDE + 1)
    return float(np.polyfit(-steps[::-1], before, 1)[1] - np.polyfit(steps, after, 1)[1])
