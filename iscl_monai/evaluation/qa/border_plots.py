"""Curves of borders in anatomy: how steep they are, by dose."""

from __future__ import annotations

import math
from collections.abc import Iterator

from iscl_monai.evaluation.qa.by_dose import by_dose, dose_axis, limit_levels
from iscl_monai.evaluation.qa.result import QaResult
from iscl_monai.evaluation.qa.verdicts import border_steepness
from iscl_monai.report.curves import Axis
from iscl_monai.report.plot import Plot, plot


def border_plots(result: QaResult) -> Iterator[Plot]:
    """Steepness of each kind of border, and steps from slice to slice."""
    each = [border_steepness(one.borders) for one in result.doses]
    curves = [
        by_dose(result, kind, [one.get(kind, math.nan) for one in each], colour=colour)
        for colour, kind in enumerate(dict.fromkeys(kind for one in each for kind in one))
    ]
    levels = limit_levels(*(result.limits[f"border_steepness_{end}"] for end in ("min", "max")))
    left = Axis(label="steepness of the output, over without noise")
    yield plot(curves, x=dose_axis(result), y=left, title="Borders in a slice", levels=levels)
    steps = by_dose(result, "rods that end", [one.step_left for one in result.doses], colour=0)
    left = Axis(label="step of the output, over without noise")
    levels = limit_levels(result.limits["step_left_min"])
    yield plot([steps], x=dose_axis(result), y=left, title="Steps from slice to slice", levels=levels)
