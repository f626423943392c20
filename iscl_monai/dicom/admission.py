"""Whether the values of a series are Hounsfield units: asked of a few of its slices, for every use alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.dicom.rules import doubts, units_are_said
from iscl_monai.dicom.value_statistics import SampledSlice, sample_indices
from iscl_monai.dicom.values import Verdict, check_dicom_values, judge_values
from iscl_monai.errors import DicomRefusal


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
    silent = [header for header in headers if not units_are_said(header)]
    samples = (sampled(index) for index in sample_indices(len(headers)))
    judgement = judge_values(samples, spacing_mm=headers[0].pixel_spacing)
    if judgement.verdict is Verdict.UNDETERMINED and silent:
        raise _units_unknown(silent[0], judgement.finding)
    check_dicom_values(headers[0].path, judgement, tags_say_hu=not silent)
    if not doubtful:
        return ""
    proof = judgement.finding if judgement.verdict is Verdict.PROVEN else "nothing in its values speaks against it"
    return f"Source taken for CT in HU although {', '.join(doubtful)}: {proof}"


def _units_unknown(header: SliceHeader, finding: str) -> DicomRefusal:
    kind = "/".join(header.image_type) or "absent"
    return DicomRefusal(
        header.path,
        tag="RescaleType",
        found=f"absent ({header.sop_class_name}, ImageType {kind}), and its values do not prove HU: {finding}",
        needed="HU, or absent in an ORIGINAL single-energy image (PS3.3 C.8.2.1), or values that show air and tissue",
        cure="give the original series; set RescaleType to HU only if its values are known to be HU",
    )
