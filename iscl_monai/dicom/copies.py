"""One SOP Instance is one image, however often it lies there: what names the same image must be the same.

Media, backups and second senders give an object twice, in another transfer syntax perhaps. The copy is left aside. Two
objects of one SOP Instance UID that differ in anything are refused: one of them would silently win.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.tag import Tag

from iscl_monai.dicom.headers import SliceHeader, read_header, refusing_malformed
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.errors import DicomRefusal

OF_THE_ENCODING = frozenset(
    map(
        Tag,
        (
            "PixelData",
            "ExtendedOffsetTable",
            "ExtendedOffsetTableLengths",
            "DataSetTrailingPadding",
        ),
    )
)
"""Elements that another transfer syntax changes though the image stays the same."""


def without_copies(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[tuple[SliceHeader, SliceHeader]]]:
    """Leave out images that are there already.

    Args:
        headers: of one series, checked by :mod:`iscl_monai.dicom.rules`. Only files that share their SOP Instance UID
            and position with another one are opened (de-identifiers have given one UID to all slices).

    Returns:
        The first header of each image, in the order given; and each copy with the header of its original.

    Raises:
        DicomRefusal: two of one SOP Instance UID and position that are not the same image.
    """
    originals: dict[tuple[object, ...], SliceHeader] = {}
    copies = []
    for header in headers:
        original = originals.setdefault((header.sop_instance_uid, header.position), header)
        if original is not header and header.sop_instance_uid:
            check_same_image(original, header)
            copies.append((header, original))
    left_out = {id(copy) for copy, _ in copies}
    return [header for header in headers if id(header) not in left_out], copies


def check_same_image(original: SliceHeader, other: SliceHeader) -> None:
    """Refuse two files of one SOP Instance UID unless every element and every decoded pixel is the same.

    Raises:
        DicomRefusal: naming the other file and what differs.
    """
    if _same_file(original.path, other.path):
        return
    with without_warnings():
        (first, first_dataset), (second, second_dataset) = load_slice(original), load_slice(other)
        with refusing_malformed(other.path):
            difference = different_element(first_dataset, second_dataset)
    if difference is None and not np.array_equal(first.stored, second.stored):
        difference = "its pixels"
    if difference is not None:
        raise DicomRefusal(
            other.path,
            tag="SOPInstanceUID",
            found=f"that of {original.path} too, but {difference} differs",
            needed="one image per SOP Instance UID",
            cure="keep the right one of the two in the folder",
        )


def different_element(one: pydicom.Dataset, other: pydicom.Dataset) -> str | None:
    """The first element in which two data sets differ, whatever their encodings; None when it is the same image."""
    for tag in sorted({*one.keys(), *other.keys()} - OF_THE_ENCODING):
        if tag.element == 0:
            continue  # group lengths depend on the encoding
        if tag not in one or tag not in other or one[tag].value != other[tag].value:
            return pydicom.datadict.keyword_for_tag(tag) or str(tag)
    return None


def _same_file(one: Path, other: Path) -> bool:
    """Whether two names are links to one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _main(one: str, other: str, most_bytes: str) -> None:
    """For whoever must not be ended by a decoder: a process that ends with 0 when two files are the same image."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (int(most_bytes), int(most_bytes)))
    try:
        check_same_image(read_header(Path(one)), read_header(Path(other)))
    except DicomRefusal as different:
        sys.exit(str(different))


if __name__ == "__main__":
    _main(*sys.argv[1:])
