"""Tables of the page beside its plots: behaviour from slice to slice, and the rods one by one."""

from __future__ import annotations

import math

from iscl_monai.evaluation.qa.by_dose import module_name, percent
from iscl_monai.evaluation.qa.figures import InsertFigures
from iscl_monai.evaluation.qa.result import QaResult
from iscl_monai.report.numbers import NOT_GIVEN, significant, with_minus_signs
from iscl_monai.report.section import Section, Table

BETWEEN_SCANS = {
    "strength_spread": "spread of the share of noise left between scans",
    "brightness_spread_hu": "spread of brightness added between scans, HU",
}
BETWEEN_SLICES = {
    "residual_correlation": "correlation of what was changed, neighbouring slices",
    "flicker": "flicker: change from slice to slice, output over input",
}
ROD_HEADS = (
    "Rod",
    "as the scanner shows it without noise, HU",
    "input minus that, HU",
    "output minus that, HU",
    "f50 without noise, 1/mm",
    "f50 input, 1/mm",
    "f50 output, 1/mm",
    "f10 without noise, 1/mm",
    "f10 output, 1/mm",
)


def slices_section(result: QaResult) -> Section:
    """What changes from slice to slice, and edges in what was removed."""
    doses = result.doses
    lines = [
        [f"{module_name(name)}: {title}", *(significant(getattr(one.across[name], quantity)) for one in doses)]
        for name in doses[0].across
        for quantity, title in BETWEEN_SLICES.items()
    ]
    lines += [
        [
            f"{module_name(first.module)}: {title}",
            *(significant(getattr(one.steadiness[place], quantity)) for one in doses),
        ]
        for place, first in enumerate(doses[0].steadiness)
        for quantity, title in BETWEEN_SCANS.items()
    ]
    lines += [
        [
            f"{module_name(name)}: edges in what was removed (0 none, 1 all)",
            *(significant(one.residual_edges[name]) for one in doses),
        ]
        for name in doses[0].residual_edges
    ]
    return Section(
        title="From slice to slice, and what was removed",
        table=Table(heads=["Quantity", *(percent(one.dose) for one in doses)], lines=lines),
        note="Neighbours hold independent noise: what a denoiser does alike in them correlates, in anatomy edges, too. "
        "A dash: nothing was changed.",
    )


def tissues_section(result: QaResult) -> Section:
    """Mean and noise of each tissue at the lowest dose."""
    lowest = result.doses[-1]
    lines = []
    for one in lowest.tissues:
        noise = [NOT_GIVEN] * 3
        if one.noise is not None:
            numbers = (one.noise.before_hu, one.noise.after_hu, one.noise.reduction_percent)
            noise = [significant(number) for number in numbers]
        grain = 100 * (one.grain_after / one.grain_before - 1) if one.noise is not None else math.nan
        lines.append(
            [
                f"{module_name(one.module)}: {one.tissue}",
                f"{one.pixels}",
                significant(one.shift_hu + 0.0),  # no minus before nothing
                *noise,
                significant(grain),
            ]
        )
    heads = (
        "Tissue",
        "pixels",
        "shift of the mean, HU",
        "noise of the input, HU",
        "noise of the output, HU",
        "noise removed, %",
        "grain, output against input, %",
    )
    return Section(
        title=f"Tissues in anatomy at {percent(lowest.dose)} of the dose",
        table=Table(heads=heads, lines=lines),
        note="The middle of each tissue, 3 mm from its borders and 6 mm from signals. The shift is what is left of it "
        "after 3 standard errors. Grain: difference of neighbouring pixels' noise over its standard deviation. A dash: "
        "too few pixels.",
    )


def calcifications_section(result: QaResult) -> Section:
    """What is left of each calcification, by dose."""
    lines = [
        [
            f"{module_name(first.module)}: {first.diameter_mm:g} mm",
            *(
                f"{significant(one.recovered)} ({significant(one.signal_to_noise, 2)})"
                for one in (dose.calcifications[place] for dose in result.doses)
            ),
        ]
        for place, first in enumerate(result.doses[0].calcifications)
    ]
    return Section(
        title="Calcifications: contrast left",
        table=Table(heads=["Calcification", *(percent(one.dose) for one in result.doses)], lines=lines),
        note="In brackets the signal to noise of the scan itself: those of 5 and more are seen, and must stay.",
    )


def rods_section(result: QaResult) -> Section:
    """Bias against the truth at the lowest dose, rod by rod."""
    lowest = result.doses[-1]
    rods = sorted(lowest.accuracy.inserts, key=lambda rod: rod.true_hu)
    return Section(
        title=f"Rods at {percent(lowest.dose)} of the dose",
        table=Table(heads=ROD_HEADS, lines=[_rod_line(rod) for rod in rods]),
        note="A dash: the edge does not stand out of the noise (CNR below 15), or f10 lies beyond what pixels can "
        "show.",
    )


def _rod_line(rod: InsertFigures) -> list[str]:
    return [
        with_minus_signs(rod.name),
        significant(rod.shown_hu, 4),
        significant(rod.before_hu - rod.shown_hu, 2),
        significant(rod.after_hu - rod.shown_hu, 2),
        significant(rod.f50_per_mm),
        significant(rod.f50_before_per_mm),
        significant(rod.f50_after_per_mm),
        significant(rod.f10_per_mm),
        significant(rod.f10_after_per_mm),
    ]
