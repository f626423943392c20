"""Rods and water: Hounsfield units, linearity, uniformity, and the sharpness of edges of each contrast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.qa.figures import AccuracyFigures, InsertFigures
from iscl_monai.evaluation.qa.phantom import INSERTS, WATER, Module, Phantom
from iscl_monai.quality.linearity import disc_means, uniformity
from iscl_monai.quality.resolution import FREQUENCIES, TaskTransferFunction, task_transfer

CORE = 0.6
"""Part of a rod's radius that is measured: the blurred rim stays out."""

CURVE_STEP = 4
"""Every so many-th frequency of a transfer is kept."""

PERIPHERY, PERIPHERY_RADIUS_MM = 0.8, 12.0

Volume = npt.NDArray[np.float32]


def accuracy(phantom: Phantom, *, inserts: tuple[Volume, Volume], water: tuple[Volume, Volume]) -> AccuracyFigures:
    """Measure rods and water before and after.

    Args:
        phantom: what was scanned.
        inserts: input and output of the module, HU (realisation, row, column).
        water: likewise.
    """
    module = phantom.modules[INSERTS]
    figures = tuple(_insert(phantom, module, facts, *inserts) for facts in module.facts["inserts"])
    line = stats.linregress([one.before_hu for one in figures], [one.after_hu for one in figures])
    even = [_uniformity(phantom, scans_hu) for scans_hu in water]
    return AccuracyFigures(
        inserts=figures,
        slope=float(line.slope),
        offset_hu=float(line.intercept),
        uniformity_before_hu=even[0],
        uniformity_after_hu=even[1],
    )


def _insert(
    phantom: Phantom, module: Module, facts: Mapping[str, Any], before_hu: Volume, after_hu: Volume
) -> InsertFigures:
    row, column = facts["centre_row_column"]
    radius_mm, steps = facts["radius_mm"], phantom.pixel_spacing_mm
    shown, before, after = (
        float(disc_means(hu, centres=[(row, column)], radius_mm=CORE * radius_mm, pixel_spacing_mm=steps)[0])
        for hu in (module.truth_hu, before_hu, after_hu)
    )
    without, noisy, denoised = (_transfer(hu, facts, steps) for hu in (module.truth_hu, before_hu, after_hu))
    return InsertFigures(
        name=facts["name"],
        true_hu=float(facts["hu"]),
        shown_hu=shown,
        before_hu=before,
        after_hu=after,
        f50_per_mm=without.f50_per_mm,
        f50_before_per_mm=noisy.f50_per_mm,
        f50_after_per_mm=denoised.f50_per_mm,
        f10_per_mm=without.f10_per_mm,
        f10_after_per_mm=denoised.f10_per_mm,
        frequency_per_mm=without.frequency_per_mm[::CURVE_STEP],
        transfer=without.value[::CURVE_STEP],
        transfer_after=denoised.value[::CURVE_STEP],
    )


def _transfer(scans_hu: Volume, facts: Mapping[str, Any], steps: tuple[float, float]) -> TaskTransferFunction:
    """NaN all over where the edge does not stand out of the noise (edge CNR below 15)."""
    row, column = facts["centre_row_column"]
    try:
        return task_transfer(
            scans_hu,
            centre=(row, column),
            radius_mm=facts["radius_mm"],
            pixel_spacing_mm=steps,
            fit_centre=False,  # known exactly; noise would move it
        )
    except ImageRefusal:
        unknown = np.full(FREQUENCIES, np.nan)
        return TaskTransferFunction(
            frequency_per_mm=unknown,
            value=unknown,
            f50_per_mm=math.nan,
            f10_per_mm=math.nan,
            contrast_hu=math.nan,
            edge_cnr=math.nan,
            centre=(row, column),
        )


def _uniformity(phantom: Phantom, scans_hu: Volume) -> float:
    water = phantom.modules[WATER].facts["background"]
    row, column = water["centre_row_column"]
    return uniformity(
        scans_hu,
        centre=(row, column),
        distance_mm=PERIPHERY * water["radius_mm"],
        radius_mm=PERIPHERY_RADIUS_MM,
        pixel_spacing_mm=phantom.pixel_spacing_mm,
    ).worst_hu
