"""Whether two files of one SOP Instance UID hold the same image, whatever way each of them is encoded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.service.receiving.examination import LimitedReader

# Bytes of a header: sequences of known length are read as one value, and become objects afterwards.
MOST_COMPARED = 2**18
COMPARING_S = 60
COMPARING_BYTES = 4 * 2**30
MOST_NAMED = 3  # elements of which a reason tells
PIXELS = "its pixels"
UNCOMPARABLE = "something that cannot be compared"


def other_content(one: Path, other: Path) -> str:
    """What differs between two files of one SOP Instance UID, in words; ``""`` when they hold the same image.

    Elements and pixels may be encoded in different ways. Pixels are decoded by a process of its own, as a decoder may
    take any time and memory, or end the process; what cannot be compared is not the same.
    """
    try:
        with without_warnings(), one.open("rb") as first, other.open("rb") as second:
            (before, syntax), (after, other_syntax) = _read_until_pixels(first), _read_until_pixels(second)
            different = [tag for tag in sorted({*before, *after}) if before.get(tag) != after.get(tag)]
            if different:
                return ", ".join(map(_element_name, different[:MOST_NAMED]))
            native = {str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)}
            if (syntax == other_syntax or {syntax, other_syntax} <= native) and _rest_is_equal(first, second):
                return ""
    except Exception:
        return UNCOMPARABLE
    return "" if syntax != other_syntax and _decode_alike(one, other) else PIXELS


def _element_name(tag: BaseTag) -> str:
    return pydicom.datadict.keyword_for_tag(tag) or ("a private element" if tag.is_private else str(tag))


def _decode_alike(one: Path, other: Path) -> bool:
    """Whether the decoded pixels of two files, and all elements, are the same."""
    command = [sys.executable, "-m", "iscl_monai.dicom.copies", str(one), str(other), str(COMPARING_BYTES)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMPARING_S, check=False)
    except subprocess.SubprocessError:
        return False
    return done.returncode == 0


def _read_until_pixels(file: BinaryIO) -> tuple[dict[BaseTag, Any], str]:
    """Everything before the pixels; the file is left where their value begins."""
    limited = cast(BinaryIO, LimitedReader(file, most_bytes=MOST_COMPARED))
    dataset = pydicom.dcmread(limited, stop_before_pixels=True)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    file.seek(8 if UID(syntax).is_implicit_VR else 12, os.SEEK_CUR)
    return {element.tag: element.value for element in dataset}, syntax


def _rest_is_equal(first: BinaryIO, second: BinaryIO) -> bool:
    while True:
        one, other = first.read(2**20), second.read(2**20)
        if one != other:
            return False
        if not one:
            return True
