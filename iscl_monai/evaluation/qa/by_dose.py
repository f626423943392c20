"""What the plots of a page share: doses along an axis, their names, and limits as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iscl_monai.evaluation.qa.result import DoseResult, QaResult
from iscl_monai.report.curves import Axis, Curve, Level

MOST = 3
"""Doses whose spectra share a plot: more cannot be told apart."""


def percent(dose: float) -> str:
    """A share of the full dose, as it is written."""
    return f"{100 * dose:g} %"


def module_name(module: str) -> str:
    """A module's name, as it is written."""
    return module.replace("anatomy_", "").replace("_", " ")


def by_dose(result: QaResult, name: str, values: Sequence[float], *, colour: int, dashed: bool = False) -> Curve:
    """One value for each dose."""
    return Curve(
        name=name, x=[100 * one.dose for one in result.doses], y=values, colour=colour, dashed=dashed, marks=True
    )


def dose_axis(result: QaResult) -> Axis:
    """Percent of the full dose, each one measured written."""
    return Axis(label="dose, % of full", log=True, at=sorted(round(100 * one.dose, 6) for one in result.doses))


def some_doses(result: QaResult) -> list[DoseResult]:
    """The first, a middle one and the last."""
    doses = result.doses
    return list(doses) if len(doses) <= MOST else [doses[0], doses[math.ceil(len(doses) / 2) - 1], doses[-1]]


def limit_levels(*values: float | None, name: str = "") -> list[Level]:
    """A line across the plot for each limit that is set."""
    return [Level(value=value, name=name or f"limit {value:g}") for value in values if value is not None]
