"""Curves of signals: detectability, small lesions, and what was painted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from iscl_monai.evaluation.qa.by_dose import by_dose, dose_axis, limit_levels, module_name, percent
from iscl_monai.evaluation.qa.figures import LesionFigures, TaskFigures
from iscl_monai.evaluation.qa.phantom import LOW_CONTRAST
from iscl_monai.evaluation.qa.result import QaResult, mean
from iscl_monai.report.curves import Axis, Curve, Level
from iscl_monai.report.plot import Plot, plot


def task_plots(result: QaResult) -> Iterator[Plot]:
    """D' by dose, and by size and contrast at one dose."""
    for title, in_water in (("Detectability: discs in water", True), ("Detectability: lesions in anatomy", False)):
        chosen = [[task for task in one.tasks if (task.module == LOW_CONTRAST) == in_water] for one in result.doses]
        before, after = (
            [mean(getattr(task, name).d_prime for task in tasks) for tasks in chosen] for name in ("before", "after")
        )
        yield plot(
            [
                by_dose(result, "input", before, colour=0, dashed=True),
                by_dose(result, "output", after, colour=0),
            ],
            x=dose_axis(result),
            y=Axis(label="d', mean over signals", low=0),
            title=title,
            levels=[Level(value=before[0], name="input at full dose")],
        )
    lowest = result.doses[-1]
    yield _by_size(lowest.tasks, percent(lowest.dose))


def lesion_plots(result: QaResult) -> Iterator[Plot]:
    """Contrast that is left, by size and by contrast; and blobs by dose."""
    across = Axis(label="diameter of the lesion, mm")
    yield _left(result, lambda lesion: lesion.diameter_mm, across, "Small lesions, by size")
    across = Axis(label="contrast of the lesion, HU")
    yield _left(result, lambda lesion: lesion.contrast_hu, across, "Small lesions, by contrast")
    yield _blobs(result)
    yield _single_blobs(result)


def _left(result: QaResult, of: Callable[[LesionFigures], float], across: Axis, title: str) -> Plot:
    kinds = sorted({of(lesion) for lesion in result.doses[0].lesions})
    curves = [
        Curve(
            name=percent(one.dose),
            x=kinds,
            y=[mean(lesion.recovered for lesion in one.lesions if of(lesion) == kind) for kind in kinds],
            marks=True,
        )
        for one in result.doses
    ]
    levels = limit_levels(*(result.limits[f"lesion_recovery_{end}"] for end in ("min", "max")))
    return plot(curves, x=across, y=Axis(label="contrast left, mean", low=0), title=title, levels=levels)


def _blobs(result: QaResult) -> Plot:
    curves = []
    for colour in range(len(result.doses[0].invention)):
        found = [one.invention[colour] for one in result.doses]
        module = module_name(found[0].module)
        curves.append(by_dose(result, f"{module}, input", [one.before for one in found], colour=colour, dashed=True))
        curves.append(
            Curve(
                name=f"{module}, output",
                x=[100 * one.dose for one in result.doses],
                y=[one.after for one in found],
                low=[one.low for one in found],
                high=[one.high for one in found],
                colour=colour,
                marks=True,
            )
        )
    axis = Axis(label="blobs in the slice", low=0)
    return plot(curves, x=dose_axis(result), y=axis, title="Painted or taken away")


def _single_blobs(result: QaResult) -> Plot:
    curves = []
    for colour, first in enumerate(result.doses[0].invention):
        found, module = [one.invention[colour] for one in result.doses], module_name(first.module)
        before, after = ([getattr(one, f"single_{end}") for one in found] for end in ("before", "after"))
        curves.append(by_dose(result, f"{module}, input", before, colour=colour, dashed=True))
        curves.append(by_dose(result, f"{module}, output", after, colour=colour))
    axis = Axis(label="blobs in a scan, mean over scans", low=0)
    return plot(curves, x=dose_axis(result), y=axis, title="Painted or taken away in single scans")


def _by_size(tasks: Sequence[TaskFigures], dose: str) -> Plot:
    """D' over diameter, one colour for each contrast."""
    curves = []
    contrasts = sorted({task.contrast_hu for task in tasks if task.module == LOW_CONTRAST})
    for colour, hu in enumerate(contrasts):
        same = sorted(
            (task for task in tasks if task.module == LOW_CONTRAST and task.contrast_hu == hu),
            key=lambda task: task.diameter_mm,
        )
        for name in ("before", "after"):
            found = [getattr(task, name) for task in same]
            curves.append(
                Curve(
                    name=f"{hu:+g} HU, {'input' if name == 'before' else 'output'}",
                    x=[task.diameter_mm for task in same],
                    y=[one.d_prime for one in found],
                    low=[one.low for one in found] if name == "after" else None,
                    high=[one.high for one in found] if name == "after" else None,
                    colour=colour,
                    dashed=name == "before",
                    marks=True,
                )
            )
    sizes = sorted({task.diameter_mm for task in tasks if task.module == LOW_CONTRAST})
    return plot(
        curves,
        x=Axis(label="diameter, mm", at=sizes, low=sizes[0] - 0.5),
        y=Axis(label="d'"),
        title=f"Discs in water at {dose} of the dose",
    )
