"""Curves over the noise reduction, for every page that compares methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iscl_monai.evaluation.equal_noise.curves import (
    ERROR,
    F50,
    FAINT_HU,
    FREQUENCY,
    MethodCurves,
    cnr_name,
    contrast_name,
    observer_name,
)
from iscl_monai.report.curves import Axis, Curve
from iscl_monai.report.plot import COLOURS, Plot, plot

AGAINST_NOISY = "noisy scan = 1"
SHOWN = (
    (cnr_name(FAINT_HU, 2.0), "CNR of lesions of 20 HU, 2 px", AGAINST_NOISY, 1.0),
    (cnr_name(FAINT_HU, 4.0), "CNR of lesions of 20 HU, 4 px", AGAINST_NOISY, 1.0),
    (observer_name(2.0), "d' of lesions of 2 px", AGAINST_NOISY, 1.0),
    (observer_name(4.0), "d' of lesions of 4 px", AGAINST_NOISY, 1.0),
    (contrast_name(FAINT_HU, 2.0), "Contrast left of lesions of 20 HU, 2 px", "share", 1.0),
    (F50, "f50 of rods", AGAINST_NOISY, 1.0),
    (FREQUENCY, "Mean frequency of the noise", "change in %", 100.0),
    (ERROR, "Error to the truth", "RMSE, HU", 1.0),
)
"""Quantity, title, label of the axis upwards, factor."""


REDUCTIONS_SHOWN = np.linspace(0, 1, 51)


def plots_of(curves: Sequence[MethodCurves]) -> list[Plot]:
    """One plot for each quantity that was measured, one curve for each method: means at equal noise in every patient.

    A curve ends where the method removes no more noise in some patient.

    Args:
        curves: of methods on one group of patients; the one with no change has no curve.
    """
    moving = [one for one in curves if one.moves]
    return [
        plot(
            [curve_of(one, name, factor=factor, index=index) for index, one in enumerate(moving) if name in one.names],
            x=Axis(label="noise removed in soft tissue, %", low=0, high=100),
            y=Axis(label=label),
            title=title,
        )
        for name, title, label, factor in SHOWN
        if any(name in one.names for one in moving)
    ]


def curve_of(one: MethodCurves, name: str, *, factor: float = 1.0, index: int = 0) -> Curve:
    """One method's curve of one quantity.

    Args:
        one: the method.
        name: of the quantity.
        factor: that its values are multiplied by.
        index: of the method; when colours are used up, lines are dashed.
    """
    reached = [reduction for reduction in REDUCTIONS_SHOWN if one.reaches(reduction)]
    return Curve(
        name=one.title,
        x=[100 * reduction for reduction in reached],
        y=[factor * one.at_noise(name, reduction).mean for reduction in reached],
        colour=index % len(COLOURS),
        dashed=index >= len(COLOURS),
    )
