"""What is to be added to a scan: its virtual scanner, and the noise of each slice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.dose.header import SimulationRecipe, middle_slice
from iscl_monai.dicom.derive import slice_identity
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.errors import ConfigRefusal, DicomRefusal
from iscl_monai.scanner.calibration import calibrated, next_slices, spread
from iscl_monai.scanner.dose import noise_source, outside, scan_noise_hu
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

_CURRENT = ("XRayTubeCurrent", "Exposure")
"""What tells the current of a slice, the better one first: an exposure may be that of the whole helix."""


@dataclass(frozen=True, kw_only=True)
class SliceNoise:
    """The noise to be added to one slice.

    Args:
        index: of the (averaged) slice.
        mean_hu: the (averaged) scan, HU (row, column).
        added_hu: HU (row, column), zero in padding.
        starved: share of rays that were starved of photons.
    """

    index: int
    mean_hu: Image
    added_hu: Image
    starved: float


class Simulation:
    """One series and the virtual scanner that explains its noise: gives the low-dose slices one by one.

    Args:
        series: the scan.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 adds nothing.
        average: so many neighbouring slices are averaged before noise is added; a remainder at the end is left out.
        seed: decides the noise together with the fraction and each slice's SOP Instance UID.
        device: where torch computes, if it does.

    Raises:
        ConfigRefusal: if an argument makes no sense.
        DicomRefusal: pixels that are no squares, or slices to be averaged that do not lie above each other.
        ImageRefusal: if no slice shows soft tissue with noise.
    """

    def __init__(
        self, series: CTSeries, *, fraction: float, average: int = 1, seed: int = 0, device: str = "cpu"
    ) -> None:
        check_request(fraction, average)
        _check_geometry(series, average)
        self.series, self.fraction, self.seed = series, fraction, seed
        self.groups = _groups(series, average)
        identities = [slice_identity(header) for header in series.headers]
        self.names = [identities[middle_slice(group)] for group in self.groups]
        self.digest = _digest(series, identities)
        self.tube_current = _tube_current(series, self.groups)
        self.noise_hu = 0.0
        self.scanner = self._calibrated(device) if fraction < 1 else None

    def _calibrated(self, device: str) -> VirtualScanner:
        means = [self.mean_hu(index) for index in range(len(self.groups))]
        chosen = spread(means)
        self.noise_hu = scan_noise_hu(np.stack([means[index] for index in chosen]))
        return calibrated(
            [means[index] for index in chosen],
            spacing_mm=self.series.pixel_spacing_mm[0],
            neighbours=next_slices(means, chosen),
            tube_current=[self.tube_current[index] for index in chosen],
            device=device,
        )

    def mean_hu(self, index: int) -> Image:
        """The scan's (averaged) slice, HU (row, column)."""
        planes = self.series.hu[self.groups[index]]
        # A single slice is not copied: a whole series may be asked for.
        mean: Image = planes[0] if len(planes) == 1 else planes.mean(axis=0)
        return mean

    def padding(self, index: int) -> NDArray[np.bool_]:
        """True where any slice of a group shows nothing: as headers say, or else as the images do."""
        group = self.groups[index]
        if self.series.padded is not None:
            padding = self.series.padded[group]
        else:
            padding = np.stack([outside(plane) for plane in self.series.hu[group]])
        nothing: NDArray[np.bool_] = np.any(padding, axis=0)
        return nothing

    def noise(self, index: int) -> SliceNoise:
        """What is added to a slice; safe to be called from several threads."""
        mean_hu = self.mean_hu(index)
        if self.scanner is None:
            return SliceNoise(index=index, mean_hu=mean_hu, added_hu=np.zeros_like(mean_hu), starved=0.0)
        rng = noise_source(self.seed, self.fraction, self.names[index])
        added_hu, starved = self.scanner.added_noise(mean_hu, self.fraction, rng, tube_current=self.tube_current[index])
        added_hu = np.where(self.padding(index), np.float32(0), added_hu)
        return SliceNoise(index=index, mean_hu=mean_hu, added_hu=added_hu, starved=starved)


def recipe_of(simulation: Simulation, *, average: int, z_range_mm: tuple[float, float] | None) -> SimulationRecipe:
    """What a simulation is going to do."""
    scanner = simulation.scanner
    return SimulationRecipe(
        fraction=simulation.fraction,
        average=average,
        seed=simulation.seed,
        z_range_mm=z_range_mm,
        source=simulation.digest,
        noise_hu=None if scanner is None else simulation.noise_hu,
        photons=None if scanner is None else scanner.exposure.photons,
        kernel="" if scanner is None else f"{scanner.kernel.name}, half at {scanner.kernel.half_per_mm:.2f}/mm",
    )


def read_scan(
    source: Path,
    *,
    average: int = 1,
    series_uid: str | None = None,
    z_range_mm: tuple[float, float] | None = None,
) -> CTSeries:
    """Read what is to be simulated: averaging needs even steps, single slices may lie anywhere."""
    return read_series(
        source, series_uid=series_uid, geometry="volume" if average > 1 else "slices", z_range_mm=z_range_mm
    )


def check_request(fraction: float, average: int) -> None:
    """Refuse arguments that make no sense before anything is read.

    Raises:
        ConfigRefusal: naming both.
    """
    if average < 1 or not 0 < fraction <= 1 or (average == 1 and fraction == 1):
        raise ConfigRefusal(
            f"average={average}, fraction={fraction}",
            allowed="average >= 1 and 0 < fraction < 1; fraction 1 only to average",
            cure="give e.g. fraction=0.25 and average=1; the scan itself is its own full dose",
        )


def _check_geometry(series: CTSeries, average: int) -> None:
    """Refuse pixels that are no squares, and the average of slices that do not lie above each other."""
    rows_mm, columns_mm = series.pixel_spacing_mm
    if abs(rows_mm - columns_mm) > 1e-3 * rows_mm:
        raise DicomRefusal(
            series.files[0],
            tag="PixelSpacing",
            found=series.pixel_spacing_mm,
            needed="square pixels, which the simulated scanner has",
            cure="take another series",
        )
    step = series.affine_lps[:3, 2]
    normal = np.cross(series.orientation[:3], series.orientation[3:])
    drift_mm = float(np.linalg.norm(step - (step @ normal) * normal)) * (average - 1)
    if drift_mm > rows_mm / 2:
        raise DicomRefusal(
            series.files[0],
            tag="ImagePositionPatient",
            found=f"{drift_mm:.2f} mm aside between slices to be averaged (gantry tilt)",
            needed=f"at most half a pixel, {rows_mm / 2:.2f} mm",
            cure="use average=1",
        )


def _groups(series: CTSeries, average: int) -> list[slice]:
    """Neighbouring slices that become one."""
    groups = [slice(i, i + average) for i in range(0, len(series.files) - average + 1, average)]
    if not groups:
        raise ConfigRefusal(
            f"average={average} for {len(series.files)} slices",
            allowed="no more than the series has slices",
            cure="give a smaller average, or a wider z_range_mm",
        )
    return groups


def _digest(series: CTSeries, identities: Sequence[str]) -> str:
    """Tells the source from any other, down to its voxels: files may change behind a UID that stays."""
    found = hashlib.blake2b(digest_size=16)
    for identity, plane in zip(identities, series.hu, strict=True):
        found.update(f"{identity}\n".encode())
        found.update(np.ascontiguousarray(plane).data)
    return found.hexdigest()


def _tube_current(series: CTSeries, groups: Sequence[slice]) -> list[float]:
    """Tube current of each group over the mean of all, where every header has it; else constant."""
    for keyword in _CURRENT:
        currents = np.array([current or 0 for current in series.numbers[keyword]])
        if currents.min() > 0:
            means = np.array([currents[group].mean() for group in groups])
            relative: list[float] = (means / means.mean()).tolist()
            return relative
    return [1.0] * len(groups)
