"""The values of single elements, as texts and numbers; what is malformed counts as absent."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag, Tag


def values_of(dataset: pydicom.Dataset, keyword: str) -> list[Any]:
    """The values of an element; none when it is absent, empty or malformed."""
    try:
        value = _value_of(dataset, keyword)
    except Exception:
        return []  # pydicom converts on access, and a malformed element may raise nearly anything
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]


def _value_of(dataset: pydicom.Dataset, keyword: str) -> Any:
    """The value of an element, None when it is absent; the same bytes are converted once, not for every slice."""
    tag = _tag(keyword)
    if tag not in dataset:
        return None
    element: object = dataset.get_item(tag)
    letters = dataset.original_character_set
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes) or not letters:
        return dataset[tag].value
    value = _converted(
        int(tag),
        element.VR,
        element.value,
        element.is_implicit_VR,
        element.is_little_endian,
        letters if isinstance(letters, str) else tuple(letters),
    )
    return dataset[tag].value if value is AMBIGUOUS else value


AMBIGUOUS = object()
"""In place of a value that other elements of its data set decide about: whether words have a sign."""


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


@lru_cache(maxsize=4096)
def _converted(
    tag: int, vr: str | None, value: bytes, implicit: bool, little: bool, letters: str | tuple[str, ...]
) -> Any:
    raw = RawDataElement(Tag(tag), vr, len(value), value, 0, implicit, little)
    element = convert_raw_data_element(raw, encoding=letters if isinstance(letters, str) else list(letters))
    return AMBIGUOUS if " or " in element.VR else element.value


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
