"""Curves in a report: lines over an axis as inline SVG, drawn here so that a page needs no script and no network.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; dashes and marks tell curves apart in print.
Text and axes take the page's own colour, so dark pages work.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import Refusal
from iscl_monai.report.ticks import labels, limits, ticks

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00", "#7f7f7f")
LETTER_PX, LINE_PX, TICK_PX = 6.6, 17, 5
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 64, 14, 12, 44
TITLE_PX = 22


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One line.

    Args:
        name: for the legend; empty: not in it.
        x: where, any finite numbers.
        y: how much, as many; NaN leaves a gap.
        low: lower end of an interval at each point; drawn as a whisker.
        high: upper end of it.
        dashed: for what the others are compared with.
        marks: a dot at each point, for few points.
        colour: index into :data:`COLOURS`, so that curves of one thing share a colour; None: the next one.
    """

    name: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None
    dashed: bool = False
    marks: bool = False
    colour: int | None = None

    def points(self) -> npt.NDArray[np.float64]:
        """Columns x, y, low, high; shape (point, 4); low and high are y where no interval was given."""
        ends = [self.y if end is None else end for end in (self.low, self.high)]
        columns = [np.atleast_1d(np.asarray(values, np.float64)) for values in (self.x, self.y, *ends)]
        if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
            raise Refusal(
                f"a curve {self.name!r} with values of shapes {[column.shape for column in columns]}",
                allowed="as many x as y (and ends of intervals), one axis each",
                cure="give one y for each x",
            )
        return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis.

    Args:
        label: what it shows, with its unit in words, e.g. ``"spatial frequency, 1/mm"``.
        log: logarithmic; values of 0 and less are left out.
        low: where it begins; None: with the data.
        high: where it ends; None: with the data.
        at: where to write numbers; None: at round ones.
    """

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    at: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A level across the plot, such as a limit.

    Args:
        value: on the y axis; it widens the axis where needed.
        name: written at the line.
    """

    value: float
    name: str


@dataclass(frozen=True)
class _Scale:
    """From values of an axis to pixels of the drawing."""

    ends: tuple[float, float]
    pixels: tuple[float, float]
    log: bool

    def at(self, value: float) -> float:
        """NaN for what a logarithmic axis cannot show."""
        low, high, here = (self._measure(each) for each in (*self.ends, value))
        return self.pixels[0] + (here - low) / (high - low) * (self.pixels[1] - self.pixels[0])

    def _measure(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value) if value > 0 else math.nan


def plot_svg(
    curves: Sequence[Curve],
    *,
    x: Axis,
    y: Axis,
    title: str = "",
    lines: Sequence[Line] = (),
    width: int = 560,
    height: int = 320,
) -> str:
    """A plot as an ``<svg>`` element that shrinks with the page; the legend stands below the x axis.

    Args:
        curves: at least one with a finite point; others are listed as "not measured".
        x: the axis to the right.
        y: the axis upwards.
        title: above the plot, and what screen readers say.
        lines: levels of y.
        width: of the drawing, pixels.
        height: of it without the legend, pixels.

    Returns:
        HTML. Without a single point to draw: a paragraph that says so.

    Raises:
        Refusal: a curve whose x and y do not fit.
    """
    shown = [(curve, _drawable(curve.points(), x, y)) for curve in curves]
    points = np.concatenate([rows for _, rows in shown]) if shown else np.empty((0, 4))
    if not len(points) or not np.isfinite(points[:, 1]).any():
        return f'<p class="empty">{escape(title or y.label)}: nothing to draw, not measured.</p>'
    top = TOP_PX + (TITLE_PX if title else 0)
    across = _Scale(limits(points[:, 0], x.log, x.low, x.high), (LEFT_PX, width - RIGHT_PX), x.log)
    heights = np.concatenate([points[:, 1:].ravel(), [line.value for line in lines]])
    upwards = _Scale(limits(heights, y.log, y.low, y.high), (height - BOTTOM_PX, top), y.log)
    colours = _colours(curves)
    parts = [
        f'<text x="{LEFT_PX}" y="{TOP_PX + 6}" font-weight="600">{escape(title)}</text>' if title else "",
        *_grid(x, y, across, upwards),
        *(_level(line, across, upwards) for line in lines),
        _inside(across, upwards),
        *(_drawn(curve, rows, across, upwards, colour) for (curve, rows), colour in zip(shown, colours, strict=True)),
        "</svg>",
    ]
    legend, legend_px = _legend([(curve, rows) for curve, rows in shown], colours, width, height)
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height + legend_px}" width="{width}" font-size="12" '
        f'style="max-width:100%;height:auto" fill="currentColor" role="img" '
        f'aria-label="{escape(title or f"{y.label} over {x.label}")}">{"".join(parts)}{legend}</svg>'
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


def _inside(across: _Scale, upwards: _Scale) -> str:
    """Begin a drawing inside the drawing: it cuts off what leaves the axes, and needs no id that another plot has."""
    (left, right), (bottom, top) = across.pixels, upwards.pixels
    x, y, wide, high = left - 4, top - 4, right - left + 8, bottom - top + 8
    return f'<svg x="{x}" y="{y}" width="{wide}" height="{high}" viewBox="{x} {y} {wide} {high}">'


def _grid(x: Axis, y: Axis, across: _Scale, upwards: _Scale) -> Iterator[str]:
    (left, right), (bottom, top) = across.pixels, upwards.pixels
    faint = 'stroke="currentColor" stroke-opacity="0.15"'
    at_x = ticks(across.ends, x.log, most=7) if x.at is None else list(x.at)
    at_y = ticks(upwards.ends, y.log, most=6) if y.at is None else list(y.at)
    for value, label in zip(at_x, labels(at_x), strict=True):
        place = f"{across.at(value):.1f}"
        yield f'<line x1="{place}" y1="{top}" x2="{place}" y2="{bottom + TICK_PX}" {faint}/>'
        yield f'<text x="{place}" y="{bottom + TICK_PX + 12}" text-anchor="middle">{label}</text>'
    for value, label in zip(at_y, labels(at_y), strict=True):
        place = f"{upwards.at(value):.1f}"
        yield f'<line x1="{left - TICK_PX}" y1="{place}" x2="{right}" y2="{place}" {faint}/>'
        yield f'<text x="{left - TICK_PX - 3}" y="{place}" dy="0.35em" text-anchor="end">{label}</text>'
    yield f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor"/>'
    middle = (top + bottom) / 2
    yield f'<text x="{(left + right) / 2}" y="{bottom + 36}" text-anchor="middle">{escape(x.label)}</text>'
    yield f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'


def _level(line: Line, across: _Scale, upwards: _Scale) -> str:
    (left, right), place = across.pixels, upwards.at(line.value)
    if not math.isfinite(place):
        return ""
    # Above the line, or below it where the plot ends.
    text = place - 4 if place - 16 > min(upwards.pixels) else place + 13
    return (
        f'<line x1="{left}" y1="{place:.1f}" x2="{right}" y2="{place:.1f}" stroke="currentColor" '
        f'stroke-dasharray="2 3" stroke-opacity="0.7"/><text x="{right - 2}" y="{text:.1f}" text-anchor="end" '
        f'fill-opacity="0.75" font-size="11">{escape(line.name)}</text>'
    )


def _drawn(curve: Curve, rows: npt.NDArray[np.float64], across: _Scale, upwards: _Scale, colour: str) -> str:
    """The line in pieces between gaps, its whiskers and marks."""
    pixels = [(across.at(at), *(upwards.at(value) for value in values)) for at, *values in rows.tolist()]
    dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
    pieces: list[list[str]] = [[]]
    for at, middle, *_ in pixels:
        if math.isnan(middle):
            pieces.append([])
        else:
            pieces[-1].append(f"{at:.1f},{middle:.1f}")
    drawn = [
        f'<polyline points="{" ".join(piece)}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        for piece in pieces
        if len(piece) > 1
    ]
    whiskers = curve.low is not None or curve.high is not None
    for at, middle, low, high in pixels:
        if whiskers and math.isfinite(low) and math.isfinite(high):
            drawn.append(f'<path d="M{at:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-opacity="0.6"/>')
        if math.isfinite(middle) and (curve.marks or len(pixels) == 1):
            hollow = f'fill="none" stroke="{colour}" stroke-width="1.5"' if curve.dashed else f'fill="{colour}"'
            drawn.append(f'<circle cx="{at:.1f}" cy="{middle:.1f}" r="3.5" {hollow}/>')
    return "".join(drawn)


def _legend(
    shown: Sequence[tuple[Curve, npt.NDArray[np.float64]]], colours: Sequence[str], width: int, height: int
) -> tuple[str, int]:
    """Names in rows as wide as the plot, and how high they are."""
    drawn, at, row = [], float(LEFT_PX), 0
    for (curve, rows), colour in zip(shown, colours, strict=True):
        if not curve.name:
            continue
        measured = bool(np.isfinite(rows[:, 1]).any())
        name = curve.name if measured else f"{curve.name} (not measured)"
        wide = 34 + LETTER_PX * len(name)
        if at > LEFT_PX and at + wide > width - RIGHT_PX:
            at, row = float(LEFT_PX), row + 1
        middle = height + LINE_PX * row + 8
        dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
        drawn.append(
            f'<line x1="{at:.0f}" y1="{middle}" x2="{at + 20:.0f}" y2="{middle}" stroke="{colour}" stroke-width="2"'
            f'{dash}/><text x="{at + 25:.0f}" y="{middle}" dy="0.35em">{escape(name)}</text>'
        )
        at += wide
    return "".join(drawn), LINE_PX * (row + 1) + 4 if drawn else 0
