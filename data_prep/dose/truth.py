"""A virtual patient of real anatomy: a truth without noise, and two doses simulated on it that share no noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dose.nifti import header_of
from data_prep.dose.simulation import NOTHING_DOUBTFUL, Acceptance, Simulation, check_request, read_scan
from iscl_monai.dicom.nifti import write_volume
from iscl_monai.durable import check_free, whole_file, whole_folder
from iscl_monai.errors import ImageRefusal
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.quality.protocol import TRUTH_REAL_ANATOMY
from iscl_monai.scanner.noise_free import METHOD, noise_free, residual_noise_hu
from iscl_monai.scanner.streams import noise_source
from iscl_monai.scanner.texture import soft_tissue
from iscl_monai.scanner.virtual import VirtualScanner

TRUTH, FULL, LOW, RECORD = "truth.nii.gz", "full.nii.gz", "low.nii.gz", "truth.json"
LARGEST_LEFT = 0.35
"""Of the scan's noise, left in the truth: more would be a noise of its own, which both doses show."""
LOWEST_HU, HIGHEST_HU = -1024, 32767
_CHECKED_SLICES = 5

Volume = NDArray[np.float32]
Progress = Callable[[int], object] | None


@dataclass(frozen=True, kw_only=True)
class TruthRecord:
    """What is written beside a truth, so that it can be judged and made again.

    Args:
        method: that took the noise away.
        average: so many neighbouring slices were averaged before.
        scan_noise_hu: 10th percentile of the local standard deviation in the averaged scan.
        truth_noise_hu: the same of the truth; anatomy is in both.
        residual_noise_hu: what the method leaves of noise that is put on the truth, in flat soft tissue.
        fraction: dose of the low one over that of the full one.
        full_noise_hu: standard deviation of the noise of the full dose in soft tissue.
        low_noise_hu: likewise of the low dose.
        photons: per virtual ray at full dose.
        kernel: of the virtual scanner.
        seed: of both noises.
        source: digest of the scan's voxels.
        protocol: that errors against this truth are named by.
    """

    method: str
    average: int
    scan_noise_hu: float
    truth_noise_hu: float
    residual_noise_hu: float
    fraction: float
    full_noise_hu: float
    low_noise_hu: float
    photons: float
    kernel: str
    seed: int
    source: str
    protocol: str = TRUTH_REAL_ANATOMY.name


def make_truth(
    source: Path,
    destination: Path,
    *,
    fraction: float,
    average: int = 1,
    z_range_mm: tuple[float, float] | None = None,
    series_uid: str | None = None,
    seed: int = 0,
    accepted: Acceptance = NOTHING_DOUBTFUL,
    workers: int | None = None,
    progress: Progress = None,
) -> TruthRecord:
    """Write ``truth.nii.gz``, ``full.nii.gz``, ``low.nii.gz`` and ``truth.json`` into a folder that is made for them.

    The virtual scanner is calibrated on the (averaged) scan; its noise tells which wavelet coefficients of the scan are
    anatomy. Then the truth is scanned twice, at the scan's dose and at a fraction of it, with photons of their own:
    what differs between the two doses and the truth is noise and nothing else, and known.

    Args:
        source: folder with one quiet CT series, evenly spaced.
        destination: folder to make; appears only when complete.
        fraction: of the low dose over the scan's, in (0, 1).
        average: so many neighbouring slices are averaged first.
        z_range_mm: positions along the slice normal to keep.
        series_uid: which series of the folder.
        seed: of both noises.
        accepted: what is done although it is doubtful.
        workers: slices worked on at the same time.
        progress: called with the number of slices done since the last call.

    Raises:
        Refusal: as :func:`data_prep.dose.series.simulate_series`; and an ImageRefusal where the method leaves more than
            a third of the scan's noise.
    """
    check_request(fraction, average)
    check_free(destination)
    series = read_scan(source, average=2, series_uid=series_uid, z_range_mm=z_range_mm)
    simulation = Simulation(series, fraction=fraction, average=average, seed=seed, accepted=accepted)
    scanner = simulation.scanner
    assert scanner is not None  # a fraction below 1 has one
    planes = [simulation.mean_hu(index) for index in range(len(simulation.groups))]
    currents = simulation.tube_current
    free = noise_free(planes, scanner, tube_current=currents, workers=workers, progress=progress)
    truth = np.rint(free).clip(LOWEST_HU, HIGHEST_HU)
    residual_hu = _residual(truth, scanner, currents, simulation.noise_hu)
    doses = _Doses(truth, simulation, workers or useful_workers("cpu", len(planes), truth.shape[1:]))
    affine = series.affine_lps.copy()
    affine[:, 3] += affine[:, 2] * (average - 1) / 2
    affine[:, 2] *= average
    noises = {}
    with whole_folder(destination) as folder:
        for name, dose in ((TRUTH, 0.0), (FULL, 1.0), (LOW, fraction)):
            header = header_of(truth.shape[::-1], affine, _description(dose))
            slices = doses.slices(dose)
            write_volume(folder / name, header, np.dtype("<i2"), (plane.astype("<i2") for plane in slices), progress)
            noises[name] = doses.noise_hu(dose)
        record = TruthRecord(
            method=METHOD,
            average=average,
            scan_noise_hu=noise_sigma_hu(np.stack(planes)),
            truth_noise_hu=noise_sigma_hu(truth),
            residual_noise_hu=residual_hu,
            fraction=fraction,
            full_noise_hu=noises[FULL],
            low_noise_hu=noises[LOW],
            photons=scanner.exposure.photons,
            kernel=f"{scanner.kernel.name}, half at {scanner.kernel.half_per_mm:.2f}/mm",
            seed=seed,
            source=simulation.digest,
        )
        with whole_file(folder / RECORD) as file:
            file.write((json.dumps(asdict(record), indent=2) + "\n").encode())
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """What :func:`make_truth` wrote beside a truth."""
    content: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
    return content


def _residual(truth: Volume, scanner: VirtualScanner, currents: list[float], noise_hu: float) -> float:
    """Of some neighbouring slices in the middle; refused where it is no truth."""
    first = max(0, (len(truth) - _CHECKED_SLICES) // 2)
    some = slice(first, first + _CHECKED_SLICES)
    left_hu = residual_noise_hu(truth[some], scanner, tube_current=currents[some])
    if not left_hu <= LARGEST_LEFT * noise_hu:
        raise ImageRefusal(
            f"a truth with {left_hu:.1f} HU of noise left of {noise_hu:.1f}",
            allowed=f"at most {LARGEST_LEFT:g} of the scan's noise",
            cure="take a quieter scan, or average more slices",
        )
    return left_hu


class _Doses:
    """The slices of a truth at several doses; the noise of each slice and dose is its own."""

    def __init__(self, truth: Volume, simulation: Simulation, workers: int) -> None:
        self.truth, self.simulation, self.workers = truth, simulation, workers
        self._squares: dict[float, list[tuple[float, int]]] = {}

    def slices(self, dose: float) -> Iterator[Volume]:
        """Whole HU (row, column), slice by slice; dose 0 is the truth itself."""
        self._squares[dose] = []
        yield from in_order(range(len(self.truth)), lambda index: self._slice(dose, index), workers=self.workers)

    def _slice(self, dose: float, index: int) -> Volume:
        plane: Volume = self.truth[index]
        if dose == 0:
            return plane
        scanner = self.simulation.scanner
        assert scanner is not None
        source = noise_source(self.simulation.seed, dose, f"truth/{index}")
        noise = scanner.noise_at(plane, dose, source, tube_current=self.simulation.tube_current[index])
        noise[self.simulation.padding(index)] = 0
        tissue = soft_tissue(plane)
        self._squares[dose].append((float((noise[tissue] ** 2).sum(dtype=np.float64)), int(tissue.sum())))
        noisy: Volume = np.rint(plane + noise).clip(LOWEST_HU, HIGHEST_HU)
        return noisy

    def noise_hu(self, dose: float) -> float:
        """Standard deviation over soft tissue of what was made."""
        squares, count = np.sum(self._squares[dose], axis=0) if self._squares[dose] else (0.0, 1)
        return float(np.sqrt(squares / count))


def _description(dose: float) -> str:
    """The 79 characters of free text that a NIfTI file has."""
    what = "NOISE REMOVED, truth" if dose == 0 else f"SIMULATED {dose:g} dose on a truth"
    return f"{what}, iscl_monai. Not for diagnosis."
