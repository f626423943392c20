"""Numbers as readers see them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscl_monai.report.numbers import MINUS, NOT_GIVEN, counted, fixed, significant, with_minus_signs


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 2, NOT_GIVEN),
        (math.nan, 2, "not measurable"),
        (math.inf, 2, "∞ (exact)"),
        (-2.005, 1, f"{MINUS}2.0"),
        (0.25, 2, "0.25"),
        (12345.678, 0, "12346"),
    ],
)
def test_fixed_decimals(value: float | None, digits: int, text: str) -> None:
    assert fixed(value, digits) == text


def test_a_plus_sign_is_written_where_it_is_wanted() -> None:
    assert fixed(0.5, 1, signed=True) == "+0.5"
    assert fixed(-0.5, 1, signed=True) == f"{MINUS}0.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, NOT_GIVEN),
        (math.inf, "∞"),
        (0.000979, "0.000979"),
        (-0.000979, f"{MINUS}0.000979"),
        (2e-6, "0"),
        (0.9754, "0.975"),
        (999.4, "999"),
        (999.6, "1000"),
        (12345.0, "12345"),
    ],
)
def test_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@given(st.floats(-1e6, 1e6), st.integers(2, 5))
def test_significant_digits_have_no_exponent_and_are_right(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert "e" not in text
    assert "-" not in text
    read = float(text.replace(MINUS, "-"))
    assert abs(read - value) <= max(abs(value) * 10 ** (1 - digits), 1e-4)


def test_minus_signs_stand_before_numbers_alone() -> None:
    assert with_minus_signs("-8.90 (-9.1 to -1.76)") == f"{MINUS}8.90 ({MINUS}9.1 to {MINUS}1.76)"
    assert with_minus_signs("non-uniform, x - H, 1-2, v1.-3") == "non-uniform, x - H, 1-2, v1.-3"


def test_counts_agree_with_their_noun() -> None:
    assert [counted(count, "slice") for count in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]
