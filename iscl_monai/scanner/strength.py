"""How strong the noise of a scan is, beside that of a virtual scanner, away from anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iscl_monai.quality.spectrum import without_anatomy
from iscl_monai.scanner.streams import MOST_SHARED
from iscl_monai.scanner.texture import fine_detail, local_mean_and_sigma, mode, soft_tissue
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]
_LEAST_SHARED = 0.05
"""Less is an error of the estimate."""


@dataclass(frozen=True)
class Own:
    """A scanner's own noise over what is expected of it: modes of the local standard deviation, near 1.

    Attributes:
        seen: of the noise.
        detail: of its fine detail.
    """

    seen: float
    detail: float


@dataclass(frozen=True, eq=False)
class Places:
    """Some slices of a scan, and local standard deviations in their soft tissue.

    Attributes:
        planes: HU (row, column) each.
        currents: tube current of each over the mean of the series.
        integrals: line integrals of each: they are the same for all exposures and kernels.
        tissue: True where a 9x9 mean is soft tissue, one mask for each slice.
        seen: 9x9 standard deviations of each slice there.
        apart: those of the difference of neighbours over the root of two; as ``seen`` where there is no neighbour.
        detail: those of the fine detail of each slice.
        detail_apart: those of the fine detail of the difference.
    """

    planes: Sequence[Image]
    currents: Sequence[float]
    integrals: Sequence[Image]
    tissue: Sequence[NDArray[np.bool_]]
    seen: Sequence[Image]
    apart: Sequence[Image]
    detail: Sequence[Image]
    detail_apart: Sequence[Image]

    @property
    def alone(self) -> bool:
        """Whether no slice has a neighbour."""
        return all(seen is apart for seen, apart in zip(self.seen, self.apart, strict=True))

    def over_own(self, expected_hu: Sequence[Image], own: Own) -> float:
        """The scan's noise over a scanner's own.

        What anatomy is left, in a slice or in a difference, adds: the least found is right.

        Args:
            expected_hu: standard deviations of the scanner's noise in the slices, (row, column).
            own: its noise, measured as the scan's is.
        """
        seen, detail = self._mode(self.seen, expected_hu), self._mode(self.detail, expected_hu)
        if self.alone:  # fine detail holds little anatomy, but is a larger part of the noise of a sharper kernel
            return min(seen / own.seen, detail / own.detail)
        # Slices that share photons share noise, and their difference holds too little. How much, fine detail tells.
        apart, detail_apart = self._mode(self.apart, expected_hu), self._mode(self.detail_apart, expected_hu)
        return min(seen, apart * max(1.0, detail / detail_apart)) / own.seen

    def least_over_own(self, expected_hu: Sequence[Image], own: Own, *, shared: float) -> float:
        """The scan's noise over a scanner's own: the least of four measures, as anatomy only adds.

        Args:
            expected_hu: as for :meth:`over_own`.
            own: likewise.
            shared: correlation of the noise of neighbouring slices.

        Returns:
            NaN without soft tissue.
        """
        if not sum(len(values) for values in self.seen):
            return float("nan")
        left = 1.0 if self.alone else float(np.sqrt(1 - shared))
        whole, detail = self._mode(self.seen, expected_hu), self._mode(self.detail, expected_hu)
        apart, detail_apart = (self._mode(values, expected_hu) / left for values in (self.apart, self.detail_apart))
        return min(min(whole, apart) / own.seen, min(detail, detail_apart) / own.detail)

    def _mode(self, values: Sequence[Image], expected_hu: Sequence[Image]) -> float:
        relative = [one / sigma[inside] for one, sigma, inside in zip(values, expected_hu, self.tissue, strict=True)]
        return mode(np.concatenate(relative))

    def correlation(self, expected_hu: Sequence[Image]) -> float:
        """Of the noise of neighbouring slices, by their fine detail: ``1 - var(difference) / (2 var)``, 0 to 0.7."""
        alone, apart = self._mode(self.detail, expected_hu), self._mode(self.detail_apart, expected_hu)
        shared = min(1 - (apart / alone) ** 2, MOST_SHARED)
        return float(shared) if shared >= _LEAST_SHARED else 0.0


def places_of(
    planes: Sequence[Image],
    neighbours: Sequence[Image | None],
    currents: Sequence[float],
    integrals: Sequence[Image],
) -> Places:
    """Measure slices of a scan.

    Args:
        planes: HU (row, column) each.
        neighbours: the slice beside each, or None.
        currents: tube current of each over the mean of the series.
        integrals: of :meth:`VirtualScanner.smooth_integrals`, of each.
    """
    tissues, found = [], []
    for plane, neighbour in zip(planes, neighbours, strict=True):
        difference_hu, tissue_hu = without_anatomy(plane, neighbour)
        tissue = soft_tissue(local_mean_and_sigma(tissue_hu)[0])
        images = (plane, difference_hu, fine_detail(plane), fine_detail(difference_hu))
        tissues.append(tissue)
        sigmas = [local_mean_and_sigma(image)[1][tissue] for image in images[:: 1 if neighbour is not None else 2]]
        # Without a neighbour what is apart is what is seen.
        found.append(sigmas if neighbour is not None else [sigmas[0], sigmas[0], sigmas[1], sigmas[1]])
    seen, apart, detail, detail_apart = (list(values) for values in zip(*found, strict=True))
    return Places(
        planes=list(planes),
        currents=list(currents),
        integrals=list(integrals),
        tissue=tissues,
        seen=seen,
        apart=apart,
        detail=detail,
        detail_apart=detail_apart,
    )


def expected_sigmas(places: Places, scanner: VirtualScanner) -> list[Image]:
    """The scanner's standard deviations in the slices, HU (row, column) each."""
    return [
        scanner.expected_sigma_hu(plane, tube_current=current, integrals=integrals)
        for plane, current, integrals in zip(places.planes, places.currents, places.integrals, strict=True)
    ]


def own_noise(places: Places, scanner: VirtualScanner, expected_hu: Sequence[Image], *, seed: int) -> Own:
    """The scanner's own noise, made and measured as a scan's is."""
    rng = np.random.default_rng(seed)
    seen: list[Image] = []
    detail: list[Image] = []
    for plane, current, integrals, tissue, sigma in zip(
        places.planes, places.currents, places.integrals, places.tissue, expected_hu, strict=True
    ):
        made_hu = scanner.own_noise(plane, rng, tube_current=current, integrals=integrals)
        for strengths, image in ((seen, made_hu), (detail, fine_detail(made_hu))):
            strengths.append(local_mean_and_sigma(image)[1][tissue] / sigma[tissue])
    return Own(mode(np.concatenate(seen)), mode(np.concatenate(detail)))
