"""Does the virtual scanner explain the scan? Its own noise beside the scan's, its kernel beside plausible ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal
from iscl_monai.scanner.calibration import calibrated, next_slices, spread, tissue_slices, with_own_noise
from iscl_monai.scanner.exposure import FEWEST_COUNTS, Exposure
from iscl_monai.scanner.projector import Backend
from iscl_monai.scanner.strength import expected_sigmas, own_noise, places_of
from iscl_monai.scanner.technique import Technique
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

LIMITS = (0.85, 1.15)
"""Own noise over the scan's that is taken: beyond, a simulated quarter of the dose is no quarter."""
MOST_STARVED = 0.01
_SLICES = 6


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """What was measured after a calibration, where possible on slices that it has not seen.

    Args:
        own_over_scan: the virtual scanner's own noise over the scan's, in soft tissue, away from anatomy.
        frequency_per_mm: mean frequency of the noise that the scanner's kernel gives.
        plausible_per_mm: between which that of such a kernel lies.
        starved: share of the rays at which fewer than ``FEWEST_COUNTS`` arrive at the simulated dose.
        fraction: of the dose.
    """

    own_over_scan: float
    frequency_per_mm: float
    plausible_per_mm: tuple[float, float]
    starved: float
    fraction: float

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the calibration is not to be trusted; none when it is."""
        found = []
        if not LIMITS[0] <= self.own_over_scan <= LIMITS[1]:
            found.append(f"its own noise is {self.own_over_scan:.2f} times the scan's")
        lowest, highest = self.plausible_per_mm
        if not lowest <= self.frequency_per_mm <= highest:
            found.append(
                f"its noise has a mean frequency of {self.frequency_per_mm:.2f}/mm "
                f"({lowest:.2f} to {highest:.2f} is plausible)"
            )
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know although the simulation is made."""
        found = [f"calibration accepted although {problem}" for problem in self.problems]
        if self.starved > MOST_STARVED:
            found.append(f"{100 * self.starved:.2g} % of the rays are starved (fewer than {FEWEST_COUNTS:g} counts)")
        return tuple(found)

    def refuse(self) -> None:
        """Refuse a calibration that is not to be trusted.

        Raises:
            ImageRefusal: naming what was found, in one line.
        """
        if self.problems:
            raise ImageRefusal(
                f"a virtual scanner that does not explain the scan: {'; '.join(self.problems)}",
                allowed=f"{LIMITS[0]:g} to {LIMITS[1]:g} times the scan's noise, and a plausible kernel",
                cure="take the whole series in its original reconstruction, uncropped; --accept-calibration simulates "
                "all the same, and says so in what is made",
            )


def checked_scanner(
    planes: Sequence[Image],
    *,
    fraction: float,
    spacing_mm: float,
    tube_current: Sequence[float] | None = None,
    technique: Technique | None = None,
    accept: bool = False,
    exposure: Exposure | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> tuple[VirtualScanner, SelfCheck]:
    """Calibrate on a few slices of a series, and check on others.

    Args:
        planes: all slices, full-dose HU (row, column), in their order.
        fraction: of the dose that is going to be simulated.
        spacing_mm: distance of pixels.
        tube_current: of each slice over the mean of the series; None: constant.
        technique: what the header says.
        accept: take the calibration, whatever the check finds.
        exposure: see :func:`iscl_monai.scanner.calibration.calibrated`.
        backend: likewise.
        device: likewise.

    Raises:
        ImageRefusal: if no slice shows soft tissue with noise, or the check fails.
    """
    technique = technique or Technique()
    currents = [1.0] * len(planes) if tube_current is None else list(tube_current)
    chosen = spread(planes)
    scanner = calibrated(
        [planes[index] for index in chosen],
        spacing_mm=spacing_mm,
        neighbours=next_slices(planes, chosen),
        tube_current=[currents[index] for index in chosen],
        technique=technique,
        exposure=exposure,
        backend=backend,
        device=device,
    )
    check = self_check(scanner, planes, currents, seen=chosen, fraction=fraction, technique=technique)
    if not accept:
        check.refuse()
    return scanner, check


def self_check(
    scanner: VirtualScanner,
    planes: Sequence[Image],
    currents: Sequence[float],
    *,
    seen: Sequence[int],
    fraction: float,
    technique: Technique,
) -> SelfCheck:
    """Compare a scanner with a series.

    Args:
        scanner: that was calibrated on it.
        planes: all slices, HU (row, column).
        currents: tube current of each over the mean of the series.
        seen: indices of the slices that it was calibrated on; others are looked at where there are enough of them.
        fraction: of the dose that is going to be simulated.
        technique: what the header says.
    """
    others = [index for index in tissue_slices(planes) if index not in seen]
    pool = others if len(others) >= _SLICES else list(seen)
    # In the middle of equal parts: the ends of a series have been seen.
    steps = np.linspace(0, len(pool), _SLICES + 1)
    chosen = sorted({pool[int((low + high) / 2)] for low, high in pairwise(steps)})
    looked_at = [planes[index] for index in chosen]
    beside = [with_own_noise(plane, other) for plane, other in zip(looked_at, next_slices(planes, chosen), strict=True)]
    integrals = [scanner.smooth_integrals(plane) for plane in looked_at]
    places = places_of(looked_at, beside, [currents[index] for index in chosen], integrals)
    expected_hu = expected_sigmas(places, scanner)
    own = own_noise(places, scanner, expected_hu, seed=2)
    nyquist_per_mm = 0.5 / scanner.geometry.spacing_mm
    starved = [
        scanner.starved_share(plane, fraction, tube_current=current, integrals=along)
        for plane, current, along in zip(places.planes, places.currents, places.integrals, strict=True)
    ]
    return SelfCheck(
        own_over_scan=1 / places.over_own(expected_hu, own),
        frequency_per_mm=scanner.kernel.noise_frequency_per_mm(nyquist_per_mm),
        plausible_per_mm=technique.plausible_frequencies_per_mm(nyquist_per_mm),
        starved=float(np.mean(starved)),
        fraction=fraction,
    )
