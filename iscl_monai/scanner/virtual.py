"""The virtual scanner: geometry, exposure and kernel together, and what it does to one slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from iscl_monai.scanner.exposure import FEWEST_COUNTS, Exposure
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import Kernel
from iscl_monai.scanner.projector import (
    HU_PER_ATTENUATION,
    Backend,
    attenuation,
    backproject_variance,
    filtered_backprojection,
    forward_project,
    hounsfield,
)
from iscl_monai.scanner.streams import NormalSource

Image = NDArray[np.float32]

_COARSE_MM = 2.0
"""Noise depends on line integrals, which need not be known finer than this for it."""
_COARSE_VIEWS = 90


@dataclass(frozen=True, kw_only=True)
class VirtualScanner:
    """A scanner that images slices of one shape.

    Args:
        geometry: where the rays run.
        exposure: the photons.
        kernel: of the reconstruction.
        backend: see :func:`iscl_monai.scanner.projector.chosen_backend`.
        device: where torch computes.
        neighbour_correlation: of the noise of neighbouring slices; 0: each slice has its own.
    """

    geometry: FanBeam
    exposure: Exposure
    kernel: Kernel
    backend: Backend = "auto"
    device: str | torch.device = "cpu"
    neighbour_correlation: float = 0.0

    def line_integrals(self, image_hu: Image) -> Image:
        """Of an image (row, column), exactly: (view, cell)."""
        mu = attenuation(self._square(image_hu))
        return forward_project(mu, self.geometry, backend=self.backend, device=self.device)

    def smooth_integrals(self, image_hu: Image) -> Image:
        """Of an image (row, column), as finely as noise needs them, at an eighth of the cost or less: (view, cell)."""
        factor = next(f for f in (8, 4, 2, 1) if f == 1 or f * self.geometry.spacing_mm <= _COARSE_MM)
        coarse = self.geometry.coarser(pixels=factor, views=max(1, min(factor, self.geometry.views // _COARSE_VIEWS)))
        # Where the size is no multiple, the padding moves the image by less than a coarse pixel.
        mu = attenuation(self._square(image_hu, size=coarse.size * factor))
        mean = mu.reshape(coarse.size, factor, coarse.size, factor).mean(axis=(1, 3))
        integrals = forward_project(mean, coarse, backend=self.backend, device=self.device)
        return _interpolated(integrals, coarse, self.geometry)

    def added_noise(
        self, image_hu: Image, fraction: float, rng: NormalSource, *, tube_current: float = 1.0
    ) -> tuple[Image, float]:
        """The noise between this full-dose image and one at ``fraction`` of its dose.

        Args:
            image_hu: HU (row, column).
            fraction: in (0, 1).
            rng: decides the noise.
            tube_current: of this slice over the mean of the series.

        Returns:
            HU (row, column), and the share of rays that were starved of photons.
        """
        integrals = self.smooth_integrals(image_hu)
        counts = self.exposure.counts(integrals, self.geometry, tube_current=tube_current)
        noise, starved = self.exposure.added_noise(counts, fraction, rng)
        return self._as_noise(noise, image_hu), starved

    def own_noise(
        self, image_hu: Image, rng: NormalSource, *, tube_current: float = 1.0, integrals: Image | None = None
    ) -> Image:
        """Noise like that which an image (row, column) of full dose itself holds, in HU.

        Args:
            image_hu: HU (row, column).
            rng: decides the noise.
            tube_current: of this slice over the mean of the series.
            integrals: of :meth:`smooth_integrals`, where they are known.
        """
        integrals = self.smooth_integrals(image_hu) if integrals is None else integrals
        counts = self.exposure.counts(integrals, self.geometry, tube_current=tube_current)
        white = rng.standard_normal(counts.shape, dtype=np.float32)
        return self._as_noise(np.sqrt(self.exposure.variance(counts)) * white, image_hu)

    def noise_at(
        self, truth_hu: Image, fraction: float, rng: np.random.Generator, *, tube_current: float = 1.0
    ) -> Image:
        """The noise of a scan of a noise-free image at ``fraction`` of the dose: photons are counted, and starve.

        Args:
            truth_hu: HU (row, column), without noise.
            fraction: in (0, 1].
            rng: decides the noise.
            tube_current: of this slice over the mean of the series.

        Returns:
            HU (row, column).
        """
        counts = self.exposure.counts(self.smooth_integrals(truth_hu), self.geometry, tube_current=tube_current)
        return self._as_noise(self.exposure.measured(np.maximum(counts, 1), fraction, rng), truth_hu)

    def starved_share(
        self, image_hu: Image, fraction: float, *, tube_current: float = 1.0, integrals: Image | None = None
    ) -> float:
        """Share of the rays at which fewer than ``FEWEST_COUNTS`` arrive at ``fraction`` of the dose."""
        few, integrals = self._few_integrals(image_hu, integrals)
        counts = self.exposure.counts(integrals, few, tube_current=tube_current)
        return float((counts * np.float32(fraction) < FEWEST_COUNTS).mean())

    def _few_integrals(self, image_hu: Image, integrals: Image | None) -> tuple[FanBeam, Image]:
        """A part of the views, and the smooth integrals along them."""
        few = self.geometry.coarser(views=max(1, self.geometry.views // 160))
        integrals = self.smooth_integrals(image_hu) if integrals is None else integrals
        return few, _interpolated(integrals, self.geometry, few)

    def expected_sigma_hu(
        self,
        image_hu: Image,
        *,
        tube_current: float = 1.0,
        added_at: float | None = None,
        integrals: Image | None = None,
    ) -> Image:
        """Standard deviation of :meth:`own_noise`, or of :meth:`added_noise`, from a part of the views.

        Args:
            image_hu: HU (row, column).
            tube_current: of this slice over the mean of the series.
            added_at: the fraction of the dose at which noise is added; None: the image's own noise.
            integrals: of :meth:`smooth_integrals`, where they are known.

        Returns:
            HU (row, column). Counts are taken for Gaussian, which for starved rays tells too little.
        """
        few, integrals = self._few_integrals(image_hu, integrals)
        counts = self.exposure.counts(integrals, few, tube_current=tube_current)
        variance = self.exposure.variance(counts)
        if added_at is not None:
            variance = self.exposure.added_variance(counts, added_at)
        # Independent noise in that many times more views averages out.
        share = np.float32(few.views / self.geometry.views)
        image = backproject_variance(variance, few, self.kernel, backend=self.backend)
        sigma: Image = np.sqrt(image * share) * np.float32(HU_PER_ATTENUATION)
        return self._crop(sigma, image_hu)

    def scan(self, integrals: Image, fraction: float, rng: np.random.Generator) -> Image:
        """Scan directly: photons are counted, and the counts reconstructed.

        Args:
            integrals: true line integrals (view, cell).
            fraction: of the exposure, in (0, 1].
            rng: decides the noise.

        Returns:
            HU, ``geometry.size`` square.
        """
        noise_free = math.isinf(self.exposure.photons)
        counts = integrals if noise_free else self.exposure.counts(integrals, self.geometry)
        measured = integrals + self.exposure.measured(counts, fraction, rng)
        return hounsfield(self._reconstruct(measured))

    def _as_noise(self, noise: Image, image_hu: Image) -> Image:
        return self._crop(self._reconstruct(noise) * np.float32(HU_PER_ATTENUATION), image_hu)

    def _reconstruct(self, sinogram: Image) -> Image:
        return filtered_backprojection(sinogram, self.geometry, self.kernel, backend=self.backend, device=self.device)

    def _square(self, image_hu: Image, size: int | None = None) -> Image:
        """Put into the middle of air."""
        square = np.full((size or self.geometry.size,) * 2, -1000, np.float32)
        self._crop(square, image_hu)[...] = image_hu
        return square

    @staticmethod
    def _crop(square: Image, image_hu: Image) -> Image:
        """The part of a square where an image lies."""
        top, left = ((whole - part) // 2 for whole, part in zip(square.shape, image_hu.shape, strict=True))
        return square[top : top + image_hu.shape[0], left : left + image_hu.shape[1]]


def _interpolated(integrals: Image, of: FanBeam, wanted: FanBeam) -> Image:
    """Line integrals between those of another geometry: linear, round the turn and along the detector."""
    cells = wanted.cells_mm() / of.pitch_mm + (of.detectors - 1) / 2
    low = np.clip(np.floor(cells).astype(int), 0, of.detectors - 2)
    part = np.clip(cells - low, 0, 1).astype(np.float32)
    along = integrals[:, low] * (1 - part) + integrals[:, low + 1] * part
    views = wanted.angles() / of.view_step - 0.5
    first = np.floor(views).astype(int)
    share = (views - first).astype(np.float32)[:, None]
    between: Image = along[first % of.views] * (1 - share) + along[(first + 1) % of.views] * share
    return between
