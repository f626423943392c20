"""Whether a data set that was read again is the one that was written."""

from __future__ import annotations

from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

TEXT = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "AS", "DA", "DT", "TM", "DS", "IS", "UI", "UR"))


def first_difference(written: Dataset, read: Dataset) -> str | None:
    """The first element in which two data sets differ, None when none does; VRs count, encodings do not."""
    if any(read.file_meta.get(element.tag) != element for element in written.file_meta):  # pydicom adds a length
        return "file meta information"
    for tag in sorted({*written.keys(), *read.keys()}, key=int):
        if _differs(written, read, tag):
            return f"{tag} {pydicom.datadict.keyword_for_tag(tag)}".strip()
    return None


def _differs(written: Dataset, read: Dataset, tag: BaseTag) -> bool:
    if tag not in written or tag not in read:
        return True
    one = written[tag]
    if isinstance(one.value, bytes) and one.VR in TEXT:  # bytes that its character set does not have
        return bool(one.value.rstrip(b" \0") != read.get_item(tag).value.rstrip(b" \0"))
    return _differ(one, read[tag])


def _differ(one: Any, other: Any) -> bool:
    if one.VR == other.VR == "SQ" and len(one.value) == len(other.value):
        pairs = zip(one.value, other.value, strict=True)
        return any(_differs(a, b, tag) for a, b in pairs for tag in {*a.keys(), *b.keys()})
    return not _same(one, other)


def _same(one: Any, other: Any) -> bool:
    # DataElement's == compares values only after both are converted, sequences item by item.
    return bool(one == other) or (one.VR == other.VR and one.is_empty and other.is_empty)
