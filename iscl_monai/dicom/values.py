"""Are these Hounsfield units? The one place that looks at voxel values instead of believing what is said of them.

Physics tells: the air around a body lies at -1000 HU, nothing lies far below it, soft tissue and fat lie within 200 HU
of water, and noise moves neighbouring pixels by some HU, not by thousands. A few slices are enough to see all that:

>>> judgement = judge_values([(hu, None) for hu in slices], spacing_mm=(0.7, 0.7))  # doctest: +SKIP
>>> check_image_values("scan.nii", judgement, trust_hu=False)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from iscl_monai.dicom.value_faults import (
    AIR_HU,
    GIVE_HU,
    TISSUE_HU,
    explaining_mistake,
    find_fault,
    shows_air_and_tissue,
    spreads_as_no_tissue,
)
from iscl_monai.dicom.value_statistics import Floats, SampledSlice, ValueStatistics, measure
from iscl_monai.errors import DicomRefusal, ImageRefusal

LEAST_PIXELS = 700
NEEDED = "Hounsfield units: air near -1000, water near 0"
TRUST_HU = "vouch for them by --trust-hu (trust_hu=True), e.g. for a crop within the body, where air cannot be seen"


class Verdict(str, Enum):
    """What the values say."""

    PROVEN = "proven"
    CONTRADICTED = "contradicted"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether values are Hounsfield units.

    Attributes:
        verdict: proven, contradicted, or undetermined: nothing speaks against it, but air and tissue cannot be seen.
        finding: what was seen, in words: the proof for a derivation description, or what contradicts.
        cure: what to do about it; empty when proven.
    """

    verdict: Verdict
    finding: str
    cure: str = ""

    @property
    def proof(self) -> str:
        """The finding, where it proves Hounsfield units; else empty."""
        return self.finding if self.verdict is Verdict.PROVEN else ""


def judge_values(slices: Iterable[SampledSlice], *, spacing_mm: Sequence[float] | None = None) -> Judgement:
    """Judge a few slices of one scan, e.g. those of :func:`~iscl_monai.dicom.value_statistics.sample_indices`.

    Args:
        slices: HU (row, column) float32 as the file's own rules give them, and True where a pixel is padding, or None.
        spacing_mm: between rows, between columns; None when unknown: then the field counts as small.

    Returns:
        The judgement; about 10 ms per slice of 512x512.
    """
    return judge_statistics(measure(slices, spacing_mm))


def judge_statistics(values: ValueStatistics) -> Judgement:
    """As :func:`judge_values`, for statistics that have been measured."""
    if values.valid < LEAST_PIXELS or values.mean_hu.size == 0:
        return _undetermined(f"{values.valid} pixels that are no padding, too few to tell")
    if values.pixels[0] == values.pixels[-1]:
        return _undetermined(f"nothing but {values.pixels[0]:g}")
    fault = find_fault(values)
    if fault is not None:
        return Judgement(verdict=Verdict.CONTRADICTED, finding=fault.finding, cure=fault.cure)
    proven = _proof(values)
    if proven is not None:
        return proven
    mistake = explaining_mistake(values)
    return _undetermined(_not_seen(values), GIVE_HU if mistake is None else mistake.cure)


def check_image_values(path: object, judgement: Judgement, *, trust_hu: bool) -> None:
    """Refuse a volume whose values are not, or cannot be seen to be, Hounsfield units; its file does not say.

    Args:
        path: of the NIfTI, MetaImage or NRRD file, for the refusal.
        judgement: of its values.
        trust_hu: somebody vouches that it is HU, e.g. a crop within the body: undetermined values are accepted.

    Raises:
        ImageRefusal: what was found, and the cure.
    """
    if _accepted(judgement, vouched=trust_hu):
        return
    raise ImageRefusal(f"{path}: {judgement.finding}", allowed=NEEDED, cure=judgement.cure)


def check_dicom_values(path: object, judgement: Judgement, *, tags_say_hu: bool) -> None:
    """Refuse a DICOM series whose values are not Hounsfield units, or cannot be seen to be where its tags do not say.

    Args:
        path: the first file of the series, for the refusal.
        judgement: of its values.
        tags_say_hu: RescaleType is HU, or absent in an ORIGINAL single-energy image (PS3.3 C.8.2.1): undetermined
            values are accepted. False for derived images without RescaleType: only a proof is.

    Raises:
        DicomRefusal: naming PixelData, what was found in it, and the cure.
    """
    if _accepted(judgement, vouched=tags_say_hu):
        return
    cure = judgement.cure
    if judgement.verdict is Verdict.UNDETERMINED:
        cure = "give the original series; set RescaleType to HU only if its values are known to be HU"
    raise DicomRefusal(path, tag="PixelData", found=judgement.finding, needed=NEEDED, cure=cure)


def _accepted(judgement: Judgement, *, vouched: bool) -> bool:
    return judgement.verdict is Verdict.PROVEN or (vouched and judgement.verdict is Verdict.UNDETERMINED)


def _proof(values: ValueStatistics) -> Judgement | None:
    seen = sum(_shows_both(means) for means in values.slice_mean_hu)
    if seen == 0 or not shows_air_and_tissue(values) or spreads_as_no_tissue(values):
        return None
    return Judgement(
        verdict=Verdict.PROVEN,
        finding=f"{_seen(values)}, both in {seen} of {len(values.slice_mean_hu)} slices looked at",
    )


def _shows_both(means: Floats) -> bool:
    shares = [np.mean((means >= lowest) & (means < highest)) for lowest, highest in (AIR_HU, TISSUE_HU)]
    return bool(min(shares) > 0.005) if means.size else False


def _seen(values: ValueStatistics) -> str:
    """Air and soft tissue, as far as they are there."""
    parts = []
    for name, within in (("air", AIR_HU), ("soft tissue", (-20.0, 120.0)), ("fat", (-150.0, -50.0))):
        if values.share(*within) > 0.01:
            parts.append(f"{name} at {values.median_hu(*within):.0f} HU")
    return ", ".join(parts)


def _not_seen(values: ValueStatistics) -> str:
    """Why it is no proof."""
    seen = _seen(values)
    field = "" if values.field_mm is None else f" in a field of {values.field_mm:.0f} mm"
    if values.share(*AIR_HU) < 0.01:
        return f"{seen or 'no soft tissue'} but no air near -1000 HU{field}, so the values may or may not be HU"
    if values.share(*TISSUE_HU) < 0.03:
        return f"{seen or 'no air'} but no soft tissue near 0 HU{field}, so the values may or may not be HU"
    return f"{seen}, but values spread as those of tissue in CT do not{field}, so they may or may not be HU"


def _undetermined(finding: str, cure: str = GIVE_HU) -> Judgement:
    return Judgement(verdict=Verdict.UNDETERMINED, finding=finding, cure=f"{cure}, or {TRUST_HU}")
