"""What the tags of a TIFF file say of its pixels and sections: baseline, ImageJ, OME."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID, uuid5
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph.file import PixelSize, plausible_pixel_size

NM = {
    "pm": 1e-3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
}
"""Nanometres in a unit; the micro sign has two code points."""

RESOLUTION_UNITS = {2: NM["inch"], 3: NM["cm"]}
OME_FILE_NAME = rb"""(<(?:\w+:)?UUID\s+FileName=)(?:"[^"]*"|'[^']*')"""
OME_UUID = rb"""(UUID(?:=["']|[^>]*>)\s*urn:uuid:)([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"""
SINGLE_CHANNEL = "save each channel, and each time, as a file of its own"


def check_description(path: Path, tif: Any, pages: int) -> None:
    """Refuse channels, times, and sections that lie elsewhere than the pages say.

    Args:
        path: of the file, for the message.
        tif: an open ``tifffile.TiffFile``.
        pages: that it has.

    Raises:
        ImageRefusal: more than one channel or time, or another number of sections than pages.
    """
    counts: dict[str, int] = {}
    named = None
    if tif.is_ome:
        pixels, files, in_order = _ome_pixels(path, tif)
        if files > 1:
            _refuse(path, f"an OME data set of {files} files", "one file", "save it as one file, or leave the OME out")
        counts = {"channels": int(pixels.get("SizeC", 1)), "times": int(pixels.get("SizeT", 1))}
        named = int(pixels.get("SizeZ", 1))
        if not in_order and max(counts.values()) == 1:
            _refuse(path, "pages in another order than its OME's sections", "one order", "save it anew, in order of z")
    elif tif.is_imagej:
        imagej = tif.imagej_metadata or {}
        counts = {"channels": int(imagej.get("channels", 1)), "times": int(imagej.get("frames", 1))}
        named = int(imagej.get("images", 1))
    for name, count in counts.items():
        if count > 1:
            _refuse(path, f"{count} {name}", "sections of one channel at one time", SINGLE_CHANNEL)
    if named is not None and named != pages:
        _refuse(
            path, f"{named} sections by its description, {pages} pages", "as many pages", "save it anew, as BigTIFF"
        )


def sizes_of(tif: Any) -> tuple[PixelSize | None, float | None]:
    """Pixel size and spacing of sections in nm, None where the file does not say.

    OME's physical size goes before ImageJ's calibration, and that before the resolution of the baseline tags.
    """
    if tif.is_ome:
        pixels, _, _ = _ome_pixels(Path(tif.filehandle.path), tif)
        x, y, z = (_ome_size(pixels, axis) for axis in "XYZ")
        size = plausible_pixel_size(y or 0.0, x or 0.0)
        return size, z if size and z else None
    page = tif.pages[0]
    across, down = (_rational(page.tags.get(name)) for name in ("XResolution", "YResolution"))
    if across <= 0 or down <= 0:
        return None, None
    calibration = (tif.imagej_metadata or {}) if tif.is_imagej else {}
    unit = NM.get(_unit(calibration.get("unit", ""))) or RESOLUTION_UNITS.get(int(page.resolutionunit))
    if unit is None:
        return None, None
    size = plausible_pixel_size(unit / down, unit / across)
    spacing = float(calibration.get("spacing", 0) or 0) * unit
    return size, abs(spacing) if size and spacing else None


def described(description: bytes, note: str, *, name: str) -> bytes:
    """An image description with a note in it that leaves its kind (OME, JSON, ImageJ, text) readable.

    Args:
        description: of the tag, without the closing NUL; empty when there is none.
        note: ASCII, without ``--``.
        name: of the file that it is for.
    """
    end = description.rstrip()
    if end.endswith(b"OME>"):
        begin = end.rindex(b"</")
        return _of_another_file(end[:begin] + f"<!-- {note} -->".encode() + end[begin:], note, name)
    if end.startswith(b"{"):
        try:
            content = json.loads(end)
        except ValueError:
            content = None
        if isinstance(content, dict):
            return json.dumps({**content, "derivation": note}).encode()
    return end + (b"\n" if end else b"") + f"derivation={note}\n".encode()


def _of_another_file(ome: bytes, note: str, name: str) -> bytes:
    """OME whose file has another name and UUID: readers follow both, to the original where it lies beside."""
    named = re.sub(OME_FILE_NAME, lambda found: found[1] + quoteattr(name).encode(), ome)
    return re.sub(OME_UUID, lambda found: found[1] + str(uuid5(UUID(found[2].decode()), note)).encode(), named)


def _refuse(path: Path, came: str, allowed: str, cure: str) -> NoReturn:
    raise ImageRefusal(f"{path}: {came}", allowed=allowed, cure=cure)


def _ome_pixels(path: Path, tif: Any) -> tuple[dict[str, str], int, bool]:
    """Attributes of the one element Pixels, how many files it names, and whether pages are in the order of sections."""
    root = ElementTree.fromstring(tif.ome_metadata)
    images = [one for one in root.iter() if one.tag.endswith("}Pixels") or one.tag == "Pixels"]
    if len(images) != 1:
        _refuse(path, f"{len(images)} images by its OME description", "one image", "save each image as its own file")
    files = {one.get("FileName") for one in images[0].iter() if one.tag.endswith("UUID") and one.get("FileName")}
    planes = [one.attrib for one in images[0].iter() if one.tag.endswith("TiffData")]
    in_order = all(int(one["IFD"]) == int(one["FirstZ"]) for one in planes if {"IFD", "FirstZ"} <= one.keys())
    return dict(images[0].attrib), len(files), in_order


def _ome_size(pixels: dict[str, str], axis: str) -> float | None:
    if f"PhysicalSize{axis}" not in pixels:
        return None
    unit = NM.get(_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
    return None if unit is None else float(pixels[f"PhysicalSize{axis}"]) * unit


def _unit(text: object) -> str:
    """A unit in lower case; ImageJ writes the micro sign as an escape."""
    decoded = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), str(text))
    return decoded.strip().lower()


def _rational(tag: Any) -> float:
    if tag is None:
        return 0.0
    numerator, denominator = tag.value
    return numerator / denominator if denominator else 0.0
