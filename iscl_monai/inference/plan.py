"""What of a folder is denoised, what is skipped and why: decided from headers, before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from iscl_monai.dicom import geometry, rules
from iscl_monai.dicom.admission import check_hounsfield
from iscl_monai.dicom.copies import without_copies
from iscl_monai.dicom.derivation import DENOISED_KIND, DENOISED_TITLE
from iscl_monai.dicom.enhanced import EnhancedImage, open_enhanced
from iscl_monai.dicom.examine import Skipped
from iscl_monai.dicom.find import FoundSeries, find_series
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader
from iscl_monai.dicom.images import is_image_file
from iscl_monai.dicom.pixels import decode_slice, read_content
from iscl_monai.dicom.residual import RESIDUAL_KIND, RESIDUAL_TITLE
from iscl_monai.dicom.value_statistics import Floats, SampledSlice
from iscl_monai.dicom.wholeness import check_whole
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.familiarity import NOT_COMPARED, Comparison, TrainingRecord, in_short
from iscl_monai.inference.header_names import HeaderNames
from iscl_monai.inference.naming import title_of, told_apart
from iscl_monai.inference.plan_rules import check_identity, check_one_kind, check_size
from iscl_monai.quality.familiarity import geometry_of

MOST_KEPT_BYTES = 16 * 2**20
"""Of the files of a series that are read before it is denoised: nine slices in 16 bits are 5 MB."""
OUR_KINDS = ((DENOISED_KIND,), (RESIDUAL_KIND,))
OUR_TITLES = (DENOISED_TITLE, RESIDUAL_TITLE)


@dataclass(frozen=True)
class ClassicSeries:
    """A series of single-frame CT images whose headers have been checked.

    Attributes:
        headers: in the order in which they go out, see :func:`iscl_monai.dicom.geometry.reading_order`.
        remark: what the derived objects say about doubtful attributes of the source, and in what it is unlike the
            training; ``""`` when there is nothing to say.
        comparison: of it with the training of the weights.
        contents: bytes of some of the files, which have been read already; taken out when their slice is denoised.
        beside: what tells it from series of the same description that are denoised with it.
    """

    headers: tuple[SliceHeader, ...]
    remark: str = ""
    comparison: Comparison = NOT_COMPARED
    contents: dict[Path, bytes] = field(default_factory=dict, repr=False, compare=False)
    beside: str = ""

    @property
    def title(self) -> str:
        """SeriesDescription, for people, and what else tells it from others."""
        return title_of(self.headers[0]) + self.beside

    @property
    def place(self) -> Path:
        """The folder of its first slice."""
        return self.headers[0].path.parent

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.headers)


@dataclass(frozen=True)
class MultiFrame:
    """One Enhanced CT file whose header has been checked; attributes as of :class:`ClassicSeries`."""

    image: EnhancedImage
    remark: str = ""
    comparison: Comparison = NOT_COMPARED
    beside: str = ""

    @property
    def title(self) -> str:
        """SeriesDescription, for people, and what else tells it from others."""
        return title_of(self.image.header) + self.beside

    @property
    def place(self) -> Path:
        """The file."""
        return self.image.path

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.image.frames


Source = ClassicSeries | MultiFrame


@dataclass(frozen=True)
class Plan:
    """Everything found, sorted: each file is in a series, skipped with a reason, or belongs to a refused series."""

    series: tuple[Source, ...]
    skipped: tuple[Skipped, ...]
    refused: tuple[DicomRefusal, ...] = ()


def plan(
    source: Path, *, series_uid: str | None = None, strict: bool = False, training: TrainingRecord | None = None
) -> Plan:
    """Decide what to denoise: every original axial CT series.

    Every image is denoised by itself, so a series need not be a volume: phases, a bolus that is watched, and ranges
    with other fields of view go out as they came. A series that is refused does not hold up the others.

    Args:
        source: a DICOM file or folder.
        series_uid: only this SeriesInstanceUID, which then may be derived (but not by us) or reformatted.
        strict: refuse everything when anything is refused.
        training: of the weights that shall denoise it; None: series are compared with none.

    Raises:
        DicomRefusal: nothing to denoise, or, if ``strict``, a series that cannot be denoised without guessing or
            damaged files that may be lost slices.
    """
    found = find_series(source, series_uid=series_uid)
    skipped = list(found.skipped)
    refused = [damaged_file(one) for one in found.skipped if one.damaged]
    accepted: list[Source] = []
    for decision in decisions(found, series_uid=series_uid, training=training):
        skipped += decision.skipped
        if isinstance(decision.outcome, DicomRefusal):
            refused.append(decision.outcome)
        elif decision.outcome is not None:
            accepted.append(decision.outcome)
    if refused and strict:
        raise refused[0]
    if not accepted:
        raise refused[0] if refused else _nothing(source, series_uid, FoundSeries((), tuple(skipped)))
    beside = told_apart([one.image.header if isinstance(one, MultiFrame) else one.headers[0] for one in accepted])
    named = tuple(replace(one, beside=words) for one, words in zip(accepted, beside, strict=True))
    return Plan(named, tuple(skipped), tuple(refused))


@dataclass(frozen=True)
class Decision:
    """What becomes of files that claim to be one series, or of one multi-frame file.

    Attributes:
        headers: of all of them.
        outcome: what can be denoised, or why it is refused; None: all of it is skipped.
        skipped: those that are not in it, with the reasons.
    """

    headers: tuple[SliceHeader, ...]
    outcome: Source | DicomRefusal | None
    skipped: tuple[Skipped, ...] = ()


def decisions(
    found: FoundSeries, *, series_uid: str | None = None, training: TrainingRecord | None = None
) -> Iterator[Decision]:
    """Decide about one series after the other.

    Args:
        found: candidates, and what else lies beside them.
        series_uid: see :func:`plan`.
        training: see :func:`plan`.
    """
    groups: list[tuple[SliceHeader, ...]] = [files.headers for files in found.series]
    for headers in [*groups, *((header,) for header in found.multiframe)]:
        reason = _reason_to_skip(headers, series_uid)
        if reason:
            yield Decision(headers, None, tuple(_set_aside(header, reason) for header in headers))
            continue
        try:
            check_whole(headers, found.skipped)
            accepted, left_aside = _accepted_series(headers, training)
            yield Decision(headers, accepted, tuple(left_aside))
        except DicomRefusal as refusal:
            yield Decision(headers, refusal)


def _reason_to_skip(headers: Sequence[SliceHeader], series_uid: str | None) -> str:
    if series_uid is not None and headers[0].series_uid != series_uid:
        return "another series than the one asked for"
    if any(_is_ours(header) for header in headers):
        return "already processed by iscl_monai"
    if all(header.image_type[:1] == ("DERIVED",) for header in headers) and series_uid is None:
        return "DERIVED, not an original series (name its UID with --series to denoise it all the same)"
    return ""


def _is_ours(header: SliceHeader) -> bool:
    # Multi-frame images cannot say so in ImageType.
    return header.image_type[3:4] in OUR_KINDS or header.description.endswith(OUR_TITLES)


def _accepted_series(headers: Sequence[SliceHeader], training: TrainingRecord | None) -> tuple[Source, list[Skipped]]:
    """A series that can be denoised, and its files that are no images of it."""
    if headers[0].sop_class in MULTIFRAME_CT:
        check_size(headers[0])
        return _multi_frame(open_enhanced(headers[0].path), training), []
    for header in headers:
        rules.check_slice(header)
        rules.check_stored(header)
        check_size(header)
        check_identity(header)
    images, left_aside = _without_reference_images(headers)
    images, copies = without_copies(images)
    left_aside += [_set_aside(copy, f"the same image again as {original.path.name}") for copy, original in copies]
    rules.check_one_patient(images)
    check_one_kind(images)
    return _classic_series(tuple(geometry.reading_order(images)), training), left_aside


def _classic_series(headers: tuple[SliceHeader, ...], training: TrainingRecord | None) -> ClassicSeries:
    """A series whose values have been looked at; what was read of its files for that is kept, as far as it is small."""
    contents: dict[Path, bytes] = {}

    def sampled(index: int) -> SampledSlice:
        content = read_content(headers[index])
        if sum(map(len, contents.values())) + len(content) <= MOST_KEPT_BYTES:
            contents[headers[index].path] = content
        slice_, _ = decode_slice(headers[index], content)
        return slice_.hu(), slice_.padded

    return ClassicSeries(headers, *_remark_and_comparison(headers, sampled, training), contents)


def _multi_frame(image: EnhancedImage, training: TrainingRecord | None) -> MultiFrame:
    def sampled(index: int) -> SampledSlice:
        slice_ = image.frame(index)
        return slice_.hu(), slice_.padded

    return MultiFrame(image, *_remark_and_comparison(image.frame_headers, sampled, training))


def _remark_and_comparison(
    headers: Sequence[SliceHeader], sampled: Callable[[int], SampledSlice], training: TrainingRecord | None
) -> tuple[str, Comparison]:
    """Remark of a series, and its comparison with the training: what is read to prove its values is compared, too."""
    slices_hu: list[Floats] = []

    def kept(index: int) -> SampledSlice:
        hu, padded = sampled(index)
        if training is not None:
            slices_hu.append(hu)
        return hu, padded

    remark = check_hounsfield(headers, kept)
    if training is None:
        return remark, NOT_COMPARED
    geometry = geometry_of((header.pixel_spacing for header in headers), (header.slice_thickness for header in headers))
    compared = training.compare(slices_hu, geometry, HeaderNames.of(headers))
    remarks = ". ".join(filter(None, (remark, in_short(compared.unlike))))
    return remarks, compared


def _without_reference_images(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Skipped]]:
    across = geometry.across_most(headers)
    odd = [header for header, is_across in zip(headers, across, strict=True) if is_across]
    kept = [header for header, is_across in zip(headers, across, strict=True) if not is_across]
    reason = f"across the other {len(kept)} images of its series: a reference image or scout"
    return kept, [_set_aside(header, reason) for header in odd]


def _set_aside(header: SliceHeader, reason: str) -> Skipped:
    return Skipped(header.path, reason, header.series_uid)


def damaged_file(skipped: Skipped) -> DicomRefusal:
    """Why a damaged file, which may be a slice, is refused."""
    return DicomRefusal(
        skipped.path,
        tag="file",
        found=f"damaged: {skipped.reason}",
        needed="a DICOM file that can be read to its end",
        cure="it may be a slice of a series: copy it again from the source, or take it out of the folder",
    )


def _nothing(source: Path, series_uid: str | None, found: FoundSeries) -> DicomRefusal:
    cure = "check the UID" if series_uid is not None else "give the folder that holds the CT slices"
    of_the_series = [one for one in found.skipped if one.series_uid == series_uid]
    if series_uid is not None and of_the_series:
        found = FoundSeries((), tuple(of_the_series))
        cure = "give another series: this one holds no CT slices that can be denoised"
    elif series_uid is None and any(one.reason.startswith("DERIVED") for one in found.skipped):
        uids = sorted({one.series_uid for one in found.skipped if one.reason.startswith("DERIVED")})
        more = f" (or one of {len(uids) - 1} others)" if len(uids) > 1 else ""
        cure = f"name a derived series, if it is the one you mean: --series {uids[0]}{more}"
    elif any(is_image_file(one.path) for one in found.skipped):
        cure = "give the NIfTI file itself"
    return DicomRefusal(
        source,
        tag="SeriesInstanceUID",
        found=f"{series_uid or 'of no original axial CT series'} (skipped: {found.reasons()})",
        needed="at least one original axial CT series in Hounsfield units",
        cure=cure,
    )
