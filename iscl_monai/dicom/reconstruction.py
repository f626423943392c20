"""Iterative and learned reconstruction, as vendors write it into CT headers.

Such a reconstruction adapts to the data: its noise has another texture at another dose, and does not add up linearly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

ITERATIVE = "iterative"
"""Where a header says that the reconstruction is iterative, but not which it is."""

_GE, _PHILIPS, _CANON = "GEHC_CT_ADVAPP_001", "ELSCINT1", "TOSHIBA_MEC_CT3"
_PRIVATE = {  # creator: group and elements, by the makers' conformance statements and pydicom's dictionary
    _GE: (0x0053, (0x40, 0x41, 0x42, 0x43)),  # annotation, mode, configuration, level
    _PHILIPS: (0x01F7, (0x9B,)),  # iDose level
    _CANON: (0x7005, (0x0B,)),  # filter
}
_BLOCK = 0x10
"""Where all three makers put their blocks."""

KEYWORDS = ("ReconstructionAlgorithm", "ProtocolName")
PRIVATE_TAGS: tuple[BaseTag, ...] = tuple(
    Tag(group, element)
    for group, elements in _PRIVATE.values()
    for element in (_BLOCK, *(_BLOCK << 8 | number for number in elements))
)
"""What is to be read of a file beside :data:`KEYWORDS`, the kernel, the manufacturer, its model and the description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """How one product is written.

    Args:
        name: of the product.
        pattern: its name in free text, any case; group 1, if it has one, is the strength.
        makers: of whose scanners a text may mean it; empty: of any. Some names are ordinary words.
    """

    name: str
    pattern: re.Pattern[str]
    makers: tuple[str, ...] = ()


def _name(name: str, pattern: str, *makers: str) -> _Name:
    return _Name(name=name, pattern=re.compile(pattern, re.IGNORECASE), makers=makers)


_PERCENT = r"(?:[\s:_-]*(\d{1,3})(?![\d.])\s?%?)?"
_GRADE = r"(?:[\s:_-]*(weak|mild|standard|std|strong|str|enhanced|extra|high|medium|low|[hml])(?![a-z]))?"
_LEVEL = r"(?:[\s:_-]*(?:level|strength|l|s)?[\s:_-]*\(?([0-7])(?![\d.])\)?)?"
_CANON_ORGAN = r"[\s_-]*(?:body|card\w*|lung|bone|brain|head|angio|inner ear|soft)[a-z]*"
_NAMES = (
    _name("TrueFidelity", r"(?<![a-z])(?:true[\s_-]?fidelity|dlir)" + _GRADE),
    _name("TrueFidelity", r"(?<![a-z])tf[\s_-](high|medium|low|[hml])(?![a-z])", "GE"),
    _name("ASiR-V", r"(?<![a-z])asir[\s_-]?v(?![a-z])" + _PERCENT),
    _name("ASiR", r"(?<![a-z])asir(?![a-z])" + _PERCENT),
    _name("Veo", r"(?<![a-z])(?:veo|mbir)(?![a-z])", "GE", ""),
    _name("SAFIRE", r"(?<![a-z])safire(?![a-z])" + _LEVEL),
    _name("ADMIRE", r"(?<![a-z])admire(?![a-z])" + _LEVEL, "SIEMENS", ""),
    _name("IRIS", r"(?<![a-z])iris(?![a-z])", "SIEMENS"),
    _name("QIR", r"(?<![a-z])qir(?![a-z])" + _LEVEL, "SIEMENS", ""),
    _name("iDose", r"(?<![a-z])i-?dose(?:\s?4(?!\d))?(?![a-z])" + _LEVEL),
    _name("IMR", r"(?<![a-z])imr(?![a-z])" + _LEVEL, "PHILIPS", ""),
    _name("AIDR 3D", r"(?<![a-z])e?aidr(?:[\s_-]?3d)?e?(?![a-z])" + _GRADE),
    _name("AiCE", r"(?<![a-z])aice(?![a-z])(?:" + _CANON_ORGAN + ")?" + _GRADE),
    # "Feet first" and "first pass" are none.
    _name("FIRST", r"(?<![a-z])first" + _CANON_ORGAN + _GRADE, "TOSHIBA", "CANON"),
    _name(ITERATIVE, r"(?<![a-z-])iterative recon"),
)
_FILTERED = re.compile(r"(?<![a-z])w?fbp(?![a-z])|filtered back", re.IGNORECASE)
_NO = re.compile(r"(?:\bno|\bnon|\bwithout|\bw/o|\bohne|\bsans|\bsin)[\s-]*$", re.IGNORECASE)
_OFF = re.compile(r"[\s:=_-]*(?:off|none|no)\b", re.IGNORECASE)

# Siemens: letter and two digits, I and J of SAFIRE and IRIS, Q their dual-energy kernels. B, D, H, T and U are filtered
# backprojection. Kernels of two letters (Br38f) are both; the strength is then the second value.
_SIEMENS_KERNEL = re.compile(r"[IJQ]\d{2}[a-z]*", re.IGNORECASE)
_SIEMENS_STRENGTH = re.compile(r"[1-5]")
# Newer consoles write kernel and strength into the description: Br40 S3, Br40 A3, Br40 Q3.
_SIEMENS_TEXT = re.compile(r"(?<![A-Za-z])[BHQUST][a-z]\d{2}[a-z]?\s+([SAQ])([1-5])(?![\w.])")
_SIEMENS_LETTERS = {"S": "SAFIRE", "A": "ADMIRE", "Q": "QIR"}
_GE_ANNOTATION = re.compile(r"([A-Za-z]{2})\s?(\d{1,3})")


def reconstruction_of(
    dataset: Dataset, *, kernel: Sequence[str], manufacturer: str, model: str, description: str, protocol: str
) -> str:
    """Name and strength of an iterative or learned reconstruction, e.g. ``ASiR 50``; ``""`` where none is said.

    What a vendor writes into an element of its own counts first; then the kernel, then the names in SeriesDescription,
    at last those in ProtocolName, which speaks of all reconstructions of a scan. Values that no vendor documents prove
    nothing.

    Args:
        dataset: holds ReconstructionAlgorithm and :data:`PRIVATE_TAGS`, where the file has them.
        kernel: the values of ConvolutionKernel.
        manufacturer: Manufacturer.
        model: ManufacturerModelName.
        description: SeriesDescription.
        protocol: ProtocolName.

    Returns:
        Words of this module and numbers only: no text of the header.
    """
    maker = manufacturer.upper()
    texts = ("\\".join(kernel), description, protocol)
    private = {creator: [_text(dataset, creator, element) for element in _PRIVATE[creator][1]] for creator in _PRIVATE}
    if any(private[_GE]):
        return _of_ge(private[_GE])
    (level,) = private[_PHILIPS]
    if level.isdigit() and int(level) > 0:
        return f"iDose {int(level)}"
    if found := _of_canon(*private[_CANON]):
        return found
    algorithm = str(dataset.get("ReconstructionAlgorithm") or "")
    if algorithm.startswith("FILTER"):
        return ""
    found = _of_siemens(maker, model, kernel, texts) or _in_texts(texts, maker)
    if level == "0" and found.startswith("iDose"):  # the protocol has it, this series has not
        return ""
    return found or (ITERATIVE if algorithm == "ITERATIVE" else "")


def _of_ge(elements: Sequence[str]) -> str:
    """By annotation (``SS50`` of ASiR, ``AR30`` of ASiR-V), configuration (``SS50:Slice``) and level."""
    annotation, _, configuration, level = elements
    for text in (annotation, configuration):
        if found := _in_text(text, "GE"):
            return found
        if match := _GE_ANNOTATION.match(text):
            kind, percent = match[1].upper(), int(match[2])
            name = {"AR": "ASiR-V", "SS": "ASiR", "VS": "ASiR"}.get(kind, ITERATIVE)
            return f"{name} {percent}" if percent else ""
    number = re.fullmatch(r"(\d{1,3})\s?%?", level)
    return f"{ITERATIVE} {int(number[1])}" if number and int(number[1]) else ""


def _of_canon(filter_: str) -> str:
    """The element has no other words: FIRST alone is the reconstruction here."""
    return _in_text(filter_, "CANON") or ("FIRST" if filter_.upper().startswith("FIRST") else "")


def _of_siemens(maker: str, model: str, kernel: Sequence[str], texts: Sequence[str]) -> str:
    if "SIEMENS" not in maker and maker:
        return ""
    strength = kernel[1] if len(kernel) > 1 and _SIEMENS_STRENGTH.fullmatch(kernel[1]) else ""
    written = next(filter(None, map(_SIEMENS_TEXT.search, texts[1:])), None) if maker else None
    single = bool(kernel) and bool(_SIEMENS_KERNEL.fullmatch(kernel[0]))
    if written and not single:
        return f"{_SIEMENS_LETTERS[written[1]]} {written[2]}"
    if not single and not (strength and maker):
        return ""
    named = _in_texts(texts, "SIEMENS").split(" ")[0]
    unnamed = "SAFIRE" if single else "QIR" if "NAEOTOM" in model.upper() else "SAFIRE or ADMIRE"
    return " ".join(filter(None, (named or unnamed, strength)))


def _in_texts(texts: Sequence[str], maker: str) -> str:
    """The first name in some texts; a text that speaks of filtered backprojection ends the search."""
    for text in texts:
        if found := _in_text(text, maker):
            return found
        if _FILTERED.search(text):
            return ""
    return ""


def _in_text(text: str, maker: str) -> str:
    for one in _NAMES:
        if one.makers and not any(name in maker if name else not maker for name in one.makers):
            continue
        for match in one.pattern.finditer(text):
            strength = (match[1] or "") if match.re.groups else ""
            denied = _NO.search(text[: match.start()]) or _OFF.match(text[match.end() :])
            if not denied and (not strength.isdigit() or int(strength)):
                return " ".join(_words(one.name, strength))
    return ""


def _words(name: str, strength: str) -> Iterator[str]:
    yield name
    if strength:
        yield str(int(strength)) if strength.isdigit() else strength.lower()


def _text(dataset: Dataset, creator: str, element: int) -> str:
    """A private element as text; ``""`` when it is absent, malformed or another creator's."""
    group = _PRIVATE[creator][0]
    try:
        if _plain(dataset[group, _BLOCK].value) != creator:
            return ""
        return _plain(dataset[group, _BLOCK << 8 | element].value)
    except Exception:  # absent, or of a value that pydicom cannot convert, which may raise nearly anything
        return ""


def _plain(value: object) -> str:
    """Implicit VR files have bytes where pydicom does not know the element."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value if value is not None else "")
    return text.strip(" \0")
