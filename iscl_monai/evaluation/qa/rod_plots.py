"""Curves of the rods: sharpness and Hounsfield units, by contrast."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from iscl_monai.evaluation.qa.by_dose import limit_levels, percent
from iscl_monai.evaluation.qa.figures import InsertFigures
from iscl_monai.evaluation.qa.result import QaResult
from iscl_monai.report.curves import Axis, Curve, Level
from iscl_monai.report.plot import Plot, plot

SHOWN_HU = (100.0, 1000.0)
"""Rods whose whole transfer is drawn: one soft, one hard."""


def rod_plots(result: QaResult) -> Iterator[Plot]:
    """Transfer of two rods, f50 of all, and their shift."""
    for hu in SHOWN_HU:
        yield _transfer(result, hu)
    sharp = Axis(label="f50 of the output, over without noise", low=0)
    levels = limit_levels(result.limits["f50_ratio_min"])
    yield _by_rod(result, lambda rod: rod.f50_ratio, sharp, "Sharpness of edges", levels)
    soft = result.limits["bias_soft_hu_max"]
    levels = [] if soft is None else limit_levels(soft, -soft, name="limit within ±200 HU")
    shift = Axis(label="output minus input, HU")
    yield _by_rod(result, lambda rod: rod.shift_hu, shift, "Shift of Hounsfield units", levels)


def _transfer(result: QaResult, hu: float) -> Plot:
    rods = [next(rod for rod in one.accuracy.inserts if rod.true_hu == hu) for one in result.doses]
    curves = [
        Curve(name=percent(one.dose), x=rod.frequency_per_mm, y=rod.transfer_after)
        for one, rod in zip(result.doses, rods, strict=True)
    ]
    without = Curve(name="without noise", x=rods[0].frequency_per_mm, y=rods[0].transfer, dashed=True, colour=7)
    return plot(
        [without, *curves],
        x=Axis(label="spatial frequency, 1/mm", low=0),
        y=Axis(label="task transfer function", low=0),
        title=f"Edge of the rod of {hu:+g} HU",
        levels=limit_levels(0.5, name="0.5"),
    )


def _by_rod(
    result: QaResult, value: Callable[[InsertFigures], float], axis: Axis, title: str, levels: list[Level]
) -> Plot:
    curves = []
    for one in result.doses:
        rods = sorted(one.accuracy.inserts, key=lambda rod: rod.true_hu)
        curves.append(
            Curve(name=percent(one.dose), x=[rod.true_hu for rod in rods], y=[value(rod) for rod in rods], marks=True)
        )
    across = Axis(label="HU of the rod (in water)", at=[-1000, -500, 0, 500, 1000])
    return plot(curves, x=across, y=axis, title=title, levels=levels)
