"""Noise from realisations of it: how strong, of which texture, and alike from slice to slice or not."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.figures import NoiseFigures, Texture
from iscl_monai.quality.linearity import distance_mm_from
from iscl_monai.quality.spectrum import noise_power_spectrum, radial

PATCH_PX = 64
RIM_MM = 12.0
TINY = 1e-12

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def noise_figures(module: str, before_hu: Volume, after_hu: Volume, where: Mask) -> NoiseFigures:
    """Root mean square, over a region, of the standard deviation over realisations.

    The same as from differences of pairs, ``std(a - b) / sqrt(2)``, over all pairs: anatomy is alike in all
    realisations and drops out, so it works in anatomy, too.

    Args:
        module: its name.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.
        where: bool (row, column).
    """
    sigmas = [float(np.sqrt(scans[:, where].var(axis=0, ddof=1).mean())) for scans in (before_hu, after_hu)]
    return NoiseFigures(module=module, before_hu=sigmas[0], after_hu=sigmas[1])


def noise_only(scans_hu: Volume) -> npt.NDArray[np.float64]:
    """Realisations less their mean, scaled so that the variance stays that of one realisation."""
    scans = np.asarray(scans_hu, np.float64)
    left: npt.NDArray[np.float64] = (scans - scans.mean(axis=0)) * np.sqrt(len(scans) / (len(scans) - 1))
    return left


def texture(scans_hu: Volume, *, centre: tuple[float, float], radius_mm: float, spacing_mm: float) -> Texture:
    """Noise power spectrum of a uniform disc, over patches of 64 x 64 pixels that overlap by half.

    What all realisations share (cupping, what a denoiser paints everywhere alike) is not noise and is left out.

    Args:
        scans_hu: HU (realisation, row, column).
        centre: (row, column) of the disc.
        radius_mm: of the disc.
        spacing_mm: distance of pixels.
    """
    inside = distance_mm_from(centre, scans_hu.shape[1:], (spacing_mm, spacing_mm)) <= radius_mm - RIM_MM
    noise = noise_only(scans_hu)
    patches = np.concatenate([noise[:, rows, columns] for rows, columns in _places(inside)])
    power = noise_power_spectrum(patches, (spacing_mm, spacing_mm))
    curve = radial(power, (spacing_mm, spacing_mm))
    step = 1 / (PATCH_PX * spacing_mm)
    sigma_hu = patches.std()
    return Texture(
        frequency_per_mm=curve.frequency_per_mm,
        power_hu2_mm2=curve.power_hu2_mm2,
        plane_hu2_mm2=np.fft.fftshift(power),
        peak_per_mm=curve.peak_per_mm() if sigma_hu > 0 else float("nan"),
        mean_per_mm=curve.mean_per_mm() if sigma_hu > 0 else float("nan"),
        check=float(np.sqrt(power.sum() * step**2) / sigma_hu) if sigma_hu > 0 else float("nan"),
    )


def own_noise_share(
    before_hu: Volume, after_hu: Volume, *, centre: tuple[float, float], radius_mm: float, spacing_mm: float
) -> float:
    """Share of the output's noise power that is not the input's noise, filtered: what the denoiser adds of its own.

    One less the coherence of input and output over patches, weighted with the output's power: 0 for every linear
    filter, 1 for noise that knows nothing of the input's. The input's noise is that of the slice and of the slices
    before and after it, which a denoiser of volumes may pass on, too.

    Args:
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.
        centre: (row, column) of the disc.
        radius_mm: of the disc.
        spacing_mm: distance of pixels.

    Returns:
        0 to 1; 0 where no noise is left.
    """
    inside = distance_mm_from(centre, before_hu.shape[1:], (spacing_mm, spacing_mm)) <= radius_mm - RIM_MM
    window = np.hanning(PATCH_PX)[:, None] * np.hanning(PATCH_PX)
    spectra = []
    for noise in (noise_only(before_hu), noise_only(after_hu)):
        patches = np.stack([noise[:, rows, columns] for rows, columns in _places(inside)])
        spectra.append(np.fft.rfft2(patches * window))
    before, after = spectra  # (place, realisation, frequency, frequency)
    power = np.maximum((np.abs(before) ** 2).mean(axis=(0, 1)), TINY)
    total = float((np.abs(after) ** 2).mean(axis=(0, 1)).sum())
    shared = 0.0
    for slices_away in (-1, 0, 1):
        passed_on = (after * np.roll(before, slices_away, axis=1).conj()).mean(axis=(0, 1))
        shared += float((np.abs(passed_on) ** 2 / power).sum())
    return max(0.0, 1 - shared / total) if total > TINY else 0.0


def _places(inside: Mask) -> list[tuple[slice, slice]]:
    starts = (range(0, length - PATCH_PX + 1, PATCH_PX // 2) for length in inside.shape)
    places = [
        (slice(row, row + PATCH_PX), slice(column, column + PATCH_PX)) for row, column in itertools.product(*starts)
    ]
    return [place for place in places if inside[place].all()]
