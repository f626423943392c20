"""The curves of a quality check's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from iscl_monai.evaluation.curves import Axis, Curve, Line, plot_svg
from iscl_monai.evaluation.qa.figures import TaskFigures
from iscl_monai.evaluation.qa.phantom import ANATOMY, FULL_DOSE, LOW_CONTRAST, WATER
from iscl_monai.evaluation.qa.result import DoseResult, QaResult, mean

FREQUENCY = Axis(label="spatial frequency, 1/mm", low=0)
SPECTRA = 3
"""Doses whose spectra share a plot: more cannot be told apart."""

Value = Callable[[DoseResult], float]


def percent(dose: float) -> str:
    """A share of the full dose, as it is written."""
    return f"{100 * dose:g} %"


def told(module: str) -> str:
    """A module's name, as it is written."""
    return module.replace("anatomy_", "").replace("_", " ")


def noise_plots(result: QaResult) -> Iterator[str]:
    """How strong, by dose; and spectra of input, output, and what was removed."""
    curves = []
    for colour, name in enumerate((WATER, *ANATOMY)):
        for after in (False, True):
            values = [_noise(one, name, after=after) for one in result.doses]
            label = f"{told(name)}, {'output' if after else 'input'}"
            curves.append(_by_dose(result, label, values, colour=colour, dashed=not after))
    yield plot_svg(curves, x=_doses(result), y=Axis(label="standard deviation, HU", log=True), title="Noise")
    shown = _some(result.doses)
    spectra = []
    for colour, one in enumerate(shown):
        for name, texture in (("input", one.texture_before), ("output", one.texture_after)):
            spectra.append(
                Curve(
                    name=f"{percent(one.dose)} {name}",
                    x=texture.frequency_per_mm,
                    y=texture.power_hu2_mm2,
                    colour=colour,
                    dashed=name == "input",
                )
            )
    power = Axis(label="noise power, HU² mm²", log=True)
    yield plot_svg(spectra, x=FREQUENCY, y=power, title="Noise power spectra in water")
    lowest = shown[-1]
    yield plot_svg(
        [
            Curve(
                name=name, x=texture.frequency_per_mm, y=texture.power_hu2_mm2 / max(texture.power_hu2_mm2.max(), 1e-9)
            )
            for name, texture in (
                ("input", lowest.texture_before),
                ("output", lowest.texture_after),
                ("removed (input minus output)", lowest.texture_removed),
            )
        ],
        x=FREQUENCY,
        y=Axis(label="noise power over its peak", low=0),
        title=f"Texture at {percent(lowest.dose)} of the dose",
    )
    limit, full_per_mm = (
        result.limits["noise_frequency_shift_percent_max"],
        result.at(FULL_DOSE).texture_before.mean_per_mm,
    )
    levels = (
        []
        if limit is None
        else [
            Line(value=full_per_mm * (1 + sign * limit / 100), name=name)
            for sign, name in ((-1, "limit"), (1, "limit"))
        ]
    )
    yield plot_svg(
        [
            _by_dose(
                result, "mean, input", [one.texture_before.mean_per_mm for one in result.doses], colour=0, dashed=True
            ),
            _by_dose(result, "mean, output", [one.texture_after.mean_per_mm for one in result.doses], colour=0),
            _by_dose(result, "peak, output", [one.texture_after.peak_per_mm for one in result.doses], colour=1),
        ],
        x=_doses(result),
        y=Axis(label="frequency, 1/mm", low=0),
        title="Frequency of the noise",
        lines=levels,
    )


def accuracy_plots(result: QaResult) -> Iterator[str]:
    """Sharpness and shift, by the contrast of the rod."""
    order = sorted(result.doses[0].accuracy.inserts, key=lambda rod: rod.true_hu)
    places = [result.doses[0].accuracy.inserts.index(rod) for rod in order]
    hu = [rod.true_hu for rod in order]
    rods = [[one.accuracy.inserts[place] for place in places] for one in result.doses]
    across = Axis(label="HU of the rod (in water)", at=[-1000, -500, 0, 500, 1000])
    limit = result.limits["f50_ratio_min"]
    yield plot_svg(
        [
            Curve(name=percent(one.dose), x=hu, y=[rod.f50_ratio for rod in row], marks=True)
            for one, row in zip(result.doses, rods, strict=True)
        ],
        x=across,
        y=Axis(label="f50 of the output, over without noise", low=0),
        title="Sharpness of edges",
        lines=[] if limit is None else [Line(value=limit, name=f"limit {limit:g}")],
    )
    soft = result.limits["bias_soft_hu_max"]
    yield plot_svg(
        [
            Curve(name=percent(one.dose), x=hu, y=[rod.shift_hu for rod in row], marks=True)
            for one, row in zip(result.doses, rods, strict=True)
        ],
        x=across,
        y=Axis(label="output minus input, HU"),
        title="Shift of Hounsfield units",
        lines=[] if soft is None else [Line(value=sign * soft, name="limit within ±200 HU") for sign in (1, -1)],
    )


def task_plots(result: QaResult) -> Iterator[str]:
    """D' by dose, and by size and contrast at one dose."""
    for title, in_water in (("Detectability: discs in water", True), ("Detectability: lesions in anatomy", False)):
        chosen = [[task for task in one.tasks if (task.module == LOW_CONTRAST) == in_water] for one in result.doses]
        before, after = (
            [mean(getattr(task, name).d_prime for task in tasks) for tasks in chosen] for name in ("before", "after")
        )
        yield plot_svg(
            [
                _by_dose(result, "input", before, colour=0, dashed=True),
                _by_dose(result, "output", after, colour=0),
            ],
            x=_doses(result),
            y=Axis(label="d', mean over signals", low=0),
            title=title,
            lines=[Line(value=before[0], name="input at full dose")],
        )
    lowest = _some(result.doses)[-1]
    yield _by_size(lowest.tasks, result.at(FULL_DOSE).tasks, percent(lowest.dose))


def lesion_plots(result: QaResult) -> Iterator[str]:
    """Contrast that is left, by size and by contrast; and blobs by dose."""
    low, high = (result.limits[f"lesion_recovery_{end}"] for end in ("min", "max"))
    levels = [Line(value=value, name=f"limit {value:g}") for value in (low, high) if value is not None]
    diameters = sorted({lesion.diameter_mm for lesion in result.doses[0].lesions})
    yield plot_svg(
        [
            Curve(
                name=percent(one.dose),
                x=diameters,
                y=[
                    mean(lesion.recovered for lesion in one.lesions if lesion.diameter_mm == size) for size in diameters
                ],
                marks=True,
            )
            for one in result.doses
        ],
        x=Axis(label="diameter of the lesion, mm", at=diameters, low=diameters[0] - 0.5),
        y=Axis(label="contrast left, mean over contrasts", low=0),
        title="Small lesions, by size",
        lines=levels,
    )
    contrasts = sorted({lesion.contrast_hu for lesion in result.doses[0].lesions})
    yield plot_svg(
        [
            Curve(
                name=percent(one.dose),
                x=contrasts,
                y=[mean(lesion.recovered for lesion in one.lesions if lesion.contrast_hu == hu) for hu in contrasts],
                marks=True,
            )
            for one in result.doses
        ],
        x=Axis(label="contrast of the lesion, HU"),
        y=Axis(label="contrast left, mean over sizes", low=0),
        title="Small lesions, by contrast",
        lines=levels,
    )
    blobs = []
    for colour, place in enumerate(range(len(result.doses[0].invention))):
        found = [one.invention[place] for one in result.doses]
        module = told(found[0].module)
        blobs.append(_by_dose(result, f"{module}, input", [one.before for one in found], colour=colour, dashed=True))
        blobs.append(
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
    yield plot_svg(blobs, x=_doses(result), y=Axis(label="blobs in the slice", low=0), title="Painted or taken away")


def _by_size(tasks: Sequence[TaskFigures], full: Sequence[TaskFigures], dose: str) -> str:
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
    sizes = sorted({task.diameter_mm for task in full if task.module == LOW_CONTRAST})
    return plot_svg(
        curves,
        x=Axis(label="diameter, mm", at=sizes, low=sizes[0] - 0.5),
        y=Axis(label="d'"),
        title=f"Discs in water at {dose} of the dose",
    )


def _noise(one: DoseResult, module: str, *, after: bool) -> float:
    figures = next(noise for noise in one.noise if noise.module == module)
    return figures.after_hu if after else figures.before_hu


def _by_dose(result: QaResult, name: str, values: Sequence[float], *, colour: int, dashed: bool = False) -> Curve:
    doses = [100 * one.dose for one in result.doses]
    return Curve(name=name, x=doses, y=values, colour=colour, dashed=dashed, marks=True)


def _doses(result: QaResult) -> Axis:
    return Axis(label="dose, % of full", log=True, at=sorted(round(100 * one.dose, 6) for one in result.doses))


def _some(doses: Sequence[DoseResult]) -> list[DoseResult]:
    """The first, a middle one and the last."""
    if len(doses) <= SPECTRA:
        return list(doses)
    return [doses[0], doses[math.ceil(len(doses) / 2) - 1], doses[-1]]
