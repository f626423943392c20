"""What the table of an archive tells about a file beyond what reading it needs; no free text is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from iscl_monai.dicom.elements import number_of, text_of, values_of
from iscl_monai.dicom.headers import SliceHeader

MORE_KEYWORDS = (
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ContrastBolusAgent",
    "ContributingEquipmentSequence",
    "CTDIvol",
    "Exposure",
    "ExposureTime",
    "ProtocolName",
    "StudyDescription",
    "XRayTubeCurrent",
)

LOW, FULL = "low", "full"
_LOW = re.compile(r"\b(low|reduced|lowered|ultra ?low) ?dose\b|\bu?ldct\b|\bld\b")
_FULL = re.compile(r"\b(full|normal|standard|routine) ?dose\b|\b[fn]dct\b")
_SIMULATED = re.compile(r"\bSIMULATED (0?\.\d+) DOSE\b")
_MEAN = re.compile(r"\bMEAN OF (\d{1,4}) SLICES\b")
_CODE = re.compile(r"[A-Z0-9 _-]{1,16}")
_NO_AGENT = frozenset(("", "NO", "NONE", "N", "NO CONTRAST", "WITHOUT", "0"))

BODY_PARTS = {
    "CHEST": ("chest", "thorax", "lung", "lungs"),
    "ABDOMEN": ("abdomen", "abd", "liver", "pancreas", "kidney", "kidneys"),
    "PELVIS": ("pelvis", "pel"),
    "HEAD": ("head", "brain", "skull"),
    "NECK": ("neck",),
    "SPINE": ("spine", "lumbar"),
    "EXTREMITY": ("extremity", "knee", "ankle", "foot", "wrist", "elbow"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of one file; None or ``""`` where it says nothing.

    Attributes:
        mas: tube current times exposure time; Exposure only where one of them is absent, as makers disagree on it.
        ctdi_vol_mgy: CTDIvol.
        body_part: BodyPartExamined in capitals, else words of :data:`BODY_PARTS` found in the descriptions.
        contrast: an agent is named.
        dose: ``low`` or ``full`` where the text or ImageType says so.
        dose_fraction: of a series simulated by ``data_prep dose``, else 1.
        average: how many slices each one is the mean of, by ``data_prep dose``, else 1.
        denoised: by this package.
        burned_in: text is burned into the picture, or may be.
    """

    mas: float | None = None
    ctdi_vol_mgy: float | None = None
    body_part: str = ""
    contrast: bool = False
    dose: str = ""
    dose_fraction: float = 1.0
    average: int = 1
    denoised: bool = False
    burned_in: bool = False


def facts_of(dataset: Dataset, header: SliceHeader) -> Facts:
    """The facts of one file.

    Args:
        dataset: holds the elements of :data:`MORE_KEYWORDS`, where the file has them.
        header: of the same file.
    """
    words = [header.description, text_of(dataset, "ProtocolName"), text_of(dataset, "StudyDescription")]
    kind = header.image_type[3] if len(header.image_type) > 3 else ""
    simulated, mean = _SIMULATED.search(header.description), _MEAN.search(header.description)
    equipment = [item for items in values_of(dataset, "ContributingEquipmentSequence") for item in items]
    return Facts(
        mas=_mas(dataset),
        ctdi_vol_mgy=_positive(dataset, "CTDIvol"),
        body_part=_body_part(text_of(dataset, "BodyPartExamined").upper(), words),
        contrast=text_of(dataset, "ContrastBolusAgent").upper() not in _NO_AGENT,
        # A study holds series of several doses, so its description tells of none of them.
        dose=LOW if kind == "SIMULATED" else dose_in_words(words[:2]),
        dose_fraction=float(simulated[1]) or 1.0 if simulated and kind == "SIMULATED" else 1.0,
        average=int(mean[1]) or 1 if mean and kind == "AVERAGED" else 1,
        denoised=kind == "DENOISED"
        or any(text_of(item, "Manufacturer").startswith("iscl_monai") for item in equipment),
        burned_in=text_of(dataset, "BurnedInAnnotation").upper() == "YES",
    )


def dose_in_words(texts: Sequence[str]) -> str:
    """``low`` or ``full`` when the texts say the one and not the other, else ``""``.

    ``low dose``, ``reduced dose``, ``LDCT``, ``LD``; ``full|normal|standard|routine dose``, ``FDCT``, ``NDCT``;
    any case, words apart by anything but letters and digits.
    """
    return _said(texts, _LOW, _FULL)


def dose_in_folders(names: Sequence[str]) -> str:
    """The same of folder names, as in ``1.000000-Low Dose Images-39882``: there LD may be a patient's initials."""
    return _said(names, re.compile(r"\blow dose\b"), re.compile(r"\bfull dose\b"))


def _said(texts: Sequence[str], low: re.Pattern[str], full: re.Pattern[str]) -> str:
    words = " | ".join(re.sub(r"[^a-z0-9]+", " ", text.lower()) for text in texts)
    found = [name for name, pattern in ((LOW, low), (FULL, full)) if pattern.search(words)]
    return found[0] if len(found) == 1 else ""


def _body_part(code: str, texts: Sequence[str]) -> str:
    if _CODE.fullmatch(code):  # what is no DICOM code string may be anything that somebody typed
        return code
    words = set(re.findall(r"[a-z]+", " ".join(texts).lower()))
    return " ".join(part for part, names in BODY_PARTS.items() if words & set(names))


def _mas(dataset: Dataset) -> float | None:
    milliamperes, milliseconds = _positive(dataset, "XRayTubeCurrent"), _positive(dataset, "ExposureTime")
    if milliamperes and milliseconds:
        return milliamperes * milliseconds / 1000
    return _positive(dataset, "Exposure")


def _positive(dataset: Dataset, keyword: str) -> float | None:
    number = number_of(dataset, keyword)
    return number if number and number > 0 else None
