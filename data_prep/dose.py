"""Low dose, simulated: the noise that a scan would have had with fewer photons is added to its images.

Source: the insertion mode of validated image-domain simulators (Yu et al. 2012, doi
10.1097/RCT.0b013e318258e891; Radiol Phys Technol 2024, doi 10.1007/s12194-023-00755-w), here in parallel-beam
geometry and with quantum noise only (no electronic noise, no bowtie, no tube current modulation).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from data_prep.projector import ParallelBeam, backproject_variance, filtered_backprojection, forward_project
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.quality.noise import QUIETEST_PERCENT, SOFT_TISSUE_HU, noise_sigma_hu

MU_WATER_PER_MM = 0.0192  # at about 70 keV, the effective energy of a 120 kV scan
OUTSIDE_HU = -1100.0  # no tissue and no air is below: padding outside of the reconstruction circle

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_BATCH = 4
_CALIBRATION_SLICES = 8
# The variance in the image is smooth, and sums over many views: this part of them is enough to calibrate.
_CALIBRATION_VIEWS = 6
# e^p is smooth along both axes of the sinogram, and need not be known finer than this.
_COARSE_MM = 2.0
_COARSE_VIEWS = 90


def insert_noise(
    image_hu: FloatArray,
    *,
    spacing_mm: float,
    fraction: float,
    full_dose_noise_hu: float | None = None,
    seed: int = 0,
    slice_ids: Sequence[str] | None = None,
    padding: BoolArray | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[int], object] | None = None,
) -> FloatArray:
    """Add the noise that separates a full-dose scan from one at a fraction of the dose.

    ``I_low = I + FBP(sqrt((1 - a) / a * e^p / N0) * e)`` with ``p`` the projections of the image, ``a`` the
    fraction, ``e`` white Gaussian noise, and one ``N0`` for the series, such that the 10th percentile of the
    added standard deviation over soft tissue is ``full_dose_noise_hu * sqrt((1 - a) / a)``. So even tissue
    whose noise :func:`scan_noise_hu` measures as ``s`` comes out with about ``s / sqrt(a)``, measured alike
    (anatomy with more: the quietest voxels lie in windows with edges), and shoulders get more than lungs.

    Args:
        image_hu: full-dose HU (slice, row, column).
        spacing_mm: distance of pixels in a slice.
        fraction: simulated dose over the scan's dose, in (0, 1]; 1 adds nothing.
        full_dose_noise_hu: standard deviation of the scan's own noise where soft tissue is quiet (10th
            percentile); None: that of :func:`scan_noise_hu`.
        seed: together with a slice's identity decides its noise.
        slice_ids: one string per slice (e.g. SOP Instance UIDs), so that a slice's noise pattern does not
            depend on which other slices are given; None: the slices' indices.
        padding: True where a voxel shows nothing and stays as it is; None: below ``OUTSIDE_HU``.
        device: where torch computes. Noise is drawn on the CPU, so that every device adds the same.
        progress: called with the number of slices done since the last call.

    Returns:
        float32 HU (slice, row, column).

    Raises:
        ConfigRefusal: if ``fraction``, the noise or ``slice_ids`` make no sense.
        ImageRefusal: if the image is not a finite volume, or shows no soft tissue to calibrate on.
    """
    ids = _checked(image_hu, fraction, slice_ids)
    image_hu = image_hu.astype(np.float32)
    outside = image_hu < OUTSIDE_HU if padding is None else padding
    if fraction == 1:
        return image_hu
    geometry = scanner(image_hu.shape[1], image_hu.shape[2], spacing_mm)
    noise_hu = scan_noise_hu(image_hu) if full_dose_noise_hu is None else full_dose_noise_hu
    photons = calibrate_photons(image_hu, geometry, full_dose_noise_hu=noise_hu, device=device)
    low_hu: FloatArray = image_hu.copy()
    for start in range(0, len(image_hu), _BATCH):
        part = slice(start, start + _BATCH)
        variance = ray_variance(image_hu[part], geometry, device=device) / photons
        generators = [_generator(seed, name) for name in ids[part]]
        added_hu = _noise_images(variance * ((1 - fraction) / fraction), geometry, generators)
        low_hu[part] += np.where(outside[part], 0, added_hu)
        if progress is not None:
            progress(len(added_hu))
    return low_hu


def scanner(rows: int, columns: int, spacing_mm: float) -> ParallelBeam:
    """Choose the simulated scanner for an image.

    Args:
        rows: rows of the image.
        columns: columns of the image.
        spacing_mm: distance of pixels.

    Returns:
        A geometry with about 1.4 views per pixel across (720 at 512 pixels), enough that no stars show.
    """
    views = 24 * math.ceil(max(rows, columns, 128) * 1.4 / 24)
    return ParallelBeam(rows=rows, columns=columns, spacing_mm=spacing_mm, views=views)


def scan_noise_hu(image_hu: FloatArray) -> float:
    """Estimate a scan's noise: the 10th percentile of the local 9x9 standard deviation over soft tissue.

    That is :func:`iscl_monai.quality.noise.noise_sigma_hu`, but with the voxels of all slices in one pool
    (there: the median of the slices), because one ``N0`` has to explain them all.

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
        raise _no_soft_tissue()
    return noise_hu


def soft_tissue(image_hu: FloatArray) -> BoolArray:
    """True where a voxel lies in ``SOFT_TISSUE_HU``."""
    inside: BoolArray = (image_hu >= SOFT_TISSUE_HU[0]) & (image_hu <= SOFT_TISSUE_HU[1])
    return inside


def calibrate_photons(
    image_hu: FloatArray,
    geometry: ParallelBeam,
    *,
    full_dose_noise_hu: float,
    device: str | torch.device = "cpu",
) -> float:
    """Find the photons per ray in air that explain the scan's noise.

    Args:
        image_hu: full-dose HU (slice, row, column).
        geometry: the simulated scanner.
        full_dose_noise_hu: the scan's noise as :func:`scan_noise_hu` measures it. The 10th percentile of the
            standard deviation expected in soft tissue, over a few slices throughout the series, becomes this.
        device: where torch computes.

    Returns:
        ``N0``, per ray of this geometry (not comparable with a real detector's).

    Raises:
        ImageRefusal: if no voxel is soft tissue.
        ConfigRefusal: if the noise is not positive.
    """
    if not 0 < full_dose_noise_hu < math.inf:
        raise ConfigRefusal(
            f"full-dose noise of {full_dose_noise_hu} HU",
            allowed="a positive standard deviation in HU",
            cure="give full_dose_noise_hu, e.g. 10; an image without noise of its own has no dose to reduce",
        )
    tissue = np.flatnonzero([soft_tissue(plane).any() for plane in image_hu])
    if not tissue.size:
        raise _no_soft_tissue()
    spread = np.linspace(0, len(tissue) - 1, min(_CALIBRATION_SLICES, len(tissue))).round().astype(int)
    chosen = image_hu[tissue[spread]]
    coarse = replace(geometry, views=max(1, geometry.views // _CALIBRATION_VIEWS))
    # Independent noise in that many times more views averages out.
    more_views = geometry.views / coarse.views
    sigmas = []
    for start in range(0, len(chosen), _BATCH):
        planes = chosen[start : start + _BATCH]
        variance = backproject_variance(ray_variance(planes, coarse, device=device), coarse) / more_views
        sigma_hu = variance.sqrt().cpu().numpy() * (1000 / MU_WATER_PER_MM)
        sigmas.append(sigma_hu[soft_tissue(planes)])
    return float((np.percentile(np.concatenate(sigmas), QUIETEST_PERCENT) / full_dose_noise_hu) ** 2)


def ray_variance(image_hu: FloatArray, geometry: ParallelBeam, *, device: str | torch.device = "cpu") -> torch.Tensor:
    """Compute ``e^p``: the variance of each line integral when one photon per ray starts (Poisson's law).

    Args:
        image_hu: HU (slice, row, column).
        geometry: the simulated scanner.
        device: where torch computes.

    Returns:
        (slice, view, detector), at least 1.
    """
    planes = torch.from_numpy(np.ascontiguousarray(image_hu)).to(device)
    mu = (MU_WATER_PER_MM * (1 + planes / 1000)).clamp(min=0)
    factor = next(f for f in (8, 4, 2, 1) if f == 1 or f * geometry.spacing_mm <= _COARSE_MM)
    detectors = geometry.detectors
    # The padded square is as wide as the detector, so that coarse and fine cells share their borders.
    rows, columns = detectors - geometry.rows, detectors - geometry.columns
    square = F.pad(mu, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    square = F.avg_pool2d(square[:, None], factor)[:, 0]
    coarse = _Square(
        rows=detectors // factor,
        columns=detectors // factor,
        spacing_mm=geometry.spacing_mm * factor,
        views=min(geometry.views, max(_COARSE_VIEWS, geometry.views // 4)),
    )
    integrals = forward_project(square, coarse)
    size = [geometry.views, detectors]
    return F.interpolate(integrals[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].exp()


class _Square(ParallelBeam):
    """A geometry whose detector is as wide as the image, not as its diagonal."""

    @property
    def detectors(self) -> int:
        return self.columns


def _noise_images(variance: torch.Tensor, geometry: ParallelBeam, generators: list[np.random.Generator]) -> FloatArray:
    """Reconstruct white noise of a given variance, in HU."""
    shape = tuple(variance.shape[1:])
    white = np.stack([generator.standard_normal(shape, dtype=np.float32) for generator in generators])
    noise = filtered_backprojection(torch.from_numpy(white).to(variance.device) * variance.sqrt(), geometry)
    result: FloatArray = noise.cpu().numpy() * np.float32(1000 / MU_WATER_PER_MM)
    return result


def _generator(seed: int, name: str) -> np.random.Generator:
    """One stream of random numbers per slice."""
    digest = hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


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


def _no_soft_tissue() -> ImageRefusal:
    return ImageRefusal(
        "a volume without soft tissue",
        allowed=f"a CT volume in HU with voxels between {SOFT_TISSUE_HU[0]:g} and {SOFT_TISSUE_HU[1]:g}",
        cure="check that the values are Hounsfield units",
    )
