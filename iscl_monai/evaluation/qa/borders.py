"""How steep borders in anatomy are: in the plane, and from slice to slice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.figures import BorderFigures
from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.evaluation.qa.regions import borders
from iscl_monai.quality.linearity import distance_mm_from

FEWEST_PIXELS = 60
CHANCE = 3.0
UNCERTAIN = 0.1
"""A steepness that chance moves by more (3 standard errors) says nothing."""

CORE = 0.6
"""Part of a rod's radius that is looked at."""

Volume = npt.NDArray[np.float32]


def border_figures(phantom: Phantom, name: str, after_hu: Volume) -> Iterator[BorderFigures]:
    """What is left of the steepness of borders: ``sum(g_out g) / sum(g g)``, g the truth's gradient at the border.

    1: as steep as the scanner shows it without noise; less: blurred, or taken away; more: sharpened. It is linear in
    the output, so noise leaves it where it is. Nearer to 1 by 3 standard errors over realisations; NaN with fewer
    than 60 pixels, or where 3 standard errors are above 0.1.

    Args:
        phantom: what was scanned.
        name: of a module of anatomy.
        after_hu: output, HU (realisation, row, column).
    """
    truth = phantom.modules[name].truth_hu.astype(np.float64)
    known = np.gradient(truth)
    found = np.gradient(after_hu.astype(np.float64), axis=(1, 2))
    for kind, where in borders(phantom, name).items():
        if where.sum() < FEWEST_PIXELS:
            continue
        square = float((known[0][where] ** 2).sum() + (known[1][where] ** 2).sum())
        each = (found[0][:, where] @ known[0][where] + found[1][:, where] @ known[1][where]) / square
        yield BorderFigures(module=name, border=kind, pixels=int(where.sum()), steepness=_sure(each))


def step_left(phantom: Phantom, after_hu: Volume) -> float:
    """What is left of steps from slice to slice: the same as for borders, along z, in rods that begin or end.

    Args:
        phantom: with its stack.
        after_hu: output of the stack, HU (slice, row, column).

    Returns:
        1: as before; a third where three neighbours are averaged. NaN without rods.
    """
    truth = phantom.stack.truth_hu.astype(np.float64)
    known, found = np.diff(truth, axis=0), np.diff(after_hu.astype(np.float64), axis=0)
    product = square = 0.0
    for rod in phantom.stack.facts["rods"]:
        row, column = rod["centre_row_column"]
        away_mm = distance_mm_from((row, column), truth.shape[1:], phantom.pixel_spacing_mm)
        core, end = away_mm <= CORE * rod["radius_mm"], rod["step"] - 1
        product += float(found[end, core].mean() * known[end, core].mean())
        square += float(known[end, core].mean() ** 2)
    return product / square if square else math.nan


def _sure(each: npt.NDArray[np.float64]) -> float:
    """Mean over realisations, nearer to 1 by 3 standard errors; NaN if these are too large."""
    chance = CHANCE * float(each.std(ddof=1)) / math.sqrt(len(each))
    apart = float(each.mean()) - 1
    return 1 + math.copysign(max(0.0, abs(apart) - chance), apart) if chance <= UNCERTAIN else math.nan
