"""Where everything of a plot lies, in pixels of the drawing; ``templates/plot.html`` draws it.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; dashes and marks tell curves apart in print.
Text and axes take the page's own colour, so dark pages work. Why this is not a library: docs/decisions/0011-plots.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from iscl_monai.report.curves import Axis, Curve, Level
from iscl_monai.report.ticks import labels, limits, ticks

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00", "#7f7f7f")
LETTER_PX, LINE_PX = 6.6, 17
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 64, 14, 12, 44
TITLE_PX = 22

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A number along an axis, and where it stands."""

    place: float
    label: str


@dataclass(frozen=True)
class Frame:
    """The axes: what lies outside is cut off."""

    left: int
    right: int
    top: int
    bottom: int


@dataclass(frozen=True, kw_only=True)
class DrawnCurve:
    """One line.

    Args:
        colour: of all of it.
        dashed: or solid.
        pieces: of the line, between gaps.
        whiskers: x, and y of both ends.
        marks: a dot each.
    """

    colour: str
    dashed: bool
    pieces: Sequence[Sequence[Point]]
    whiskers: Sequence[tuple[float, float, float]]
    marks: Sequence[Point]


@dataclass(frozen=True)
class DrawnLevel:
    """A level across the plot, with the place of its name."""

    y: float
    text_y: float
    name: str


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """A name with a piece of its line."""

    x: float
    y: float
    name: str
    colour: str
    dashed: bool


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing.

    Args:
        title: above it; may be empty.
        label: what screen readers say.
        width: of the drawing.
        height: of it, with the legend.
        frame: the axes.
        x_label: what the axis to the right shows.
        y_label: what the axis upwards shows.
        x_ticks: numbers along it.
        y_ticks: likewise.
        levels: across.
        curves: none where nothing was measured: then there is nothing to draw.
        legend: below the x axis.
    """

    title: str
    label: str
    width: int
    height: int
    frame: Frame
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    levels: Sequence[DrawnLevel] = ()
    curves: Sequence[DrawnCurve] = ()
    legend: Sequence[LegendEntry] = ()


@dataclass(frozen=True)
class _Scale:
    """From values of an axis to pixels of the drawing."""

    ends: Point
    pixels: tuple[int, int]
    log: bool

    def at(self, value: float) -> float:
        """NaN for what a logarithmic axis cannot show."""
        low, high, here = (self._measure(each) for each in (*self.ends, value))
        return self.pixels[0] + (here - low) / (high - low) * (self.pixels[1] - self.pixels[0])

    def ticks(self, axis: Axis, most: int) -> list[Tick]:
        values = ticks(self.ends, self.log, most=most) if axis.at is None else list(axis.at)
        return [Tick(self.at(value), label) for value, label in zip(values, labels(values), strict=True)]

    def _measure(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value) if value > 0 else math.nan


def plot(
    curves: Sequence[Curve],
    *,
    x: Axis,
    y: Axis,
    title: str = "",
    levels: Sequence[Level] = (),
    width: int = 560,
    height: int = 320,
) -> Plot:
    """Lay out a plot; the legend stands below the x axis.

    Args:
        curves: at least one with a finite point; others are listed as "not measured".
        x: the axis to the right.
        y: the axis upwards.
        title: above the plot, and what screen readers say.
        levels: of y, such as limits.
        width: of the drawing, pixels.
        height: of it without the legend, pixels.

    Raises:
        Refusal: a curve whose x and y do not fit.
    """
    frame = Frame(LEFT_PX, width - RIGHT_PX, TOP_PX + (TITLE_PX if title else 0), height - BOTTOM_PX)
    empty = Plot(
        title=title,
        label=title or y.label,
        width=width,
        height=height,
        frame=frame,
        x_label=x.label,
        y_label=y.label,
    )
    shown = [_drawable(curve.points(), x, y) for curve in curves]
    points = np.concatenate(shown) if shown else np.empty((0, 4))
    if not np.isfinite(points[:, 1]).any():
        return empty
    across = _Scale(limits(points[:, 0], x.log, x.low, x.high), (frame.left, frame.right), x.log)
    heights = np.concatenate([points[:, 1:].ravel(), [level.value for level in levels]])
    upwards = _Scale(limits(heights, y.log, y.low, y.high), (frame.bottom, frame.top), y.log)
    colours = _colours(curves)
    legend, legend_px = _legend(curves, shown, colours, width, height)
    return replace(
        empty,
        label=title or f"{y.label} over {x.label}",
        height=height + legend_px,
        x_ticks=across.ticks(x, most=7),
        y_ticks=upwards.ticks(y, most=6),
        levels=[drawn for level in levels if (drawn := _level(level, upwards)) is not None],
        curves=[_drawn(*each, across, upwards) for each in zip(curves, shown, colours, strict=True)],
        legend=legend,
    )


def _drawable(points: npt.NDArray[np.float64], x: Axis, y: Axis) -> npt.NDArray[np.float64]:
    """Without points that have no place across; what has none upwards becomes a gap."""
    points = points[np.isfinite(points[:, 0]) & ((points[:, 0] > 0) | (not x.log))]
    values = points[:, 1:]
    values[~np.isfinite(values) | ((values <= 0) & y.log)] = np.nan
    return points


def _colours(curves: Sequence[Curve]) -> list[str]:
    following = itertools.count()
    chosen = [next(following) if curve.colour is None else curve.colour for curve in curves]
    return [COLOURS[index % len(COLOURS)] for index in chosen]


def _level(level: Level, upwards: _Scale) -> DrawnLevel | None:
    place = upwards.at(level.value)
    if not math.isfinite(place):
        return None
    # The name above the line, or below it where the plot ends.
    return DrawnLevel(place, place - 4 if place - 16 > min(upwards.pixels) else place + 13, level.name)


def _drawn(curve: Curve, rows: npt.NDArray[np.float64], colour: str, across: _Scale, upwards: _Scale) -> DrawnCurve:
    """The line in pieces between gaps, its whiskers and marks."""
    pixels = [(across.at(at), *(upwards.at(value) for value in values)) for at, *values in rows.tolist()]
    has_intervals = curve.low is not None or curve.high is not None
    has_marks = curve.marks or len(pixels) == 1
    pieces: list[list[Point]] = [[]]
    for at, middle, *_ in pixels:
        if math.isnan(middle):
            pieces.append([])
        else:
            pieces[-1].append((at, middle))
    return DrawnCurve(
        colour=colour,
        dashed=curve.dashed,
        pieces=[piece for piece in pieces if len(piece) > 1],
        whiskers=[
            (at, low, high)
            for at, _, low, high in pixels
            if has_intervals and math.isfinite(low) and math.isfinite(high)
        ],
        marks=[(at, middle) for at, middle, *_ in pixels if has_marks and math.isfinite(middle)],
    )


def _legend(
    curves: Sequence[Curve],
    shown: Sequence[npt.NDArray[np.float64]],
    colours: Sequence[str],
    width: int,
    height: int,
) -> tuple[list[LegendEntry], int]:
    """Names in rows as wide as the plot, and how high they are."""
    entries: list[LegendEntry] = []
    at, row = float(LEFT_PX), 0
    for curve, rows, colour in zip(curves, shown, colours, strict=True):
        if not curve.name:
            continue
        name = curve.name if np.isfinite(rows[:, 1]).any() else f"{curve.name} (not measured)"
        wide = 34 + LETTER_PX * len(name)
        if at > LEFT_PX and at + wide > width - RIGHT_PX:
            at, row = float(LEFT_PX), row + 1
        entries.append(LegendEntry(x=at, y=height + LINE_PX * row + 8, name=name, colour=colour, dashed=curve.dashed))
        at += wide
    return entries, LINE_PX * (row + 1) + 4 if entries else 0
