"""Tables at equal noise: the methods that reach a noise reduction, the best to see lesions with first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from iscl_monai.evaluation.equal_noise.curves import (
    ERROR,
    F50,
    FAINT_HU,
    FREQUENCY,
    GAIN,
    NOISE,
    REMOVED,
    MethodCurves,
    cnr_name,
    contrast_name,
    observer_name,
)
from iscl_monai.evaluation.equal_noise.slices import RADII_PX
from iscl_monai.quality.cohort import Estimate
from iscl_monai.report.numbers import NOT_GIVEN, counted
from iscl_monai.report.section import Table

Write = Callable[[Estimate], str]

REDUCTIONS = (0.3, 0.5, 0.7)
NOT_REACHED = "not reached"
REFERENCES = "pairs with a noisy reference"

HOW_TO_READ = (
    "out = x + strength * change: the strengths at which a method removes so much of the noise in soft tissue in each "
    "patient; below 1 it is blended with its input. Means over patients, each at its own strength, \N{PLUS-MINUS SIGN} "
    "half of the 95 % t interval over patients (a dash: fewer than three). CNR: contrast left of lesions put into the "
    "slices, over the noise that a filter matched to them sees, 1 = as visible as in the noisy scan. d': of an "
    "observer on many realisations, over that in the noisy scan. Sorted by visibility, the mean of CNR (20 HU) and d' "
    "over all sizes; beside the first: less that of the first row, patient by patient. px: radius in pixels."
)


def tables_at(curves: Sequence[MethodCurves], group: str) -> list[Table]:
    """One table for each noise reduction, and one of what each method does on its own.

    Args:
        curves: of all methods on one group.
        group: its name; empty: pairs with a noisy reference.
    """
    moving = [one for one in curves if one.moves]
    at = [_table_at(moving, group, reduction) for reduction in REDUCTIONS if moving]
    return [*at, _table_alone(curves, group)]


def ranked(curves: Sequence[MethodCurves], reduction: float) -> list[MethodCurves]:
    """Best visibility first; those that do not reach the reduction in every patient last, in their order."""

    def key(one: MethodCurves) -> float:
        visibility = one.visibility(reduction).mean
        return math.inf if math.isnan(visibility) else -visibility

    return sorted(curves, key=key)


def _columns(curves: Sequence[MethodCurves]) -> list[tuple[str, str, Write]]:
    """Name of the quantity, head, and how its values are written; those that nobody has are left out."""
    found: list[tuple[str, str, Write]] = []
    for contrast, radius in ((FAINT_HU, 2.0), (FAINT_HU, 4.0), (FAINT_HU, 8.0), (50.0, 2.0)):
        found.append((cnr_name(contrast, radius), f"CNR {contrast:g} HU, {radius:g} px", _plain(2)))
    found += [(observer_name(radius), f"d' {radius:g} px", _plain(2)) for radius in RADII_PX]
    found += [
        (contrast_name(FAINT_HU, 2.0), "contrast left, 20 HU, 2 px", _plain(2)),
        (REMOVED, "lesions removed, %", _percent()),
        (F50, "f50 of rods", _plain(2)),
        (FREQUENCY, "mean frequency, %", _percent(signed=True)),
        (ERROR, "RMSE to the truth, HU", _plain(1)),
        (GAIN, "gain to the truth, dB", _plain(2, signed=True)),
    ]
    return [column for column in found if any(column[0] in one.names for one in curves)]


def _table_at(curves: Sequence[MethodCurves], group: str, reduction: float) -> Table:
    columns = _columns(curves)
    order = ranked(curves, reduction)
    lines = []
    for one in order:
        if not one.reaches(reduction):
            lines.append([one.title, _not_reached(one, reduction), *[NOT_GIVEN] * (len(columns) + 2)])
            continue
        beside = (
            _plain(2, signed=True)(one.visibility_beside(order[0], reduction)) if one is not order[0] else NOT_GIVEN
        )
        cells = [write(one.at_noise(name, reduction)) for name, _, write in columns]
        visibility = _plain(2)(one.visibility(reduction))
        lines.append([one.title, _range(one.strengths_for(reduction)), visibility, beside, *cells])
    return Table(
        title=f"At {100 * reduction:.0f} % less noise, {_where(curves, group)}",
        heads=["method", "strength", "visibility", "beside the first", *[head for _, head, _ in columns]],
        lines=lines,
    )


def _not_reached(one: MethodCurves, reduction: float) -> str:
    missing = sum(math.isnan(strength) for strength in one.strengths_for(reduction).values())
    return NOT_REACHED if missing == one.patients else f"{NOT_REACHED} in {missing} of {one.patients}"


def _range(strengths: Mapping[str, float]) -> str:
    low, high = (f"{end(strengths.values()):.2f}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def _table_alone(curves: Sequence[MethodCurves], group: str) -> Table:
    columns = _columns(curves)
    lines = [
        [one.title, _percent()(one.at(NOISE, 1.0)), *[write(one.at(name, 1.0)) for name, _, write in columns]]
        for one in curves
    ]
    return Table(
        title=f"Each method as it is, not at equal noise, {_where(curves, group)}",
        heads=["method", "less noise, %", *[head for _, head, _ in columns]],
        lines=lines,
    )


def _where(curves: Sequence[MethodCurves], group: str) -> str:
    some = curves[0]
    return f"{group or REFERENCES}: {counted(some.patients, 'patient')}, {counted(some.slices, 'slice')}"


def _plain(digits: int, *, signed: bool = False, factor: float = 1.0) -> Write:
    """Mean and half of its interval; a dash for an interval that too few patients have."""

    def written(one: Estimate) -> str:
        if math.isnan(one.mean):
            return NOT_GIVEN
        mean = f"{factor * one.mean:{'+' if signed else ''}.{digits}f}"
        reach = NOT_GIVEN if one.interval is None else f"{factor * (one.interval[1] - one.mean):.{digits}f}"
        return f"{mean} \N{PLUS-MINUS SIGN} {reach}"

    return written


def _percent(*, signed: bool = False) -> Write:
    return _plain(0, signed=signed, factor=100.0)
