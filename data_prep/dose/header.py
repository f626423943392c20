"""What a simulated series says about itself, and where the mean of several slices lies.

The rules of its headers are those of every derived series, :mod:`iscl_monai.dicom.derive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset

from iscl_monai.dicom.derivation import MEAN, NOISE_INSERTION, Derivation, Equipment
from iscl_monai.dicom.derive import mean_position
from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.scanner.dose import SIMULATOR

SIMULATED = "SIMULATED low dose, derived. Not for diagnosis"
AVERAGED = "Averaged, derived. Not for diagnosis"


@dataclass(frozen=True, kw_only=True)
class SimulationRecipe:
    """What is done to a series: neighbouring slices are averaged, noise is added, or both.

    Args:
        fraction: simulated dose over the scan's; 1: no noise is added.
        average: so many neighbouring slices become one.
        seed: decides the noise.
        z_range_mm: positions along the slice normal that are kept; None: all.
        source: digest of the voxels that the series is made of.
        noise_hu: noise of the scan; None when none is added.
        photons: per virtual ray at the scan's dose; None when no noise is added.
        kernel: of the virtual scanner, in words.
        warnings: what to know about the noise that is added.
    """

    fraction: float
    average: int
    seed: int
    z_range_mm: tuple[float, float] | None
    noise_hu: float | None
    source: str = ""
    photons: float | None = None
    kernel: str = ""
    warnings: tuple[str, ...] = ()

    def derivation(self, moment: datetime) -> Derivation:
        """What is said about it: the same request of the same voxels gives the same UIDs, any other one others."""
        simulated = self.fraction < 1
        steps = [MEAN] * (self.average > 1) + [NOISE_INSERTION] * simulated
        requested = (self.fraction, self.average, self.seed, self.z_range_mm)
        return Derivation(
            kind="SIMULATED" if simulated else "AVERAGED",
            title=f"SIMULATED {self.fraction:g} DOSE" if simulated else f"MEAN OF {self.average} SLICES",
            series_offset=79 if simulated else 80,
            operations=tuple(steps),
            description=self.description(),
            disclaimer=SIMULATED if simulated else AVERAGED,
            equipment=Equipment(model="dose simulation", versions=(SIMULATOR,), identity=(SIMULATOR,)),
            identity=(SIMULATOR,),
            parameters={"request": repr(requested), "source": self.source},
            moment=moment,
        )

    def description(self) -> str:
        """What was done, in words."""
        mean = f"Mean of {self.average} neighbouring slices. " if self.average > 1 else ""
        if self.noise_hu is None:
            return f"{mean}No noise added ({SIMULATOR})"
        doubts = "".join(f"WARNING: {warning}. " for warning in self.warnings)
        return (
            f"{mean}{doubts}Noise inserted as for {self.fraction:g} of the dose of a scan with {self.noise_hu:.1f} HU "
            f"of noise ({self.photons:.2g} photons per virtual ray, kernel {self.kernel}); seed {self.seed}. "
            f"Dose and tube current in this header are the original scan's ({SIMULATOR})"
        )


def middle_slice(group: slice) -> int:
    """The slice whose header stands for a group."""
    middle: int = (group.start + group.stop - 1) // 2
    return middle


def place_mean(
    dataset: Dataset, sources: Sequence[SliceHeader], locations: Sequence[float | None], spacing_mm: float
) -> None:
    """Put the mean of neighbouring slices at their mean position, as thick as what it stands for.

    Args:
        dataset: derived from the middle slice; changed in place.
        sources: of the slices, in slice order.
        locations: SliceLocation of each; None where it has none.
        spacing_mm: distance of the slices.
    """
    dataset.ImagePositionPatient = [f"{value:.10g}" for value in mean_position(sources)]
    if "SliceLocation" in dataset:
        known = [location for location in locations if location is not None]
        if len(known) == len(sources):
            dataset.SliceLocation = f"{np.mean(known):.10g}"
        else:
            del dataset.SliceLocation
    # From the upper face of the first to the lower face of the last: slices may overlap, or leave gaps.
    thickness_mm = sources[(len(sources) - 1) // 2].slice_thickness or spacing_mm
    dataset.SliceThickness = f"{spacing_mm * (len(sources) - 1) + thickness_mm:.6g}"
    if "SpacingBetweenSlices" in dataset:
        dataset.SpacingBetweenSlices = f"{spacing_mm * len(sources):.6g}"
