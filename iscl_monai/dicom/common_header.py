"""What the slices of one series have in common is derived, encoded and read back once, not once for each of them.

Of some ninety elements of a CT slice ten differ from those of its neighbour. The rules of
:mod:`iscl_monai.dicom.derive` look at few elements; where these are the same, an element that is the same bytes in the
source is the same bytes in the derived slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from iscl_monai.dicom.carry import is_lossy_for_the_first_time
from iscl_monai.dicom.derive import RULES_LOOK_AT, SAME_IN_SERIES
from iscl_monai.dicom.encoded import NotSplittableError, encode_pixels, split
from iscl_monai.dicom.extent import PIXEL_DATA, UNDEFINED_LENGTH
from iscl_monai.dicom.headers import SliceHeader

LOOKED_AT = frozenset(int(Tag(keyword)) for keyword in RULES_LOOK_AT)
RULES_WRITE = frozenset(int(Tag(keyword)) for keyword in SAME_IN_SERIES)
CONTEXT = frozenset(int(Tag(keyword)) for keyword in ("SpecificCharacterSet", "PixelRepresentation"))
"""How other elements are read: which letters bytes are, and whether words of an ambiguous VR have a sign."""
OF_EACH_SLICE = frozenset(
    int(Tag(keyword)) for keyword in ("SOPInstanceUID", "SourceImageSequence", "ReferencedSeriesSequence", "PixelData")
)
"""What the rules write into a slice itself, or leave out of it, whatever the source has."""
OF_PIXELS = frozenset(
    int(Tag(keyword)) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData")
)


@dataclass(frozen=True)
class SourceElements:
    """The elements of a source slice as far as they can be told apart, taken before they are changed.

    Attributes:
        kind: how they are encoded, and what the rules take from the checked header.
        values: of each element by its tag; such as equal only themselves where bytes do not tell.
    """

    kind: tuple[object, ...]
    values: Mapping[int, object]

    @classmethod
    def of(cls, dataset: FileDataset, header: SliceHeader) -> SourceElements | None:
        """Those of a data set as it was read, without values of private elements, which are left behind.

        None for one whose slices are derived each by itself: with big-endian words, which are turned, or in a lossy
        encoding, whose ratio is another for each slice.
        """
        if not dataset.original_encoding[1] or is_lossy_for_the_first_time(dataset):
            return None
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        kind = (syntax, dataset.original_encoding, header.sop_class, header.study_uid, header.flavour)
        elements = [(int(tag), element) for tag, element in dataset.items()]
        values = {tag: _value(element) for tag, element in elements if not _is_private_value(tag)}
        return cls(kind, {tag: value for tag, value in values.items() if tag not in OF_PIXELS})


def _is_private_value(tag: int) -> bool:
    return bool(tag >> 16 & 1 and tag & 0xFFFF > 0xFF)


def _value(element: object) -> object:
    """Something that is equal to that of another element if both are written as the same bytes."""
    if isinstance(element, RawDataElement):
        return element.VR, element.value, element.length == UNDEFINED_LENGTH
    value = getattr(element, "value", None)
    return (getattr(element, "VR", None), value) if type(value) in (int, str, bytes) else object()


@dataclass(frozen=True)
class CommonHeader:
    """A derived slice, of which other slices take what is the same in both.

    Attributes:
        source: of the slice that it was derived from.
        elements: of the derived slice, encoded, by their tags.
    """

    source: SourceElements
    elements: Mapping[int, bytes]

    @classmethod
    def of(cls, source: SourceElements | None, encoded: bytes) -> CommonHeader | None:
        """That of a slice that has been derived, encoded and compared; None when it is good for no other slice."""
        if source is None:
            return None
        try:
            _, elements = split(encoded)
        except NotSplittableError:
            return None
        return cls(source, {tag: element for tag, element in elements.items() if tag not in OF_EACH_SLICE})

    def own_tags(self, source: SourceElements | None) -> set[int] | None:
        """The elements of another slice that are not those of this one; None when its rules may differ, too."""
        if source is None or source.kind != self.source.kind:
            return None
        theirs, ours = source.values, self.source.values
        own = {tag for tag, value in theirs.items() if tag not in ours or ours[tag] != value}
        different = own | (ours.keys() - theirs.keys())
        if any(tag in LOOKED_AT or tag >> 16 & 1 for tag in different):  # odd groups are private: creators of elements
            return None
        return own

    def completed(
        self, source: SourceElements, own: set[int], encoded_own: bytes, pixels: npt.NDArray[np.integer]
    ) -> bytes:
        """The bytes of the file of a derived slice.

        Args:
            source: of the slice.
            own: of :meth:`own_tags`.
            encoded_own: what :func:`iscl_monai.dicom.derive.derive_own_elements` made, encoded.
            pixels: little-endian (row, column).

        Returns:
            Those that :func:`iscl_monai.dicom.encoded.encode` makes of the whole derived data set.

        Raises:
            NotSplittableError: see :func:`iscl_monai.dicom.encoded.split`.
        """
        head, elements = split(encoded_own)
        absent = own | (self.source.values.keys() - source.values.keys())
        for tag, element in self.elements.items():
            if tag in RULES_WRITE or tag not in absent:
                elements.setdefault(tag, element)
        elements[PIXEL_DATA] = encode_pixels(pixels.tobytes())
        return head + b"".join(elements[tag] for tag in sorted(elements))


def only(dataset: FileDataset, tags: set[int]) -> FileDataset:
    """Remove all elements but these, and those by which they are read."""
    for tag in list(dataset.keys()):
        if tag not in tags and tag not in CONTEXT:
            del dataset[tag]
    return dataset
