"""Plots: everything inside, gaps kept, round numbers, nothing that needs a network."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscl_monai.errors import Refusal
from iscl_monai.report.curves import Axis, Curve, Level
from iscl_monai.report.pages import render
from iscl_monai.report.plot import plot
from iscl_monai.report.ticks import labels, limits, ticks

X, Y = Axis(label="dose, %"), Axis(label="noise, HU")


def svg(*curves: Curve, **options: object) -> str:
    return render("plot.html", plot=plot(curves, **{"x": X, "y": Y, **options}))  # type: ignore[arg-type]


def drawn(*curves: Curve, **options: object) -> ElementTree.Element:
    return ElementTree.fromstring(svg(*curves, **options))


def test_a_plot_is_well_formed_and_says_what_it_shows() -> None:
    found = drawn(
        Curve(name="input <a & b>", x=[1, 2, 3], y=[3.0, 2.0, 1.0]),
        Curve(name="output", x=[1, 2, 3], y=[1.0, 1.0, 1.0], dashed=True, low=[0, 0, 0], high=[2, 2, 2], marks=True),
        levels=[Level(value=5.0, name="limit 5")],
        title="Noise",
    )
    texts = [text.text for text in found.iter("text")]
    assert {"Noise", "dose, %", "noise, HU", "input <a & b>", "output", "limit 5"} <= set(texts)
    assert found.get("aria-label") == "Noise"
    assert len(list(found.iter("polyline"))) == 2
    assert len(list(found.iter("circle"))) == 3


def test_higher_values_lie_higher() -> None:
    points = drawn(Curve(name="", x=[0, 1], y=[1, 2])).find(".//polyline").get("points")  # type: ignore[union-attr]
    (left, low), (right, high) = (map(float, pair.split(",")) for pair in str(points).split())
    assert left < right
    assert high < low


def test_what_was_not_measured_leaves_a_gap() -> None:
    found = drawn(Curve(name="a", x=range(5), y=[1, 2, np.nan, 4, 5]))
    assert [len(str(line.get("points")).split()) for line in found.iter("polyline")] == [2, 2]
    assert "(not measured)" in svg(Curve(name="a", x=[1], y=[np.nan]), Curve(name="b", x=[1, 2], y=[1, 2]))


def test_nothing_to_draw_is_said() -> None:
    assert "not measured" in svg()
    assert "not measured" in svg(Curve(name="a", x=[1, 2], y=[np.nan, np.nan]))


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    found = drawn(
        Curve(name="a", x=[0, 1, 10, 100], y=[1, 0, 10, 100]), x=Axis(label="x", log=True), y=Axis(label="y", log=True)
    )
    assert [len(str(line.get("points")).split()) for line in found.iter("polyline")] == [2]


def test_curves_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refusal, match="as many x as y"):
        plot([Curve(name="a", x=[1, 2], y=[1])], x=X, y=Y)


def test_a_plot_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"https?:|url\(|<script", svg(Curve(name="a", x=[1, 2], y=[1, 2])))


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-3, 1e5), most=st.integers(3, 10))
def test_ticks_are_round_and_inside(low: float, span: float, most: int) -> None:
    found = ticks((low, low + span), False, most=most)
    assert 1 <= len(found) <= most + 1
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value in found)
    assert len(set(labels(found))) == len(found)


@given(decades=st.floats(0.05, 9), first=st.floats(1e-4, 1e3))
def test_decades_are_written_out(decades: float, first: float) -> None:
    found = ticks((first, first * 10**decades), True, most=7)
    assert 1 <= len(found) <= 8
    assert len(set(labels(found))) == len(found)


def test_labels_agree_in_their_decimals() -> None:
    assert labels([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert labels([0.01, 0.1, 1, 10]) == ["0.01", "0.1", "1", "10"]
    assert labels([-20.0, 0.0, 20.0]) == ["\N{MINUS SIGN}20", "0", "20"]


def test_axes_hold_their_data() -> None:
    low, high = limits([3.0, 8.0, np.nan], False, None, None)
    assert low == 0.0
    assert high > 8
    assert limits([5.0, 5.0], False, None, None)[0] < 5 < limits([5.0, 5.0], False, None, None)[1]
    assert limits([], True, None, None)[0] > 0
    assert limits([1.0], False, 0.0, 2.0) == (0.0, 2.0)
