"""The virtual scanner that explains the noise of a real scan: its photons and its kernel, both measured on the scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.quality.noise import FEWEST_VOXELS, QUIETEST_PERCENT, SOFT_TISSUE_HU
from iscl_monai.quality.spectrum import without_anatomy, without_surface
from iscl_monai.scanner.exposure import Exposure
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import Kernel, hann, ram_lak
from iscl_monai.scanner.projector import Backend
from iscl_monai.scanner.strength import Places, expected_sigmas, own_noise, places_of
from iscl_monai.scanner.technique import PHOTON_TOLERANCE, Technique
from iscl_monai.scanner.texture import fine_detail, flat_patches, local_mean_and_sigma, soft_tissue, spectrum
from iscl_monai.scanner.virtual import VirtualScanner

Image = NDArray[np.float32]

SLICES = 6
"""Slices to calibrate on, spread over the series."""

_TRIAL = 1e5
_FEWEST_PHOTONS, _MOST_PHOTONS = 1e2, 1e9
_LEAST_NOISE_HU = 0.5  # rounding to integers alone makes 0.3
_LEAST_DIFFERENCE = 0.2
_PATCHES = 64
_FEWEST_PATCHES = 4
_ROUNDS = 3
# Anatomy shows below three cycles in a patch (index 2), noise above; lower, the kernel is taken to be flat.
_LOWEST = 2


def spread(planes: Sequence[Image]) -> list[int]:
    """Indices of a few slices throughout a series, out of those that show soft tissue.

    Args:
        planes: HU (row, column) each.

    Raises:
        ImageRefusal: if none does.
    """
    tissue = tissue_slices(planes)
    if not tissue:
        raise no_soft_tissue()
    chosen = np.linspace(0, len(tissue) - 1, min(SLICES, len(tissue))).round().astype(int)
    return [tissue[index] for index in chosen]


def tissue_slices(planes: Sequence[Image]) -> list[int]:
    """Indices of the slices that show soft tissue."""
    return [index for index, plane in enumerate(planes) if soft_tissue(plane).sum() >= FEWEST_VOXELS]


def next_slices(planes: Sequence[Image], chosen: Sequence[int]) -> list[Image | None]:
    """The slice beside each chosen one; None in a series of one slice."""
    last = len(planes) - 1
    return [None if last == 0 else planes[index + 1 if index < last else index - 1] for index in chosen]


def calibrated(
    planes: Sequence[Image],
    *,
    spacing_mm: float,
    neighbours: Sequence[Image | None] | None = None,
    tube_current: Sequence[float] | None = None,
    technique: Technique | None = None,
    exposure: Exposure | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> VirtualScanner:
    """Find the scanner whose noise has the texture and the strength of a scan's own.

    Texture: the noise power spectrum of the difference of neighbouring slices in the flattest patches over that of
    noise reconstructed with the bare ramp, at the same places; its root is the kernel's window. Without neighbours
    nothing tells noise from anatomy, and the window is the one usual for the kernel's name. Strength: the mode, over
    soft tissue, of the local standard deviation relative to what the anatomy lets expect, in the scan and in simulated
    noise alike. Of neighbours, the correlation of their noise, too.

    Args:
        planes: full-dose HU (row, column), a few slices (:func:`spread`).
        spacing_mm: distance of pixels.
        neighbours: the slice next to each, whose difference shows the texture of the noise without the anatomy that
            goes through both; None: there are none.
        tube_current: of each slice over the mean of the series; None: constant.
        technique: what the header says: kernel of a prior, and what photons are possible.
        exposure: what is assumed beside the number of photons; None: the defaults of :class:`Exposure`.
        backend: see :func:`iscl_monai.scanner.projector.chosen_backend`.
        device: where torch computes.

    Returns:
        The scanner. Its kernel is a Hann window where no neighbours, or too few flat patches, show one.

    Raises:
        ImageRefusal: if no soft tissue is found, or it has no noise.
    """
    _refuse_without_noise(planes)
    technique = technique or Technique()
    currents = [1.0] * len(planes) if tube_current is None else list(tube_current)
    start = replace(exposure or Exposure(photons=_TRIAL), photons=_TRIAL)
    geometry = FanBeam.around(max(planes[0].shape), spacing_mm)
    scanner = VirtualScanner(geometry=geometry, exposure=start, kernel=ram_lak(), backend=backend, device=device)
    # The fit needs a spectrum's shape only; the strength follows, with the kernel that was found.
    beside = [None] * len(planes) if neighbours is None else neighbours
    others = [with_own_noise(plane, other) for plane, other in zip(planes, beside, strict=True)]
    integrals = [scanner.smooth_integrals(plane) for plane in planes]
    scanner = replace(scanner, kernel=_fitted_kernel(planes, others, currents, integrals, scanner, technique))
    places = places_of(planes, others, currents, integrals)
    likely = technique.photons_prior(geometry.pitch_mm) if places.alone else None
    scanner = _with_photons(scanner, places, likely)
    shared = 0.0 if places.alone else places.correlation(expected_sigmas(places, scanner))
    return replace(scanner, neighbour_correlation=shared)


def _with_photons(scanner: VirtualScanner, places: Places, likely: float | None) -> VirtualScanner:
    """The scanner with the photons that explain the noise, if need be within reach of those that are likely."""
    expected_hu = expected_sigmas(places, scanner)
    own = own_noise(places, scanner, expected_hu, seed=1)

    def with_logarithm(logarithm: float) -> VirtualScanner:
        return replace(scanner, exposure=replace(scanner.exposure, photons=math.exp(logarithm)))

    def excess(logarithm: float) -> float:
        """Of the scan's noise over the scanner's: rises with the photons."""
        return math.log(places.over_own(expected_sigmas(places, with_logarithm(logarithm)), own))

    lowest, highest = (_FEWEST_PHOTONS, _MOST_PHOTONS)
    if likely is not None:
        lowest, highest = likely / PHOTON_TOLERANCE, likely * PHOTON_TOLERANCE
    ends = (math.log(lowest), math.log(highest))
    # At the end where even that many or that few do not explain it, the check afterwards says so.
    if excess(ends[0]) >= 0:
        return with_logarithm(ends[0])
    if excess(ends[1]) <= 0:
        return with_logarithm(ends[1])
    return with_logarithm(float(optimize.brentq(excess, *ends, xtol=0.01)))


def with_noise(
    planes: Sequence[Image],
    *,
    spacing_mm: float,
    noise_hu: float,
    exposure: Exposure | None = None,
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> VirtualScanner:
    """Find the scanner that would give noise-free images a certain noise.

    Args:
        planes: HU (row, column), a few slices without noise.
        spacing_mm: distance of pixels.
        noise_hu: wanted 10th percentile of the standard deviation over soft tissue.
        exposure: as for :func:`calibrated`.
        backend: likewise.
        device: likewise.

    Raises:
        ConfigRefusal: if ``noise_hu`` is not positive.
        ImageRefusal: if no soft tissue is found.
    """
    if not 0 < noise_hu < math.inf:
        raise ConfigRefusal(
            f"full-dose noise of {noise_hu} HU",
            allowed="a positive standard deviation in HU",
            cure="give full_dose_noise_hu, e.g. 10; an image without noise of its own has no dose to reduce",
        )
    tissues = [soft_tissue(plane) for plane in planes]
    if not any(tissue.any() for tissue in tissues):
        raise no_soft_tissue()
    scanner = VirtualScanner(
        geometry=FanBeam.around(max(planes[0].shape), spacing_mm),
        exposure=replace(exposure or Exposure(photons=_TRIAL), photons=_TRIAL),
        kernel=hann(0.5 / spacing_mm),
        backend=backend,
        device=device,
    )
    integrals = [scanner.smooth_integrals(plane) for plane in planes]
    for _ in range(4):  # electronic noise makes it converge instead of hit
        sigma = [
            scanner.expected_sigma_hu(plane, integrals=along)[tissue]
            for plane, along, tissue in zip(planes, integrals, tissues, strict=True)
        ]
        found_hu = float(np.percentile(np.concatenate(sigma), QUIETEST_PERCENT))
        scanner = _rescaled(scanner, noise_hu / found_hu)
    return scanner


def _refuse_without_noise(planes: Sequence[Image]) -> None:
    """A drawing, or a scan denoised to death, has no dose that could be told."""
    measured = []
    for plane in planes:
        mean_hu, sigma_hu = local_mean_and_sigma(plane)
        measured.append(sigma_hu[soft_tissue(mean_hu)])
    found = np.concatenate(measured)
    if found.size < FEWEST_VOXELS:
        raise no_soft_tissue()
    if not np.median(found) > _LEAST_NOISE_HU:
        raise ImageRefusal(
            f"soft tissue with {np.median(found):.2g} HU of noise",
            allowed=f"a scan with noise of its own, more than {_LEAST_NOISE_HU} HU, from which its dose can be told",
            cure="take the original reconstruction, or give full_dose_noise_hu",
        )


def with_own_noise(plane: Image, neighbour: Image | None) -> Image | None:
    """A neighbour, unless it is (nearly) the same slice again: then their difference tells nothing of the noise."""
    if neighbour is None:
        return None
    difference_hu, _ = without_anatomy(fine_detail(plane), fine_detail(neighbour))
    tissue = soft_tissue(local_mean_and_sigma(plane)[0])
    same = difference_hu[tissue].std() < _LEAST_DIFFERENCE * fine_detail(plane)[tissue].std()
    return None if same else neighbour


def _rescaled(scanner: VirtualScanner, ratio: float) -> VirtualScanner:
    """The scanner with ``ratio`` times the noise."""
    return replace(scanner, exposure=replace(scanner.exposure, photons=scanner.exposure.photons / ratio**2))


def _fitted_kernel(
    planes: Sequence[Image],
    neighbours: Sequence[Image | None],
    currents: Sequence[float],
    integrals: Sequence[Image],
    scanner: VirtualScanner,
    technique: Technique,
) -> Kernel:
    """The window that gives the scanner's noise the spectrum of the scan's."""
    seen: list[Image] = []
    places: list[list[tuple[slice, slice]]] = []
    for plane, neighbour, current, along in zip(planes, neighbours, currents, integrals, strict=True):
        if neighbour is None:
            places.append([])
            continue
        seen_hu, tissue_hu = without_anatomy(plane, neighbour)
        expected_hu = scanner.expected_sigma_hu(plane, tube_current=current, integrals=along)
        places.append(flat_patches(seen_hu, tissue_hu, expected_hu, _PATCHES))
        seen += [_scaled(seen_hu[place]) for place in places[-1]]
    spacing_mm = scanner.geometry.spacing_mm
    if len(seen) < _FEWEST_PATCHES:
        return technique.kernel_prior(0.5 / spacing_mm)
    scan = spectrum(seen, spacing_mm)
    points = (0.0, *scan.frequency_per_mm[_LOWEST:].tolist())
    window = np.ones(len(points) - 1)
    # Off the isocentre a ray's frequencies are stretched or squeezed, so what a window does there spreads to others.
    for _ in range(_ROUNDS):
        made = _simulated_patches(planes, places, currents, integrals, scanner)
        window *= np.sqrt(scan.power_hu2_mm2 / spectrum(made, spacing_mm).power_hu2_mm2)[_LOWEST:]
        window /= window[0]
        kernel = Kernel(name="fitted", frequencies_per_mm=points, window=(1.0, *window.tolist()))
        scanner = replace(scanner, kernel=kernel)
    return scanner.kernel


def _simulated_patches(
    planes: Sequence[Image],
    places: Sequence[Sequence[tuple[slice, slice]]],
    currents: Sequence[float],
    integrals: Sequence[Image],
    scanner: VirtualScanner,
) -> list[Image]:
    """The scanner's noise at places of slices, the same photons each time."""
    rng = np.random.default_rng(0)
    made: list[Image] = []
    for plane, here, current, along in zip(planes, places, currents, integrals, strict=True):
        noise_hu = scanner.own_noise(plane, rng, tube_current=current, integrals=along) if here else plane
        made += [_scaled(noise_hu[place]) for place in here]
    return made


def _scaled(patch_hu: Image) -> Image:
    """A patch with noise of strength 1 around its trend: each counts alike, however noisy its place is."""
    noise = without_surface(patch_hu[None])[0].astype(np.float32)
    scaled: Image = noise / np.sqrt(np.mean(noise**2))
    return scaled


def no_soft_tissue() -> ImageRefusal:
    """What to say of an image that shows none."""
    return ImageRefusal(
        "a volume without soft tissue",
        allowed=f"a CT volume in HU with voxels between {SOFT_TISSUE_HU[0]:g} and {SOFT_TISSUE_HU[1]:g}",
        cure="check that the values are Hounsfield units",
    )
