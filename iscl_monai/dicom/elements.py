"""The values of single elements, as texts and numbers; what is malformed counts as absent."""

from __future__ import annotations

import math
from typing import Any

import pydicom


def values_of(dataset: pydicom.Dataset, keyword: str) -> list[Any]:
    """The values of an element; none when it is absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
    except Exception:
        return []  # pydicom converts on access, and a malformed element may raise nearly anything
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]


def texts_of(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element as text, without what pads them."""
    return tuple(str(value).strip(" \0") for value in values_of(dataset, keyword))


def text_of(dataset: pydicom.Dataset, keyword: str) -> str:
    """An element as one text, several values joined by backslashes as DICOM has them."""
    return "\\".join(texts_of(dataset, keyword))


def numbers_of(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An element that is so many finite numbers, else None."""
    try:
        numbers = tuple(float(value) for value in values_of(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """An element that is one finite number, else None."""
    numbers = numbers_of(dataset, keyword, 1)
    return numbers[0] if numbers else None


def integer_of(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """An element that is one finite number, without its fraction, else None."""
    number = number_of(dataset, keyword)
    return int(number) if number is not None else None
