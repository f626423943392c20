"""Whether the values of a series are Hounsfield units: asked of a few of its slices, for every use alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.dicom.rules import doubts
from iscl_monai.dicom.value_statistics import SampledSlice, sample_indices
from iscl_monai.dicom.values import Verdict, check_dicom_values, judge_values
from iscl_monai.errors import DicomRefusal

UNITS = "RescaleType"


def check_hounsfield(headers: Sequence[SliceHeader], sampled: Callable[[int], SampledSlice]) -> str:
    """Refuse a series whose values are not Hounsfield units, or do not prove it where its headers leave it open.

    Args:
        headers: of all its slices, checked by :func:`iscl_monai.dicom.rules.check_slice`.
        sampled: gives a slice by its index in ``headers``: HU, and which pixels are padding.

    Returns:
        What a derived object has to say: which attributes were doubtful, and what the values showed; ``""`` when none
        was.

    Raises:
        DicomRefusal: naming the first file, what its values look like, and the cure.
    """
    doubtful = sorted({doubt for header in headers for doubt in doubts(header)})
    units_are_said = not any(doubt.startswith(UNITS) for doubt in doubtful)
    judgement = judge_values(_slices(headers, sampled), spacing_mm=_spacing(headers[0]))
    if judgement.verdict is Verdict.UNDETERMINED and not units_are_said:
        raise _units_unknown(next(header for header in headers if doubts(header)), judgement.finding)
    check_dicom_values(headers[0].path, judgement, tags_say_hu=units_are_said)
    if not doubtful:
        return ""
    proof = judgement.finding if judgement.verdict is Verdict.PROVEN else "nothing in its values speaks against it"
    return f"Source taken for CT in HU although {', '.join(doubtful)}: {proof}"


def _units_unknown(header: SliceHeader, finding: str) -> DicomRefusal:
    kind = "/".join(header.image_type) or "absent"
    return DicomRefusal(
        header.path,
        tag=UNITS,
        found=f"absent ({header.sop_class_name}, ImageType {kind}), and its values do not prove HU: {finding}",
        needed="HU, or absent in an ORIGINAL single-energy image (PS3.3 C.8.2.1), or values that show air and tissue",
        cure="give the original series; set RescaleType to HU only if its values are known to be HU",
    )


def _slices(headers: Sequence[SliceHeader], sampled: Callable[[int], SampledSlice]) -> Iterable[SampledSlice]:
    return (sampled(index) for index in sample_indices(len(headers)))


def _spacing(header: SliceHeader) -> tuple[float, float] | None:
    return (header.pixel_spacing[0], header.pixel_spacing[1]) if header.pixel_spacing else None
