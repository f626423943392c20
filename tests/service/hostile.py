"""Files that somebody made to hurt: each is small on the wire, and asks for something that is not there or too much."""

from __future__ import annotations

import io
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

CT, ENHANCED = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
RLE, JPEG, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"

NAME = "HOSTILE^NAME"  # of the patient; it must be told nowhere
LONG = ("OB", "OW", "OF", "SQ", "UN", "UT", "UC", "UR", "OD", "OL", "OV", "SV", "UV")
ENDLESS = 0xFFFFFFFF
SIDE = 16
MB = 2**20

ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, ENDLESS)
ITEM_ENDS = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_ENDS = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
NO_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)

UIDS = {"SOPInstanceUID": 0x00080018, "StudyInstanceUID": 0x0020000D, "SeriesInstanceUID": 0x0020000E}
NO_UIDS = {
    "path": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "65 characters": "1." + "2" * 63,
    "70000 characters": "1." + "2" * 70000,
    "NUL inside": "1.2\0.3",
    "newline": "1.2\n.3",
    "two values": "1.2.3\\1.2.4",
    "other digits": "1.2.\N{ARABIC-INDIC DIGIT THREE}",
    "a name": NAME,
    "empty": "",
}


def uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def element(tag: int, vr: str, value: bytes | str = b"", length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian; the length told may be a lie."""
    content = value.encode() if isinstance(value, str) else value
    content += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(content) % 2)
    stated_length = len(content) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in LONG:
        return head + struct.pack("<HL", 0, stated_length) + content
    return head + struct.pack("<H", stated_length % 0x10000) + content


def meta(instance: str, syntax: str = EXPLICIT, sop_class: str = CT, more: bytes = b"") -> bytes:
    """What stands before a data set in a file."""
    group = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", sop_class)
    group += element(0x00020003, "UI", instance) + element(0x00020010, "UI", syntax) + more
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(group))) + group


def elements(instance: str, series: tuple[str, str], number: int = 0) -> dict[int, bytes]:
    """Of an honest little CT slice."""
    noise = np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE)).astype("<u2").tobytes()
    us = partial(struct.pack, "<H")
    listed: list[tuple[int, str, bytes | str]] = [
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, "UI", CT),
        (0x00080018, "UI", instance),
        (0x00080060, "CS", "CT"),
        (0x0008103E, "LO", "hostile"),
        (0x00100010, "PN", NAME),
        (0x00100020, "LO", "P1"),
        (0x00180050, "DS", "2"),
        (0x0020000D, "UI", series[0]),
        (0x0020000E, "UI", series[1]),
        (0x00200013, "IS", str(number + 1)),
        (0x00200032, "DS", f"0\\0\\{2 * number}"),
        (0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
        (0x00200052, "UI", series[1]),
        (0x00280002, "US", us(1)),
        (0x00280004, "CS", "MONOCHROME2"),
        (0x00280010, "US", us(SIDE)),
        (0x00280011, "US", us(SIDE)),
        (0x00280030, "DS", "1\\1"),
        (0x00280100, "US", us(16)),
        (0x00280101, "US", us(16)),
        (0x00280102, "US", us(15)),
        (0x00280103, "US", us(0)),
        (0x00281052, "DS", "-1024"),
        (0x00281053, "DS", "1"),
        (0x7FE00010, "OW", noise),
    ]
    return {tag: element(tag, vr, value) for tag, vr, value in listed}


def slice_(
    *changed: bytes,
    instance: str = "",
    series: tuple[str, str] | None = None,
    number: int = 0,
    syntax: str = EXPLICIT,
    head: bytes | None = None,
    **more: str,
) -> bytes:
    """A slice with elements of its own: each that is given takes the place of the honest one with its tag."""
    instance, series = instance or uid(), series or (uid(), uid())
    found = elements(instance, series, number)
    for one in changed:
        group, number_ = struct.unpack("<HH", one[:4])
        found[group << 16 | number_] = one
    return (head or meta(instance, syntax, **more)) + b"".join(found[tag] for tag in sorted(found))


def sequence(content: bytes, vr: str = "SQ") -> bytes:
    """A private one, of undefined length."""
    return element(0x00090010, "LO", "NOBODY") + element(0x00091001, vr, b"", ENDLESS) + content + SEQUENCE_ENDS


def nested(depth: int, vr: str = "SQ") -> bytes:
    one = element(0x00091001, vr, b"", ENDLESS)
    return element(0x00091001, vr, b"", ENDLESS) + (ITEM + one) * depth + (SEQUENCE_ENDS + ITEM_ENDS) * depth


def deflated(head: bytes, zeros: int) -> bytes:
    """The head and then zeros by the megabyte; made in no time, as one block of them can be repeated."""
    zipper = zlib.compressobj(9, wbits=-15)
    first = zipper.compress(head) + zipper.flush(zlib.Z_FULL_FLUSH)
    block = zipper.compress(bytes(16 * MB)) + zipper.flush(zlib.Z_FULL_FLUSH)
    return first + block * (zeros // 16) + b"\3\0"


def bomb(megabytes: int, tag: int = 0x7FE00010) -> bytes:
    """A deflated object with a huge element, of pixels or private."""
    instance = uid()
    found = elements(instance, (uid(), uid()))
    before = b"".join(found[one] for one in sorted(found) if one < tag)
    return meta(instance, DEFLATED) + deflated(before + element(tag, "OB", b"", megabytes * MB), megabytes)


def encapsulated(stream: bytes) -> bytes:
    one = struct.pack("<HHL", 0xFFFE, 0xE000, len(stream) + len(stream) % 2) + stream + bytes(len(stream) % 2)
    return element(0x7FE00010, "OB", NO_ITEM + one + SEQUENCE_ENDS, ENDLESS)


def claims(rows: int, columns: int) -> bytes:
    return element(0x00280010, "US", struct.pack("<H", rows)) + element(0x00280011, "US", struct.pack("<H", columns))


def jpeg_2000(width: int, height: int) -> bytes:
    size = struct.pack(">HHIIIIIIII", 0, 0, width, height, 0, 0, width, height, 0, 0) + struct.pack(
        ">HBBB", 1, 15, 1, 1
    )
    siz = b"\xff\x51" + struct.pack(">H", len(size)) + size[2:]
    siz = b"\xff\x51" + struct.pack(">H", len(siz) - 2) + siz[4:]
    cod = b"\xff\x52" + struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 0, 5, 4, 4, 0, 1)
    qcd = b"\xff\x5c" + struct.pack(">HB", 19, 0x40) + bytes([0x48] * 16)
    sot = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + bytes(64) + b"\xff\xd9"
    return b"\xff\x4f" + siz + cod + qcd + sot


def jpeg(width: int, height: int, frame: int) -> bytes:
    """JPEG Lossless (0xC3) or JPEG-LS (0xF7), with next to nothing in it."""
    sof = bytes([0xFF, frame]) + struct.pack(">HBHHBBBB", 11, 16, height, width, 1, 1, 0x11, 0)
    table = b"" if frame == 0xF7 else b"\xff\xc4" + struct.pack(">HB", 19 + 1, 0) + bytes([1] + [0] * 15) + b"\0"
    sos = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1 if frame == 0xC3 else 0, 0, 0)
    return b"\xff\xd8" + sof + table + sos + bytes(64) + b"\xff\xd9"


def big(stream: bytes, syntax: str, rows: int = 65535, columns: int = 65535) -> bytes:
    size = (element(0x00280010, "US", struct.pack("<H", rows)), element(0x00280011, "US", struct.pack("<H", columns)))
    return slice_(*size, encapsulated(stream), syntax=syntax)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(MB))
    return file.getvalue()


def pixels(value: bytes, length: int | None = None) -> bytes:
    return element(0x7FE00010, "OW", value, length)


def frames(count: str, sop_class: str = CT) -> bytes:
    header = element(0x00080016, "UI", sop_class), element(0x00280008, "IS", count)
    return slice_(*header, sop_class=sop_class)


def private(value: bytes, length: int | None = None, vr: str = "OB") -> bytes:
    return element(0x00091001, vr, value, length)


Maker = Callable[[], bytes]

NO_DICOM: dict[str, Maker] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\0",
    "zip": zipped,
    "JPEG": lambda: jpeg(512, 512, 0xC3),
    "preamble alone": lambda: bytes(128) + b"DICM",
    "meta alone": lambda: meta(uid()),
    "meta of 200 MB": lambda: slice_(head=meta(uid(), more=element(0x00020102, "OB", bytes(200 * MB)))),
    "group 2 without end": lambda: bytes(128) + b"DICM" + element(0x00020102, "OB") * 200_000,
    "text": lambda: b"PatientName: " + NAME.encode() * 1000,
    "other syntax": lambda: slice_(syntax="1.2.840.10008.1.2.4.102"),
    "syntax is a path": lambda: slice_(syntax="../../etc/passwd"),
    "syntax of 60000 characters": lambda: slice_(syntax="1." + "2" * 60000),
    "no syntax": lambda: slice_(syntax=""),
    "deflated in name": lambda: slice_(syntax=DEFLATED),
}

TOO_MUCH: dict[str, Maker] = {
    "4 GB in 4 MB": partial(bomb, 4080),
    "SQ 1000 deep": lambda: slice_(nested(1000)),
    "SQ 100000 deep": lambda: slice_(nested(100_000)),
    "UN 1000 deep": lambda: slice_(nested(1000, "UN")),
    "million items": lambda: slice_(sequence(NO_ITEM * 10**6)),
    "million elements": lambda: slice_(element(0x00091002, "LO", "x") * 10**6),
    "million empty sequences": lambda: slice_(sequence((ITEM + ITEM_ENDS) * 10**6)),
    "description of 100 MB": lambda: slice_(element(0x0008103E, "UT", b"A" * (100 * MB))),
    "a kernel for each of 60000 slices": lambda: slice_(element(0x00181210, "UC", b"\\".join([b"B"] * 10**6))),
}

UNCLEAR: dict[str, Maker] = {  # taken or not, the node must not mind
    "999 MB in 1 MB": partial(bomb, 960),
    "999 MB in 1 MB, private": partial(bomb, 960, 0x00091001),
    "million private delimiters": lambda: slice_(private(SEQUENCE_ENDS * 10**6, ENDLESS)),
    "private of 200 MB": lambda: slice_(private(bytes(200 * MB))),
    "private without end": lambda: slice_(private(bytes(MB), ENDLESS)),
    "private longer than the file": lambda: slice_(private(bytes(MB), 0xFFFFFFF0)),
    "pixels of undefined length": lambda: slice_(pixels(bytes(2 * SIDE**2), ENDLESS)),
    "pixels longer than the file": lambda: slice_(pixels(bytes(2 * SIDE**2), 0xFFFFFFF0)),
    "pixels cut short": lambda: slice_(pixels(bytes(100))),
    "no pixels": lambda: slice_(pixels(b"")),
    "odd pixels": lambda: slice_(pixels(bytes(2 * SIDE**2), 2 * SIDE**2 - 1)),
    "65535x65535 native": lambda: slice_(claims(65535, 65535)[:10], claims(65535, 65535)[10:]),
    "65535x65535 JPEG 2000": lambda: big(jpeg_2000(65535, 65535), JPEG_2000),
    "65535x65535 HTJ2K": lambda: big(jpeg_2000(65535, 65535), HTJ2K),
    "65535x65535 JPEG-LS": lambda: big(jpeg(65535, 65535, 0xF7), JPEG_LS),
    "65535x65535 JPEG": lambda: big(jpeg(65535, 65535, 0xC3), JPEG),
    "65535x65535 RLE": lambda: big(struct.pack("<16L", 2, 64, 80, *[0] * 13) + b"\x81\0" * 40, RLE),
    "16x16 that hold 65535x65535": lambda: big(jpeg_2000(65535, 65535), JPEG_2000, SIDE, SIDE),
    "16x16 that hold 65535x65535, JPEG-LS": lambda: big(jpeg(65535, 65535, 0xF7), JPEG_LS, SIDE, SIDE),
    "RLE segments outside": lambda: big(struct.pack("<16L", 15, *[0xFFFFFFF0] * 15), RLE, SIDE, SIDE),
    "10^9 frames": partial(frames, "1000000000"),
    "-1 frames": partial(frames, "-1"),
    "10^9 frames, enhanced": partial(frames, "1000000000", ENHANCED),
    "no bits": lambda: slice_(element(0x00280100, "US", b"\0\0"), element(0x00280101, "US", b"\0\0")),
    "65535 bits": lambda: slice_(element(0x00280100, "US", b"\xff\xff"), element(0x00280101, "US", b"\xff\xff")),
    "65535 samples": lambda: slice_(element(0x00280002, "US", b"\xff\xff")),
    "slope nan": lambda: slice_(element(0x00281053, "DS", "nan")),
    "slope 1e308": lambda: slice_(element(0x00281053, "DS", "1e308")),
    "position inf": lambda: slice_(element(0x00200032, "DS", "inf\\0\\1e400")),
    "spacing 0": lambda: slice_(element(0x00280030, "DS", "0\\-0")),
    "odd characters": lambda: slice_(
        element(0x00080005, "CS", "ISO 2022 IR 87\\x\\\x1b$B"), element(0x0008103E, "LO", b"\x1b$B\xff\xfe\0\n")
    ),
    "number of 5000 digits": lambda: slice_(element(0x00200013, "IS", "9" * 5000)),
    "group 0 elements": lambda: slice_(element(0x00001000, "UI", "1.2.3")),
}


def without_uids() -> Iterator[tuple[str, bytes]]:
    """A slice for each UID that is none."""
    for keyword, tag in UIDS.items():
        for name, text in NO_UIDS.items():
            vr = "UI" if len(text) < 2**16 else "UC"
            yield f"{keyword}: {name}", slice_(element(tag, vr, text))
