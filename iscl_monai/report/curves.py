"""What a plot shows: curves, axes, levels. :func:`iscl_monai.report.plot.plot` lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import Refusal


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
        colour: index into :data:`iscl_monai.report.plot.COLOURS`, so that curves of one thing share a colour; None: the
            next one.
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
class Level:
    """A level across the plot, such as a limit.

    Args:
        value: on the y axis; it widens the axis where needed.
        name: written at the line.
    """

    value: float
    name: str
