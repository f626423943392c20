"""Curves over the noise reduction, for every page that compares methods."""

from __future__ import annotations

from collections.abc import Sequence

from iscl_monai.evaluation.equal_noise.curves import (
    ERROR,
    F50,
    FAINT_HU,
    FREQUENCY,
    NOISE,
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


def plots_of(curves: Sequence[MethodCurves]) -> list[Plot]:
    """One plot for each quantity that was measured, one curve for each method.

    Args:
        curves: of methods on one group of patients; the one with no change has no curve.
    """
    moving = [one for one in curves if one.moves]
    return [
        plot(
            [_curve(one, name, factor, index) for index, one in enumerate(moving) if name in one.values],
            x=Axis(label="noise removed in soft tissue, %", low=0, high=100),
            y=Axis(label=label),
            title=title,
        )
        for name, title, label, factor in SHOWN
        if any(name in one.values for one in moving)
    ]


def _curve(one: MethodCurves, name: str, factor: float, index: int) -> Curve:
    """More methods than colours: from then on the lines are dashed."""
    return Curve(
        name=one.title,
        x=100 * one.values[NOISE],
        y=factor * one.values[name],
        colour=index % len(COLOURS),
        dashed=index >= len(COLOURS),
    )
