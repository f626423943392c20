"""Ways to spoil a DICOM file: elements deleted, renamed, multiplied, filled with nonsense; bytes flipped and lost."""

from __future__ import annotations

import io
import math
import random
import struct
import zlib

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from iscl_monai.dicom.headers import KEYWORDS

IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
BIG, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
JPEG, JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG)

DECIDING = (
    *KEYWORDS,
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "SeriesNumber", "ImageComments", "DerivationDescription"),
    *("DerivationCodeSequence", "ContributingEquipmentSequence", "CodingSchemeIdentificationSequence"),
    *("ReferencedSeriesSequence", "SourceImageSequence", "BurnedInAnnotation", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod", "SmallestImagePixelValue", "IconImageSequence"),
    *("PixelData", "FloatPixelData", "ExtendedOffsetTable", "WindowCenter", "PlanarConfiguration"),
)
META = ("TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID")
VRS = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OD", "OF", "OL", "OV", "OW", "PN"),
    *("SH", "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV", "ZZ"),
)
ABSURD = (
    *b"nan|-inf|1e400|1e308|1e-300|0|-0|-1|1|2|1,5|-32768|65536|1.2.3|1..2|20230230|+9999|-2400|+0530|+0000".split(
        b"|"
    ),
    *b"ISO_IR 192|ISO 2022 IR 87|\\ISO 2022 IR 149|NO SUCH SET|YES|HU|US|CT|MR|RGB|MONOCHROME1|01|00|%s%n{}".split(
        b"|"
    ),
    *rb"DERIVED\PRIMARY\AXIAL|ORIGINAL\PRIMARY\LOCALIZER|ORIGINAL|1\0\0\0\1\0|0\0\0|0\0\1e30|1\1|\|\\\\".split(b"|"),
    *(b"", b" ", b"\0", b"\xff\xfe\xfd", b"\xe9t\xe9", b"\x1b$B\x1b(B", b"A\nB\r\n\x00C"),
    *(b"9" * 40, b"A" * 65, b"A" * 70000, b"1." * 40, bytes(8192)),
    *(bytes(2), b"\xff\xff", b"\x01\x00", b"\x00\x80", b"\xff\x7f", b"\x10\x00", b"\x40\x00", b"\x00\x10", b"\xff" * 8),
    *(b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\x00\x00\x00\x00", b"\xfe\xff\xdd\xe0" + bytes(4)),
)
SYNTAXES = (*NATIVE, RLE, JPEG, JPEG_LS, JPEG_2000, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91", "1.2.3")


def damaged(file: bytes, chance: random.Random) -> bytes:
    """One of the two kinds of damage, or both."""
    kind = chance.random()
    if kind < 0.65:
        file = with_bad_elements(file, chance)
    return with_bad_bytes(file, chance) if kind > 0.6 else file


def with_bad_elements(file: bytes, chance: random.Random) -> bytes:
    """Elements deleted, renamed, added, emptied, multiplied or filled with nonsense, at any depth."""
    source = io.BytesIO(file)
    dataset = pydicom.dcmread(source)
    implicit, little = dataset.original_encoding
    places, zipped = levels(dataset), dataset.file_meta.TransferSyntaxUID == DEFLATED
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        level = dataset if chance.random() < 0.7 else chance.choice(places)
        if chance.random() < 0.05:
            level = dataset.file_meta
        spoil(level, chance, implicit=bool(implicit) and level is not dataset.file_meta)
    head = bytes(128) + b"DICM" + encoded(dataset.file_meta, implicit=False, order="<")
    body = encoded(dataset, implicit=bool(implicit), order="<" if little else ">")
    if zipped:
        squeeze = zlib.compressobj(wbits=-15)
        body = squeeze.compress(body) + squeeze.flush()
    return head + body


def levels(dataset: Dataset) -> list[Dataset]:
    """A data set and all items below it; elements other than sequences stay as they lie in the file."""
    found = [dataset]
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if (element.VR or (dictionary_has_tag(tag) and dictionary_VR(tag))) == "SQ":
            found += [deep for item in dataset[tag].value for deep in levels(item)]
    return found


def encoded(dataset: Dataset, *, implicit: bool, order: str) -> bytes:
    """The bytes of a data set as they were, whatever nonsense is in them: pydicom would mend or refuse it."""
    whole = b""
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)
        endless = isinstance(element, RawDataElement) and element.length == 0xFFFFFFFF
        if element.VR == "SQ" and not isinstance(element, RawDataElement):
            items = [encoded(item, implicit=implicit, order=order) for item in element.value]
            value = b"".join(struct.pack(order + "HHL", 0xFFFE, 0xE000, len(item)) + item for item in items)
        else:
            value = bytes_of(element, order)
        vr = b"" if implicit else (element.VR or "UN").encode()
        length = struct.pack(order + "L", 0xFFFFFFFF if endless else len(value))
        if vr and vr.decode() not in EXPLICIT_VR_LENGTH_32:
            length = struct.pack(order + "H", len(value) % 0x10000)
        whole += struct.pack(order + "HH", tag.group, tag.element) + vr + bytes(2 * (len(vr + length) == 6)) + length
        whole += value + (struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0) if endless else b"")
    return whole


def bytes_of(element: RawDataElement | DataElement, order: str = "<") -> bytes:
    """A value as it lies in the file; pydicom has converted a few, such as the character set."""
    value = b"" if element.value is None else element.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return struct.pack(order + ("L" if element.VR == "UL" else "H"), value)
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return text.encode() + bytes(len(text) % 2)


def spoil(dataset: Dataset, chance: random.Random, *, implicit: bool) -> None:
    """Do one wrong thing to one element."""
    tags = [tag for tag in list(dataset.keys()) if tag != 0x00020000]
    tag = Tag(tag_for_keyword(chance.choice(META if isinstance(dataset, FileMetaDataset) else DECIDING)))
    if tags and chance.random() < 0.5:
        tag = chance.choice(tags)
    if tag in dataset and chance.random() < 0.2:
        del dataset[tag]
        return
    found = dataset.get_item(tag)
    known = dictionary_VR(tag)[:2] if dictionary_has_tag(tag) else "UN"
    vr = (found.VR if found is not None else None) or known
    value = b"" if found is None or isinstance(found.value, Sequence) else bytes_of(found)
    match chance.randrange(6):
        case 0:
            vr = chance.choice(VRS)
        case 1:
            value = (b"\\" if vr in ("DS", "IS", "CS", "LO", "UI") else b"").join([value] * chance.choice((2, 3, 7)))
        case 2:
            value = value[: len(value) // 2]
        case 3:
            value = b"\\".join(chance.choices(ABSURD, k=3))
        case _:
            value = chance.choice((*ABSURD, *(name.encode() for name in SYNTAXES)))
    if len(value) % 2 and chance.random() < 0.9:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    dataset._dict[tag] = RawDataElement(tag, None if implicit else vr, len(value), value, 0, implicit, True)


def with_bad_bytes(file: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, lost, doubled, inserted, zeroed or cut off; the header's as often as the pixels'."""
    content = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 8))):
        end = len(content) if chance.random() < 0.4 else min(len(content), 6000)
        start = chance.randrange(128, max(129, end))
        length = chance.choice((1, 1, 2, 4, 16, 128, 1000))
        block = content[start : start + length]
        match chance.randrange(8):
            case 0:
                del content[start:]
            case 1:
                del content[start : start + length]
            case 2:
                content[start:start] = chance.randbytes(length)
            case 3:
                content[start:start] = block
            case 4:
                content[start : start + length] = chance.choice((b"\0", b"\xff")) * len(block)
            case _:
                for place in range(start, min(start + chance.choice((1, 1, 4)), len(content))):
                    content[place] ^= 1 << chance.randrange(8)
    return bytes(content)


def damaged_nifti(content: bytes, chance: random.Random) -> bytes:
    """Bytes lost, inserted and replaced by nonsense, most of them in the header."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 2, 6))):
        place = chance.randrange(len(found) if chance.random() < 0.3 else min(400, len(found)))
        match chance.randrange(6):
            case 0:
                del found[place:]
            case 1:
                found[place:place] = chance.randbytes(chance.choice((1, 4, 100)))
            case 2:
                found[place : place + 4] = struct.pack("<f", chance.choice((0, -1, 1e30, math.nan, math.inf, 1e-30)))
            case 3:
                found[place : place + 2] = struct.pack("<h", chance.choice((0, -1, 1, 32767, 512, 2, 4, 16)))
            case _:
                found[place] ^= 1 << chance.randrange(8)
        if not found:
            break
    return bytes(found)
