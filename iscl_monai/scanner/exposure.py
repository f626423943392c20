"""Photons: how many leave for each ray, how many arrive, and how much noise that makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from iscl_monai.errors import ConfigRefusal
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.projector import MU_WATER_PER_MM
from iscl_monai.scanner.streams import NormalSource

Image = NDArray[np.float32]

FEWEST_COUNTS = 100.0
"""Below, the logarithm of a count is neither Gaussian nor right on average, and counts are drawn instead."""

_LARGEST_VARIANCE = 0.65
"""Of the logarithm of at least one count, whatever is expected: with no photons left a ray holds no more noise."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What the X-ray tube gives and the detector makes of it.

    Args:
        photons: ``N0``, counts per ray and view in air behind the middle of the bowtie, at full dose. For the cells
            of the virtual detector and the scan's slice thickness; not comparable with a real detector's number.
        electronic_noise: standard deviation of the detector's own noise, in counts. An assumption: headers do not
            say it. With more, real scans at a quarter of their dose would come out much more than twice as noisy.
        bowtie: share of the path through a water cylinder that the bowtie filter makes up for; 0 is none.
        bowtie_radius_mm: radius of that cylinder.
        modulation: exponent of the tube current's modulation over the views, ``exp(modulation * p_max)`` with
            ``p_max`` the view's largest line integral; 0 is a constant current, 0.5 the optimum for least noise.

    Raises:
        ConfigRefusal: if a number makes no sense.
    """

    photons: float
    electronic_noise: float = 3.2
    bowtie: float = 0.4
    bowtie_radius_mm: float = 125.0
    modulation: float = 0.5

    def __post_init__(self) -> None:
        rest = (self.electronic_noise, self.bowtie, self.bowtie_radius_mm, self.modulation)
        if not self.photons > 0 or not all(0 <= value < math.inf for value in rest) or max(rest[1], rest[3]) > 1:
            raise ConfigRefusal(
                f"{self}",
                allowed="photons > 0, electronic_noise >= 0, bowtie and modulation in [0, 1]",
                cure="leave a value out to take its default",
            )

    def counts(self, integrals: Image, geometry: FanBeam, *, tube_current: float = 1.0) -> Image:
        """Expected counts of each ray at full dose.

        Args:
            integrals: line integrals (view, cell).
            geometry: where the rays run.
            tube_current: of this slice over the mean of the series.

        Returns:
            float32 (view, cell): ``N0 B(s) M(view) exp(-p)``.
        """
        gain = self._modulation(integrals)[:, None] * self._bowtie(geometry) * (self.photons * tube_current)
        counts: Image = (np.exp(-integrals) * gain).astype(np.float32)
        return counts

    def _bowtie(self, geometry: FanBeam) -> NDArray[np.float64]:
        """Transmission over the middle's, per cell."""
        radius = self.bowtie_radius_mm
        chord_mm = 2 * np.sqrt(np.maximum(radius**2 - (geometry.cells_mm() * geometry.cosines()) ** 2, 0))
        transmission: NDArray[np.float64] = np.exp(-self.bowtie * MU_WATER_PER_MM * (2 * radius - chord_mm))
        return transmission

    def _modulation(self, integrals: Image) -> NDArray[np.float64]:
        """Tube current of each view over their mean. A tube cannot follow faster than some 15 degrees."""
        largest = integrals.max(axis=1).astype(np.float64)
        smooth = ndimage.gaussian_filter1d(largest, len(largest) / 48, mode="wrap")
        current = np.exp(self.modulation * (smooth - smooth.max()))
        relative: NDArray[np.float64] = current / current.mean()
        return relative

    def variance(self, counts: Image) -> Image:
        """Variance of a line integral at full dose: ``1 / n + e^2 / n^2`` of quanta and electronics, up to a limit.

        Without the limit a few starved rays would outweigh all others, and the electronic noise, which is assumed,
        would decide the number of photons.
        """
        inverse = 1 / np.maximum(counts, np.float32(1e-3))
        variance: Image = inverse + np.float32(self.electronic_noise**2) * inverse**2
        limited: Image = np.minimum(variance, np.float32(_LARGEST_VARIANCE))
        return limited

    def added_variance(self, counts: Image, fraction: float) -> Image:
        """Variance that separates a line integral at ``fraction`` of the dose from one at full dose.

        ``(1 - a) / (a n) + (1 - a^2) e^2 / (a n)^2``. Source: Yu et al. 2012, doi 10.1097/RCT.0b013e318258e891, for
        the first term; the second follows alike, as electronic noise does not shrink with the dose.
        """
        kept = 1 / (counts * np.float32(fraction))
        electronic = np.float32((1 - fraction**2) * self.electronic_noise**2)
        variance: Image = np.float32(1 - fraction) * kept + electronic * kept**2
        return variance

    def added_noise(self, counts: Image, fraction: float, rng: NormalSource) -> tuple[Image, float]:
        """Noise that takes line integrals from full dose to ``fraction`` of it.

        Rays with plenty of photons get Gaussian noise of :meth:`added_variance`. Where fewer than
        ``FEWEST_COUNTS`` arrive, counts are drawn: of the full-dose counts each is kept with the fraction's
        probability, the detector adds its noise, and the logarithm of at least one count is taken, with the bias
        and the clipping that has.

        Args:
            counts: expected at full dose (view, cell).
            fraction: dose over full dose, in (0, 1).
            rng: decides the noise; takes the same number of values whatever the counts are.

        Returns:
            Change of the line integrals (view, cell), and the share of rays that were starved.
        """
        # A scan, too, takes the logarithm of at least one count: fewer cannot be told from its image.
        counts = np.maximum(counts, 1)
        white = rng.standard_normal(counts.shape, dtype=np.float32)
        electronics = rng.standard_normal(counts.shape, dtype=np.float32)
        noise: Image = np.sqrt(self.added_variance(counts, fraction)) * white
        starved = counts * np.float32(fraction) < FEWEST_COUNTS
        if starved.any():
            full = counts[starved].astype(np.float64)
            whole = np.maximum(np.rint(full), 1)
            # The same white noise bent to the distribution of counts: no seam between the two kinds of rays.
            kept = stats.binom.ppf(stats.norm.cdf(white[starved]), whole, fraction) * (full / whole)
            kept += electronics[starved] * self.electronic_noise * math.sqrt(1 - fraction**2)
            noise[starved] = -np.log(np.maximum(kept, 1) / (full * fraction))
        return noise, float(starved.mean())

    def measured(self, counts: Image, fraction: float, rng: np.random.Generator) -> Image:
        """Line integrals as a scan at ``fraction`` of the dose measures them, less the true ones.

        Args:
            counts: expected at full dose (view, cell); all infinite gives zeros.
            fraction: dose over full dose, in (0, 1].
            rng: decides the noise.
        """
        if math.isinf(self.photons):
            return np.zeros_like(counts)
        expected = counts.astype(np.float64) * fraction
        found = rng.poisson(expected) + rng.normal(0, self.electronic_noise, counts.shape)
        error: Image = -np.log(np.maximum(found, 1) / expected).astype(np.float32)
        return error
