"""What a denoiser does to anatomy that rods in water need not show: its Hounsfield units, and where it lies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.figures import TissueFigures
from iscl_monai.evaluation.qa.invention import LESION_MM, inside_of
from iscl_monai.evaluation.qa.phantom import ANATOMY, Phantom
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.linearity import distance_mm_from

TISSUES_HU = {"lung": (-900.0, -500.0), "soft tissue": (-200.0, 200.0)}
HOLDS = dict(zip(ANATOMY, (("lung", "soft tissue"), ("soft tissue",)), strict=True))

EVEN_HU, EVEN_MM = 40.0, 8.0
"""Where the truth varies less than this within so many mm (side of a square): a mean needs less than a blob does."""

CHANCE = 3.0
TOLD_HU = 2.0
"""A mean that chance moves by more (3 standard errors) tells nothing."""

FEWEST_PIXELS = 100
MARGIN_MM = 5.0
"""Around the body: its edge tells most about where it lies."""

Slice = npt.NDArray[np.float32]
Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def tissue_figures(phantom: Phantom, name: str, before_hu: Volume, after_hu: Volume) -> Iterator[TissueFigures]:
    """What denoising does to the mean of each tissue in even parts of anatomy, away from edges and lesions.

    Less 3 standard errors (over realisations), for what was removed has a mean by chance. Not known (NaN) with fewer
    than 100 pixels, or where 3 standard errors are above 2 HU.

    Args:
        phantom: what was scanned.
        name: of the module.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.

    Yields:
        One for each tissue that the module holds.
    """
    truth = phantom.modules[name].truth_hu
    even = _even_parts(phantom, name)
    change = (after_hu - before_hu).astype(np.float64)
    for tissue in HOLDS[name]:
        lowest, highest = TISSUES_HU[tissue]
        here = even & (truth >= lowest) & (truth <= highest)
        shift_hu = _sure(change[:, here].mean(axis=1)) if here.sum() >= FEWEST_PIXELS else math.nan
        yield TissueFigures(module=name, tissue=tissue, pixels=int(here.sum()), shift_hu=shift_hu)


def _sure(each_hu: npt.NDArray[np.float64]) -> float:
    """Mean over realisations, nearer to 0 by 3 standard errors; NaN if these are too large to tell."""
    chance = CHANCE * float(each_hu.std(ddof=1)) / math.sqrt(len(each_hu))
    mean = float(each_hu.mean())
    return math.copysign(max(0.0, abs(mean) - chance), mean) if chance <= TOLD_HU else math.nan


def _even_parts(phantom: Phantom, name: str) -> Mask:
    module = phantom.modules[name]
    size_px = 2 * round(EVEN_MM / 2 / phantom.spacing_mm) + 1
    truth = module.truth_hu
    even = (ndimage.maximum_filter(truth, size_px) - ndimage.minimum_filter(truth, size_px) < EVEN_HU) & inside_of(
        phantom, name
    )
    for lesion in module.facts["lesions"]:
        row, column = lesion["centre_row_column"]
        away_mm = distance_mm_from((row, column), truth.shape, phantom.pixel_spacing_mm)
        even &= away_mm > lesion["diameter_mm"] / 2 + LESION_MM
    return np.asarray(even, np.bool_)


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
    body = body_mask(phantom.modules[name].truth_hu)[0]
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
