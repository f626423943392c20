"""Tables of the page beside its plots: behaviour from slice to slice, and the rods one by one."""

from __future__ import annotations

from iscl_monai.evaluation.qa.by_dose import module_name, percent
from iscl_monai.evaluation.qa.figures import InsertFigures
from iscl_monai.evaluation.qa.result import QaResult
from iscl_monai.report.numbers import significant, with_minus_signs
from iscl_monai.report.section import Section, Table

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
    "f50 input",
    "f50 output",
    "f10 without noise, 1/mm",
    "f10 output",
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
            f"{module_name(name)}: edges in what was removed (0 none, 1 all)",
            *(significant(one.residual_edges[name]) for one in doses),
        ]
        for name in doses[0].residual_edges
    ]
    return Section(
        title="From slice to slice, and what was removed",
        table=Table(heads=["Quantity", *(percent(one.dose) for one in doses)], lines=lines),
        note="Neighbours hold independent noise: what a denoiser does alike in them correlates, in anatomy edges, too.",
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
