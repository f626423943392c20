"""Low-dose NIfTI volumes: made from a NIfTI volume, or from a DICOM series."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from data_prep.dose.simulation import NOTHING_DOUBTFUL, Acceptance, Simulation, check_request, read_scan
from iscl_monai.dicom.images import NIFTI, open_nifti
from iscl_monai.dicom.nifti import NiftiVolume, described, write_volume
from iscl_monai.durable import check_free
from iscl_monai.errors import ImageRefusal, OutputRefusal
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.scanner.dose import outside
from iscl_monai.scanner.selfcheck import SelfCheck, checked_scanner
from iscl_monai.scanner.streams import SharedSource, neighbour_names
from iscl_monai.scanner.virtual import VirtualScanner

Stored = NDArray[Any]
Progress = Callable[[int], object] | None
Warn = Callable[[str], object] | None


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def simulate_volume(
    source: Path,
    destination: Path,
    *,
    fraction: float,
    seed: int = 0,
    trust_hu: bool = False,
    accepted: Acceptance = NOTHING_DOUBTFUL,
    workers: int | None = None,
    device: str = "cpu",
    warn: Warn = None,
    progress: Progress = None,
) -> Path:
    """Write a NIfTI volume as it would look at a fraction of its dose.

    The header is copied but for its free text, which says that the image is simulated; values are rounded into the
    file's own type. A slice's noise is decided by the seed, the fraction, its voxels and its number.

    Args:
        source: ``.nii`` or ``.nii.gz``, CT in Hounsfield units, slices along the third axis.
        destination: ``.nii`` or ``.nii.gz`` to make; appears only when complete and read back.
        fraction: simulated dose over the scan's dose, in (0, 1].
        seed: another seed gives another noise.
        trust_hu: see :class:`iscl_monai.dicom.nifti.NiftiVolume`.
        accepted: what is simulated although it is doubtful.
        workers: slices worked on at the same time; None: the CPU cores.
        device: where torch computes, if it does.
        warn: called with each thing to know about the noise that is added.
        progress: called with the number of slices simulated since the last call.

    Raises:
        ConfigRefusal: if an argument makes no sense.
        ImageRefusal: if this is no CT volume of square pixels with soft tissue.
        OutputRefusal: if ``destination`` is taken or cannot be written.
    """
    check_request(fraction, 1)
    _check_destination(destination)
    volume = NiftiVolume(source, trust_hu=trust_hu)
    names: list[str] = []
    scanner, check = _scanner_of(volume, device, fraction=fraction, accept=accepted.calibration, names=names)
    neighbours = neighbour_names(names, range(len(names)))

    def work(item: tuple[int, Stored]) -> Stored:
        index, stored = item
        hu = volume.hu(stored)
        source = SharedSource(seed, fraction, names[index], neighbours[index], scanner.neighbour_correlation)
        added_hu, _ = scanner.added_noise(hu, fraction, source)
        return volume.changed(stored, np.where(outside(hu), 0, added_hu))

    _tell(warn, check.warnings)
    description = _description(fraction, doubtful=bool(check.problems))
    header = described(volume.header, description, header_size=volume.header_size)
    workers = workers or useful_workers("cpu", volume.count, (volume.rows, volume.columns))
    slices = in_order(enumerate(volume.slices()), work, workers=workers)
    return write_volume(destination, header, volume.dtype, slices, progress)


def simulate_series_as_volume(
    source: Path,
    destination: Path,
    *,
    fraction: float,
    average: int = 1,
    series_uid: str | None = None,
    z_range_mm: tuple[float, float] | None = None,
    seed: int = 0,
    accepted: Acceptance = NOTHING_DOUBTFUL,
    workers: int | None = None,
    device: str = "cpu",
    warn: Warn = None,
    progress: Progress = None,
) -> Path:
    """Write a DICOM series as a NIfTI volume, as it would look at a fraction of its dose.

    The voxels are those of :func:`data_prep.dose.series.simulate_series`, as int16 Hounsfield units; padding is
    written as the lowest of them.

    Args:
        source: as for :func:`data_prep.dose.series.simulate_series`, evenly spaced.
        destination: ``.nii`` or ``.nii.gz`` to make; appears only when complete and read back.
        fraction: simulated dose over the scan's dose, in (0, 1].
        average: so many neighbouring slices are averaged before noise is added.
        series_uid: the Series Instance UID to take.
        z_range_mm: positions along the slice normal to keep.
        seed: another seed gives another noise.
        accepted: what is simulated although it is doubtful.
        workers: slices worked on at the same time; None: the CPU cores.
        device: where torch computes, if it does.
        warn: called with each thing to know about the noise that is added.
        progress: called with the number of slices simulated since the last call.

    Raises:
        Refusal: as :func:`data_prep.dose.series.simulate_series`, and for uneven slices.
    """
    check_request(fraction, average)
    _check_destination(destination)
    series = read_scan(source, average=2, series_uid=series_uid, z_range_mm=z_range_mm)  # even, as any volume
    simulation = Simulation(series, fraction=fraction, average=average, seed=seed, accepted=accepted, device=device)

    def work(index: int) -> Stored:
        noise = simulation.noise(index)
        hu = np.where(simulation.padding(index), -1024, noise.mean_hu + noise.added_hu)
        return np.rint(hu).clip(-1024, 32767).astype("<i2")

    count = len(simulation.groups)
    workers = workers or useful_workers("cpu", count, series.hu.shape[1:])
    affine = series.affine_lps.copy()
    affine[:, 3] += affine[:, 2] * (average - 1) / 2  # the middle of the first group
    affine[:, 2] *= average
    _tell(warn, simulation.warnings)
    doubtful = bool(simulation.reconstruction or (simulation.check and simulation.check.problems))
    header = header_of(
        (series.hu.shape[2], series.hu.shape[1], count), affine, _description(fraction, doubtful=doubtful)
    )
    slices = in_order(range(count), work, workers=workers)
    return write_volume(destination, header, np.dtype("<i2"), slices, progress)


def _check_destination(destination: Path) -> None:
    """Refuse a name that is taken, or is no NIfTI file's, before anything is worked on."""
    check_free(destination)
    if not is_nifti(destination):
        raise OutputRefusal(
            f"{destination} for a volume", allowed="a name that ends with .nii or .nii.gz", cure="give one"
        )


def _scanner_of(
    volume: NiftiVolume, device: str, *, fraction: float, accept: bool, names: list[str]
) -> tuple[VirtualScanner, SelfCheck]:
    """Calibrated on a few slices of the volume; the names of all slices are appended to ``names``."""
    columns_mm, rows_mm = (float(step) for step in open_nifti(volume.path).header.get_zooms()[:2])
    if abs(rows_mm - columns_mm) > 1e-3 * rows_mm:
        raise ImageRefusal(
            f"{volume.path}: pixels of {rows_mm:g} x {columns_mm:g} mm",
            allowed="square pixels, which the simulated scanner has",
            cure="take another scan",
        )
    planes = []
    for index, stored in enumerate(volume.slices()):
        # Volumes have no UIDs, and many have one name: their voxels tell them apart.
        names.append(f"{hashlib.blake2b(stored.tobytes(), digest_size=16).hexdigest()}|{index}")
        planes.append(volume.hu(stored))
    return checked_scanner(planes, fraction=fraction, spacing_mm=rows_mm, accept=accept, device=device)


def _tell(warn: Warn, warnings: Iterable[str]) -> None:
    if warn is not None:
        for warning in warnings:
            warn(warning)


def _description(fraction: float, *, doubtful: bool) -> str:
    """The 79 characters of free text that a NIfTI file has."""
    if fraction == 1:
        return "iscl_monai, averaged"
    return f"SIMULATED {fraction:g} dose, iscl_monai. Not for diagnosis." + " Doubtful noise" * (
        doubtful and fraction < 1
    )


def header_of(shape: tuple[int, int, int], affine_lps: NDArray[np.float64], description: str) -> bytes:
    """A NIfTI-1 header for int16 HU (column, row, slice)."""
    # (row, column, slice) to LPS becomes (column, row, slice) to RAS.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps[:, [1, 0, 2, 3]]
    image = nibabel.Nifti1Image(np.empty((1, 1, 1), "<i2"), affine)  # type: ignore[no-untyped-call]
    header = image.header
    header.set_data_shape(shape)  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    header.set_slope_inter(1, 0)  # type: ignore[no-untyped-call]
    header["vox_offset"], header["descrip"] = 352, description.encode()
    return bytes(header.binaryblock.ljust(352, b"\0"))
