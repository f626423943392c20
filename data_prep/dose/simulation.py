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
from iscl_monai.scanner.calibration import spread
from iscl_monai.scanner.dose import outside, scan_noise_hu
from iscl_monai.scanner.selfcheck import SelfCheck, checked_scanner
from iscl_monai.scanner.streams import SharedSource, neighbour_names
from iscl_monai.scanner.technique import Technique
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

_CURRENT = ("XRayTubeCurrent", "Exposure")
"""What tells the current of a slice, the better one first: an exposure may be that of the whole helix."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What is simulated although noise insertion is doubtful there.

    Args:
        calibration: a virtual scanner that does not explain the scan (:class:`iscl_monai.scanner.selfcheck.SelfCheck`).
        iterative: iterative reconstructions, whose noise is not linear.
    """

    calibration: bool = False
    iterative: bool = False


NOTHING_DOUBTFUL = Acceptance()


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
        accepted: what is simulated although it is doubtful.
        device: where torch computes, if it does.

    Raises:
        ConfigRefusal: if an argument makes no sense.
        DicomRefusal: pixels that are no squares, slices to be averaged that do not lie above each other, or an
            iterative reconstruction.
        ImageRefusal: if no slice shows soft tissue with noise, or the virtual scanner does not explain it.
    """

    def __init__(
        self,
        series: CTSeries,
        *,
        fraction: float,
        average: int = 1,
        seed: int = 0,
        accepted: Acceptance = NOTHING_DOUBTFUL,
        device: str = "cpu",
    ) -> None:
        check_request(fraction, average)
        _check_geometry(series, average)
        self.reconstruction = _reconstruction(series)
        if fraction < 1 and self.reconstruction and not accepted.iterative:
            raise _iterative(series, self.reconstruction)
        self.series, self.fraction, self.seed = series, fraction, seed
        self.groups = _groups(series, average)
        identities = [slice_identity(header) for header in series.headers]
        self.names = [identities[middle_slice(group)] for group in self.groups]
        positions_mm = [float(np.mean(series.positions_mm[group])) for group in self.groups]
        self.neighbours = neighbour_names(self.names, positions_mm)
        self.digest = _digest(series, identities)
        self.tube_current = _tube_current(series, self.groups)
        self.noise_hu = 0.0
        self.scanner: VirtualScanner | None = None
        self.check: SelfCheck | None = None
        if fraction < 1:
            self.scanner, self.check = self._calibrated(device, accept=accepted.calibration)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about the noise that is added."""
        if self.check is None:
            return ()
        nonlinear = [f"linear noise in an iterative reconstruction ({self.reconstruction})"] * bool(self.reconstruction)
        return (*nonlinear, *self.check.warnings)

    def _calibrated(self, device: str, *, accept: bool) -> tuple[VirtualScanner, SelfCheck]:
        means = [self.mean_hu(index) for index in range(len(self.groups))]
        self.noise_hu = scan_noise_hu(np.stack([means[index] for index in spread(means)]))
        return checked_scanner(
            means,
            fraction=self.fraction,
            spacing_mm=self.series.pixel_spacing_mm[0],
            tube_current=self.tube_current,
            technique=_technique(self.series),
            accept=accept,
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
        source = SharedSource(
            self.seed, self.fraction, self.names[index], self.neighbours[index], self.scanner.neighbour_correlation
        )
        current = self.tube_current[index]
        added_hu, starved = self.scanner.added_noise(mean_hu, self.fraction, source, tube_current=current)
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
        warnings=simulation.warnings,
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


def _reconstruction(series: CTSeries) -> str:
    """The iterative reconstructions that the headers name; ``""`` when they name none."""
    return " / ".join(sorted({header.reconstruction for header in series.headers} - {""}))


def _iterative(series: CTSeries, name: str) -> DicomRefusal:
    return DicomRefusal(
        series.files[0],
        tag="reconstruction",
        found=f"{name}: iterative, its noise has another texture at another dose",
        needed="filtered backprojection, to which linear noise can be added",
        cure="take the filtered backprojection of this scan; --accept-iterative simulates all the same, and says so in "
        "what is made",
    )


def _technique(series: CTSeries) -> Technique:
    """What the middle slice says. Tube current times time, as some makers write other things into Exposure."""
    header = series.headers[len(series.headers) // 2]
    current_ma, time_ms = header.tube_current_ma, header.exposure_time_ms
    known = current_ma is not None and time_ms is not None and current_ma > 0 and time_ms > 0
    return Technique(
        kernel="\\".join(header.kernel),
        mas=(current_ma or 0) * (time_ms or 0) / 1000 if known else None,
        kvp=header.kvp if header.kvp and header.kvp > 0 else None,
        thickness_mm=header.slice_thickness,
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
    # GE's Exposure is no mAs.
    for keyword in _CURRENT[: 1 if series.headers[0].manufacturer.upper().startswith("GE") else None]:
        currents = np.array([current or 0 for current in series.numbers[keyword]])
        if currents.min() > 0:
            means = np.array([currents[group].mean() for group in groups])
            relative: list[float] = (means / means.mean()).tolist()
            return relative
    return [1.0] * len(groups)
