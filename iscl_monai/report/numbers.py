"""How numbers and counts are written in reports: a real minus sign, and words for what has no value."""

from __future__ import annotations

import math
import re

MINUS = "\N{MINUS SIGN}"
NOT_GIVEN = "\N{EN DASH}"
NOT_MEASURABLE = "not measurable"
OPTIMISTIC = "optimistic: on the slices that chose epoch, blend and settings"
"""What is said of every validation figure: it is the best of many tries on one set of slices."""

_HYPHEN_OF_A_NUMBER = re.compile(r"(?<![\w.])-(?=\d)")


def fixed(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with so many decimals; a dash for None, words for NaN and infinity.

    Args:
        value: the number; None where it makes no sense.
        digits: decimals.
        signed: with a plus sign, too.
    """
    if value is None:
        return NOT_GIVEN
    if not math.isfinite(value):
        return NOT_MEASURABLE if math.isnan(value) else "∞ (exact)"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent; a dash for NaN.

    Args:
        value: the number.
        digits: digits that count; those before the decimal point are all written.
    """
    if not math.isfinite(value):
        return NOT_GIVEN if math.isnan(value) else "∞"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits - 0.5 else f"{value:.0f}"
    if "e" in text:  # below 1e-4
        return "0"
    return text.replace("-", MINUS)


def with_minus_signs(text: str) -> str:
    """A text whose negative numbers have a minus sign; hyphens of words and ranges stay."""
    return _HYPHEN_OF_A_NUMBER.sub(MINUS, text)


def counted(count: int, noun: str) -> str:
    """``1 slice``, ``2 slices``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
