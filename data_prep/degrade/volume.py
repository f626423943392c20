"""Rician noise on a NIfTI volume of MR magnitude."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.degrade.record import Degradation, psnr_db, record_place, write_record
from data_prep.degrade.rician import add_rician
from data_prep.degrade.stream import generator
from iscl_monai.dicom.images import NIFTI
from iscl_monai.dicom.nifti import NiftiVolume, described, write_volume
from iscl_monai.durable import check_free
from iscl_monai.errors import ConfigRefusal, ImageRefusal, OutputRefusal
from iscl_monai.magnitude import PERCENTILE, read_magnitude

SIGMA = 0.05
LARGEST_SIGMA = 1.0


def degrade_volume(
    source: Path,
    destination: Path,
    *,
    sigma: float = SIGMA,
    seed: int = 0,
    role: str = "",
    progress: Callable[[int], object] | None = None,
) -> Degradation:
    """Write a magnitude volume with Rician noise, and a record beside it.

    The header is copied but for its free text; values are rounded into the file's own type. Each slice along the third
    axis has a generator of its own, by seed, role and number.

    Args:
        source: ``.nii`` or ``.nii.gz``, see :func:`iscl_monai.magnitude.read_magnitude`.
        destination: ``.nii`` or ``.nii.gz`` to make.
        sigma: of the noise in each channel, as a share of the scan's 99.5th percentile.
        seed: another seed gives other noise.
        role: another role gives other noise.
        progress: called with the number of slices finished since the last call.

    Raises:
        ConfigRefusal: a sigma that makes no sense.
        ImageRefusal: no magnitude volume in NIfTI.
        OutputRefusal: a destination that is taken or cannot be written.
    """
    _check(source, destination, sigma)
    record = record_place(destination)
    window = read_magnitude(source).window
    volume = NiftiVolume(source, check=False, any_axis=True)
    decibels: list[float] = []
    generators = (generator(seed, "rician", role, index) for index in range(volume.count))
    clipped: list[int] = []

    def note(error: float, beyond: int) -> None:
        decibels.append(psnr_db(error / window**2))
        clipped.append(beyond)

    slices = _noisy(volume, sigma * window, generators, note)
    text = f"SIMULATED Rician noise {sigma:g}, iscl_monai. Not the original."
    header = described(volume.header, text, header_size=volume.header_size)

    def write_beside() -> None:
        write_record(
            record,
            settings={
                "kind": "rician",
                "seed": seed,
                "role": role,
                "parameters": {"sigma": sigma, "percentile": PERCENTILE, "window": window},
            },
            sources=[source],
            numbers=range(volume.count),
            psnr_db=decibels,
            clipped=sum(clipped),
        )

    write_volume(destination, header, volume.dtype, slices, progress, before_named=write_beside)
    return Degradation(path=destination, record=record, psnr_db=tuple(decibels), clipped=sum(clipped))


def _noisy(
    volume: NiftiVolume,
    sigma: float,
    generators: Iterator[np.random.Generator],
    note: Callable[[float, int], object],
) -> Iterator[npt.NDArray[Any]]:
    """Stored values of each slice with noise; its mean squared error and the clipped ones are told in passing."""
    for stored, rng in zip(volume.slices(), generators, strict=True):
        image = volume.hu(stored).astype(np.float64)
        noisy = add_rician(image, sigma, rng)
        changed = volume.changed(stored, noisy - image)
        held = volume.hu(changed)
        beyond = np.abs(held - noisy) > abs(volume.slope) if volume.dtype.kind in "iu" else np.zeros(held.shape, bool)
        note(float(np.mean(np.square(held - image))), int(np.count_nonzero(beyond)))
        yield changed


def _check(source: Path, destination: Path, sigma: float) -> None:
    if not 0 < sigma <= LARGEST_SIGMA:
        raise ConfigRefusal(
            f"sigma {sigma:g}", allowed=f"a share above 0, at most {LARGEST_SIGMA:g}", cure="give e.g. --sigma 0.05"
        )
    if not source.name.lower().endswith(NIFTI):
        raise ImageRefusal(
            f"{source} for Rician noise",
            allowed="MR magnitude in .nii or .nii.gz",
            cure="convert it, e.g. by dcm2niix: DICOM objects are not derived from MR",
        )
    check_free(destination)
    if not destination.name.lower().endswith(NIFTI):
        raise OutputRefusal(
            f"{destination} for a volume", allowed="a name that ends with .nii or .nii.gz", cure="give one"
        )
