"""Low dose, simulated: the noise a scan would have had with fewer photons.

Two ways. *Insertion* adds to a real image the noise that separates its dose from a lower one, so that what the image
shows, and its own texture, stay (Yu et al. 2012, doi 10.1097/RCT.0b013e318258e891; from images alone: Radiol Phys
Technol 2024, doi 10.1007/s12194-023-00755-w). *Acquisition* scans a noise-free object directly: photons are counted,
counts reconstructed; it is what insertion is checked against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.scanner.calibration import no_soft_tissue, spread, with_noise
from iscl_monai.scanner.exposure import Exposure
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import Kernel, hann
from iscl_monai.scanner.projector import Backend
from iscl_monai.scanner.selfcheck import checked_scanner
from iscl_monai.scanner.streams import SharedSource, neighbour_names, noise_source
from iscl_monai.scanner.virtual import VirtualScanner

SIMULATOR = "iscl_monai noise insertion, fan beam, version 4"
"""What makes the noise: part of the identity of all that is simulated, so another version makes other files."""

OUTSIDE_HU = -1100.0  # no tissue and no air is below: padding outside of the reconstruction circle

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def insert_noise(
    image_hu: FloatArray,
    *,
    spacing_mm: float,
    fraction: float,
    scanner: VirtualScanner | None = None,
    full_dose_noise_hu: float | None = None,
    accept_calibration: bool = False,
    seed: int = 0,
    slice_ids: Sequence[str] | None = None,
    neighbour_ids: Sequence[tuple[str | None, str | None]] | None = None,
    padding: BoolArray | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
    progress: Callable[[int], object] | None = None,
) -> FloatArray:
    """Add the noise that separates a full-dose scan from one at a fraction of the dose.

    ``I_low = I + FBP(noise)`` with the noise of :meth:`iscl_monai.scanner.exposure.Exposure.added_noise`: more where
    the patient is thicker, streaks where rays are starved.

    Args:
        image_hu: full-dose HU (slice, row, column).
        spacing_mm: distance of pixels in a slice.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 adds nothing.
        scanner: what scanned; None: found by :func:`scanner_for`.
        full_dose_noise_hu: for images without noise of their own, the noise they are meant to have; see
            :func:`scanner_for`.
        accept_calibration: see :func:`scanner_for`.
        seed: together with the identities of a slice and its neighbours, and the fraction, decides its noise.
        slice_ids: one string per slice (e.g. SOP Instance UIDs), so that a slice's noise pattern does not
            depend on which other slices are given; None: the slices' indices.
        neighbour_ids: of the slices below and above each, which share some of its noise where the scan's do
            (``scanner.neighbour_correlation``); None: the slices before and after it. Give them where only some slices
            of a series are given.
        padding: True where a voxel shows nothing and stays as it is; None: see :func:`outside`.
        backend: see :func:`iscl_monai.scanner.projector.chosen_backend`.
        device: where torch computes. Noise is drawn on the CPU, so that every device adds the same.
        progress: called with the number of slices done since the last call.

    Returns:
        float32 HU (slice, row, column).

    Raises:
        ConfigRefusal: if ``fraction``, the noise or ``slice_ids`` make no sense.
        ImageRefusal: if the image is not a finite volume, or shows no soft tissue to calibrate on.
    """
    ids = _checked(image_hu, fraction, slice_ids)
    low_hu: FloatArray = image_hu.astype(np.float32)
    if fraction == 1:
        return low_hu
    nothing = np.stack([outside(plane) for plane in image_hu]) if padding is None else padding
    if scanner is None:
        scanner = scanner_for(
            low_hu,
            spacing_mm=spacing_mm,
            fraction=fraction,
            full_dose_noise_hu=full_dose_noise_hu,
            accept_calibration=accept_calibration,
            backend=backend,
            device=device,
        )
    beside = neighbour_names(ids, range(len(ids))) if neighbour_ids is None else neighbour_ids
    for index, (name, others) in enumerate(zip(ids, beside, strict=True)):
        source = SharedSource(seed, fraction, name, others, scanner.neighbour_correlation)
        added_hu, _ = scanner.added_noise(low_hu[index], fraction, source)
        low_hu[index] += np.where(nothing[index], 0, added_hu)
        if progress is not None:
            progress(1)
    return low_hu


def scanner_for(
    image_hu: FloatArray,
    *,
    spacing_mm: float,
    fraction: float = 0.25,
    full_dose_noise_hu: float | None = None,
    accept_calibration: bool = False,
    exposure: Exposure | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> VirtualScanner:
    """The virtual scanner whose noise is that of a scan.

    Args:
        image_hu: HU (slice, row, column).
        spacing_mm: distance of pixels in a slice.
        fraction: of the dose that is going to be simulated.
        full_dose_noise_hu: None: texture and strength are measured on the image
            (:func:`iscl_monai.scanner.calibration.calibrated`). A number, for images without noise: the 10th
            percentile over soft tissue of the standard deviation they are to have, with a Hann kernel.
        accept_calibration: take what was calibrated though its own noise is not the scan's, or its kernel not plausible
            (:class:`iscl_monai.scanner.selfcheck.SelfCheck`).
        exposure: what is assumed beside the number of photons.
        backend: see :func:`iscl_monai.scanner.projector.chosen_backend`.
        device: where torch computes.

    Raises:
        ConfigRefusal: if the noise or the spacing make no sense.
        ImageRefusal: if no slice shows soft tissue, or the calibration does not explain the scan.
    """
    FanBeam.around(max(image_hu.shape[1:]), spacing_mm)  # refuses, before anything is worked on
    if full_dose_noise_hu is None:
        scanner, _ = checked_scanner(
            list(image_hu),
            fraction=fraction,
            spacing_mm=spacing_mm,
            accept=accept_calibration,
            exposure=exposure,
            backend=backend,
            device=device,
        )
        return scanner
    return with_noise(
        [image_hu[index] for index in spread(list(image_hu))],
        spacing_mm=spacing_mm,
        noise_hu=full_dose_noise_hu,
        exposure=exposure,
        backend=backend,
        device=device,
    )


def acquire(
    truth_hu: FloatArray,
    *,
    spacing_mm: float,
    photons: float,
    fraction: float = 1.0,
    kernel: Kernel | None = None,
    exposure: Exposure | None = None,
    seed: int = 0,
    slice_ids: Sequence[str] | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
    progress: Callable[[int], object] | None = None,
) -> FloatArray:
    """Scan a noise-free object directly.

    Args:
        truth_hu: HU (slice, row, column), square slices. A single slice is projected once and scanned for each of
            the ``slice_ids``: realisations of its noise.
        spacing_mm: distance of pixels.
        photons: counts per ray in air at full dose (see :class:`iscl_monai.scanner.exposure.Exposure`); ``math.inf``
            gives what the scanner would show without noise.
        fraction: dose over full dose, in (0, 1].
        kernel: None: Hann up to the Nyquist frequency of the pixels.
        exposure: electronic noise, bowtie and modulation; its photons are not looked at.
        seed: together with the fraction and a slice's identity decides its noise.
        slice_ids: one string per slice; None: the slices' indices.
        backend: see :func:`iscl_monai.scanner.projector.chosen_backend`.
        device: where torch computes.
        progress: called with the number of slices done since the last call.

    Returns:
        float32 HU (slice or realisation, row, column).

    Raises:
        ConfigRefusal: if an argument makes no sense.
        ImageRefusal: if the object is not a finite volume of square slices.
    """
    count = len(slice_ids) if slice_ids and len(truth_hu) == 1 else len(truth_hu)
    objects = np.broadcast_to(truth_hu, (count, *truth_hu.shape[1:]))
    ids = _checked(objects, fraction, slice_ids)
    if truth_hu.shape[1] != truth_hu.shape[2]:
        raise ImageRefusal(f"an object of shape {truth_hu.shape}", allowed="square slices", cure="pad with -1000 HU")
    scanner = VirtualScanner(
        geometry=FanBeam.around(truth_hu.shape[1], spacing_mm),
        exposure=replace(exposure or Exposure(photons=photons), photons=photons),
        kernel=kernel or hann(0.5 / spacing_mm),
        backend=backend,
        device=device,
    )
    images = np.empty((len(ids), *truth_hu.shape[1:]), np.float32)
    integrals: FloatArray | None = None
    for index, name in enumerate(ids):
        if integrals is None or len(truth_hu) > 1:
            integrals = scanner.line_integrals(objects[index].astype(np.float32))
        images[index] = scanner.scan(integrals, fraction, noise_source(seed, fraction, name))
        if progress is not None:
            progress(1)
    return images


def outside(image_hu: FloatArray) -> BoolArray:
    """True where an image (row, column) shows nothing: below -1100 HU, in one piece with the image's border.

    Noise in air may be as low, too, but lies anywhere.
    """
    below: BoolArray = image_hu < OUTSIDE_HU
    if below.any():
        pieces, _ = ndimage.label(below)
        edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
        below = np.isin(pieces, edge[edge > 0])
    return below


def scan_noise_hu(image_hu: FloatArray) -> float:
    """Estimate a scan's noise: the 10th percentile of the local 9x9 standard deviation over soft tissue.

    That is :func:`iscl_monai.quality.noise.noise_sigma_hu`, but with the voxels of all slices in one pool
    (there: the median of the slices).

    Args:
        image_hu: HU (slice, row, column).

    Returns:
        Standard deviation in HU. The low percentile skips windows that hold edges or texture of organs.

    Raises:
        ImageRefusal: if there is no soft tissue (fewer than 100 voxels).
    """
    # The slices stacked into one tall picture; the few windows across a seam do not move a 10th percentile.
    noise_hu = noise_sigma_hu(image_hu.reshape(-1, image_hu.shape[-1]))
    if math.isnan(noise_hu):
        raise no_soft_tissue()
    return noise_hu


def _checked(image_hu: FloatArray, fraction: float, slice_ids: Sequence[str] | None) -> Sequence[str]:
    """Refuse arguments that make no sense; give the slices' names."""
    if image_hu.ndim != 3 or not image_hu.size or not np.isfinite(image_hu).all():
        raise ImageRefusal(
            f"an image of shape {image_hu.shape}",
            allowed="finite HU of shape (slice, row, column), none of them zero",
            cure="add a leading axis to a single slice; replace NaN by the padding value",
        )
    if not 0 < fraction <= 1:
        raise ConfigRefusal(f"dose fraction {fraction}", allowed="0 < fraction <= 1", cure="give e.g. 0.25")
    ids = [str(index) for index in range(len(image_hu))] if slice_ids is None else slice_ids
    if len(ids) != len(image_hu) or len(set(ids)) != len(ids):
        raise ConfigRefusal(
            f"{len(ids)} slice_ids ({len(set(ids))} different) for {len(image_hu)} slices",
            allowed="one slice_id per slice, all different",
            cure="give the SOP Instance UIDs, or leave slice_ids out",
        )
    return ids
