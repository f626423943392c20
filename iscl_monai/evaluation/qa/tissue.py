"""What a denoiser does to anatomy that rods in water need not show: to the mean, noise and place of tissues."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.figures import NoiseFigures, TissueFigures
from iscl_monai.evaluation.qa.noise import noise_figures, noise_only
from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.evaluation.qa.regions import body_of, tissues

CHANCE = 3.0
UNCERTAIN_HU = 2.0
"""A mean that chance moves by more (3 standard errors) says nothing."""

FEWEST_PIXELS = 40
FEWEST_FOR_NOISE = 200
MARGIN_MM = 5.0
"""Around the body: its edge tells most about where it lies."""

Slice = npt.NDArray[np.float32]
Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def tissue_figures(phantom: Phantom, name: str, before_hu: Volume, after_hu: Volume) -> Iterator[TissueFigures]:
    """What denoising does to the mean and to the noise of each tissue, away from its borders and from signals.

    The shift is less 3 standard errors (over realisations), for what was removed has a mean by chance. Not known (NaN)
    with fewer than 40 pixels, or where 3 standard errors are above 2 HU.

    Args:
        phantom: what was scanned.
        name: of a module of anatomy.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.

    Yields:
        One for each tissue that the module holds.
    """
    change = (after_hu - before_hu).astype(np.float64)
    noises = [noise_only(scans_hu) for scans_hu in (before_hu, after_hu)]
    for tissue, here in tissues(phantom, name).items():
        pixels = int(here.sum())
        if not pixels:
            continue
        enough = pixels >= FEWEST_FOR_NOISE
        grains = [_grain(noise, here) if enough else math.nan for noise in noises]
        yield TissueFigures(
            module=name,
            tissue=tissue,
            pixels=pixels,
            shift_hu=_sure(change[:, here].mean(axis=1)) if pixels >= FEWEST_PIXELS else math.nan,
            noise=_noise(name, tissue, before_hu, after_hu, here) if enough else None,
            grain_before=grains[0],
            grain_after=grains[1],
        )


def _noise(name: str, tissue: str, before_hu: Volume, after_hu: Volume, here: Mask) -> NoiseFigures:
    return noise_figures(f"{tissue} in {name}", before_hu, after_hu, here)


def _grain(noise: npt.NDArray[np.float64], here: Mask) -> float:
    """Root mean square difference of neighbours over the standard deviation; NaN without noise."""
    pairs = ((here[:, 1:] & here[:, :-1], np.diff(noise, axis=2)), (here[1:] & here[:-1], np.diff(noise, axis=1)))
    differences = np.concatenate([steps[:, both].ravel() for both, steps in pairs])
    sigma = float(noise[:, here].std())
    return float(np.sqrt(np.mean(differences**2))) / sigma if sigma > 0 else math.nan


def _sure(each_hu: npt.NDArray[np.float64]) -> float:
    """Mean over realisations, nearer to 0 by 3 standard errors; NaN if these are too large."""
    chance = CHANCE * float(each_hu.std(ddof=1)) / math.sqrt(len(each_hu))
    mean = float(each_hu.mean())
    return math.copysign(max(0.0, abs(mean) - chance), mean) if chance <= UNCERTAIN_HU else math.nan


def displacement_mm(phantom: Phantom, name: str, after_hu: Volume) -> float:
    """By how much a quarter of an object is moved, the quarter that is moved most.

    Least squares of the mean of all outputs minus truth against the truth's gradients, as B. D. Lucas and T. Kanade,
    "An iterative image registration technique", IJCAI 1981; a blur or a sharper edge is even to both sides, and moves
    nothing. Quarters, for a turn or a stretch moves the whole by nothing. Right for small shifts, and too small for
    those of more than a pixel.

    Args:
        phantom: what was scanned.
        name: of the module.
        after_hu: output, HU (realisation, row, column).

    Returns:
        mm.
    """
    truth = phantom.modules[name].truth_hu.astype(np.float64)
    error = after_hu.mean(axis=0, dtype=np.float64) - truth
    slopes = [np.gradient(truth, phantom.spacing_mm, axis=axis) for axis in (0, 1)]
    body = body_of(phantom, name)
    near = ndimage.distance_transform_edt(~body, sampling=phantom.spacing_mm) <= MARGIN_MM
    rows, columns = np.nonzero(near)
    lower, right = rows > np.median(rows), columns > np.median(columns)
    moved = []
    for here in (lower & right, lower & ~right, ~lower & right, ~lower & ~right):
        place = rows[here], columns[here]
        known = np.stack([*(-slope[place] for slope in slopes), np.ones(int(here.sum()))], axis=1)
        found = np.linalg.lstsq(known, error[place], rcond=None)[0]
        moved.append(math.hypot(found[0], found[1]))
    return max(moved)
