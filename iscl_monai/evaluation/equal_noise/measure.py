"""What a method does to the test slices, in numbers that hold for every strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.equal_noise.observer import observed
from iscl_monai.evaluation.equal_noise.slices import CONTRASTS_HU, RADII_PX, TestSlice
from iscl_monai.evaluation.equal_noise.strengths import STRENGTHS
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.quality.body import body_of_slice
from iscl_monai.quality.inserted import Image, Inserted, band_response, drawn, response
from iscl_monai.quality.resolution import task_transfer
from iscl_monai.quality.spectrum import noise_power_spectrum, radial, soft_tissue_places, without_surface

VERSION = 2
"""Raise whenever the same slices and method give other numbers."""
ROD_HU, ROD_REACH_PX, ROD_BLUR_PX = 150.0, 10, 2.0

Moments = list[float]
"""Mean of ``x x``, ``x c`` and ``c c``: what the input holds, what the method adds to it; and how many values."""


def measured(
    denoiser: SliceDenoiser, slices: Sequence[TestSlice], *, progress: Callable[[int], object] | None = None
) -> dict[str, Any]:
    """All numbers of a method, as JSON can hold them.

    Args:
        denoiser: the method.
        slices: of :func:`iscl_monai.evaluation.equal_noise.slices.slices_of`.
        progress: called with 1 after each slice.
    """
    if not slices:
        return {"slices": []}
    workers = useful_workers(denoiser.device.type, len(slices), slices[0].scene_hu.shape)
    found = []
    for numbers in in_order(slices, lambda one: measured_slice(denoiser, one), workers=workers):
        found.append(numbers)
        if progress is not None:
            progress(1)
    return {"slices": found}


def measured_slice(denoiser: SliceDenoiser, one: TestSlice) -> dict[str, Any]:
    """The numbers of one slice.

    The noise is put on with both signs: half the difference of the two outputs is what the method lets through of it.
    What it makes of the noise alike for both signs is not in there: half the sum has it, beside what the method does
    to the anatomy, and the half sums of two realisations differ by it alone. It is noise that is added, too.
    Lesions are added to the noisy slice: what the output shows more than without them is what is left of them.
    """
    noisy = one.scene_hu + one.noise_hu
    change = denoiser.change_hu(noisy)
    odd, even = _parts(change, denoiser.change_hu(one.scene_hu - one.noise_hu))
    second = [denoiser.change_hu(one.scene_hu + sign * one.second_noise_hu) for sign in (1, -1)]
    noise = Noise(before=one.noise_hu, passed=odd, made=(even - _parts(*second)[1]) / np.float32(2**0.5))
    return {
        "patient": one.patient,
        "group": one.group,
        "slice": one.number,
        "noise": _moments(*noise.inside(one.tissue)),
        "band": {f"{radius:g}": _moments(*noise.in_band(radius, one.tissue)) for radius in RADII_PX},
        "spectrum": _spectrum(one, noise),
        "lesions": _lesions(denoiser, one, noisy, change),
        "f50": _sharpness(denoiser, one, noisy, change),
        "error": _error(one, change) if one.has_truth else None,
        "observer": observed(denoiser, one) if one.other_noises_hu else None,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """The noise of a slice and what a method adds to it; HU (row, column).

    Args:
        before: of the input.
        passed: that changes its sign with the noise: together with ``before`` what the method lets through.
        made: that does not: noise of the method's making, as much as one realisation has.
    """

    before: Image
    passed: Image
    made: Image

    def inside(self, where: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The pixels of a region."""
        return self.before[where], self.passed[where], self.made[where]

    def in_band(self, radius_px: float, inside: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The matched filter's responses."""
        before, passed, made = (
            band_response(image, radius_px, inside) for image in (self.before, self.passed, self.made)
        )
        return before, passed, made


def _parts(change: Image, change_of_negative: Image) -> tuple[Image, Image]:
    """Of a change with the noise and with the noise negated: what changes its sign, too, and what does not."""
    half = np.float32(0.5)
    return (change - change_of_negative) * half, (change + change_of_negative) * half


def _moments(before: NDArray[Any], added: NDArray[Any], apart: NDArray[Any] | None = None) -> Moments:
    """Args: the input's noise, what is added to it, and what is added that is independent of both."""
    x, c = (np.asarray(values, np.float64).ravel() for values in (before, added))
    if not x.size:
        return [0.0, 0.0, 0.0, 0]
    own = 0.0 if apart is None else float(np.mean(np.square(apart, dtype=np.float64)))
    return [float(x @ x) / x.size, float(x @ c) / x.size, float(c @ c) / x.size + own, int(x.size)]


def _spectrum(one: TestSlice, noise: Noise) -> dict[str, list[float]]:
    """Radial power of the noise, of what the method adds to it, and of both together; none without flat patches."""
    places = soft_tissue_places(one.scene_hu)
    if not places:
        return {}
    before, added, made = (
        without_surface(np.stack([image[place] for place in places]))
        for image in (noise.before, noise.passed, noise.made)
    )
    powers = [
        radial(noise_power_spectrum(patches, one.spacing_mm), one.spacing_mm)
        for patches in (before, added, before + added, made)
    ]
    x, c, both, own = (power.power_hu2_mm2 for power in powers)
    return {
        "frequency": powers[0].frequency_per_mm.tolist(),
        "xx": x.tolist(),
        "xc": ((both - x - c) / 2).tolist(),
        "cc": (c + own).tolist(),
    }


def _lesions(denoiser: SliceDenoiser, one: TestSlice, noisy: Image, change: Image) -> list[list[float]]:
    """Of each lesion its radius and contrast, and the share of its contrast that the method's change adds (below 0)."""
    if not one.lesions:
        return []
    shown = drawn(one.scene_hu.shape, one.lesions)
    found = []
    for contrast_hu in CONTRASTS_HU:
        added = denoiser.change_hu(noisy + np.float32(contrast_hu) * shown) - change
        found += [[lesion.radius_px, contrast_hu, response(added, lesion) / contrast_hu] for lesion in one.lesions]
    return found


def _sharpness(denoiser: SliceDenoiser, one: TestSlice, noisy: Image, change: Image) -> list[float | None]:
    """Where the transfer of rods of 150 HU falls to a half at each strength, cycles per pixel; empty without rods."""
    if not one.rods:
        return []
    rods = [Inserted(row=rod.row, column=rod.column, radius_px=rod.radius_px) for rod in one.rods]
    shown = np.float32(ROD_HU) * drawn(one.scene_hu.shape, rods, edge_px=ROD_BLUR_PX)
    added = denoiser.change_hu(noisy + shown) - change
    windows = [rod.window(ROD_REACH_PX) for rod in rods]
    before, after = (np.mean([image[window] for window in windows], axis=0) for image in (shown, added))
    return [_f50(before + strength * after, rods[0].radius_px) for strength in STRENGTHS]


def _f50(rod_hu: NDArray[np.float64], radius_px: float) -> float | None:
    try:
        transfer = task_transfer(
            rod_hu,
            centre=(ROD_REACH_PX, ROD_REACH_PX),
            radius_mm=radius_px,
            pixel_spacing_mm=(1.0, 1.0),
            fit_centre=False,
            lowest_cnr=0.0,
        )
    except ImageRefusal:
        return None
    return transfer.f50_per_mm if np.isfinite(transfer.f50_per_mm) else None


def _error(one: TestSlice, change: Image) -> Moments:
    """Of what the noisy slice differs from the truth, inside the skin, as the protocols of truth have it."""
    body = body_of_slice(one.scene_hu)
    return _moments(one.noise_hu[body], change[body])
