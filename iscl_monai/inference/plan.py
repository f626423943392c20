"""What of a folder is denoised, what is skipped and why: decided from headers, before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iscl_monai.dicom import geometry, rules
from iscl_monai.dicom.derivation import DENOISED_KIND, DENOISED_TITLE
from iscl_monai.dicom.enhanced import EnhancedImage, open_enhanced
from iscl_monai.dicom.find import LOCALIZER, FoundSeries, Skipped, find_series
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader
from iscl_monai.dicom.images import is_image_file
from iscl_monai.dicom.residual import RESIDUAL_KIND, RESIDUAL_TITLE
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.slice_denoiser import LARGEST_PX, SMALLEST_PX

OUR_KINDS = ((DENOISED_KIND,), (RESIDUAL_KIND,))
OUR_TITLES = (DENOISED_TITLE, RESIDUAL_TITLE)


@dataclass(frozen=True)
class ClassicSeries:
    """A series of single-frame CT images whose headers have been checked.

    Attributes:
        headers: in slice order (position along the normal, ascending).
    """

    headers: tuple[SliceHeader, ...]

    @property
    def title(self) -> str:
        """SeriesDescription, for people."""
        return self.headers[0].description or "no description"

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.headers)


@dataclass(frozen=True)
class MultiFrame:
    """One Enhanced CT file whose header has been checked."""

    image: EnhancedImage

    @property
    def title(self) -> str:
        """SeriesDescription, for people."""
        return self.image.description or "no description"

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


def plan(source: Path, *, series_uid: str | None = None, skip_refused: bool = False) -> Plan:
    """Decide what to denoise: every original axial CT series.

    Args:
        source: a DICOM file or folder.
        series_uid: only this SeriesInstanceUID, which then may be derived (but not by us).
        skip_refused: set series aside that would be refused, instead of refusing everything.

    Raises:
        DicomRefusal: a series that cannot be denoised without guessing, damaged files that may be lost slices, or
            nothing to denoise.
    """
    found = find_series(source)
    skipped = list(found.skipped)
    refused = [_damaged(one) for one in found.skipped if one.damaged]
    accepted: list[Source] = []
    groups: list[tuple[SliceHeader, ...]] = [files.headers for files in found.series]
    for headers in [*groups, *((header,) for header in found.multiframe)]:
        reason = _reason_to_skip(headers, series_uid)
        if reason:
            skipped += [Skipped(header.path, reason, header.series_uid) for header in headers]
            continue
        judged = _may_lack_a_slice(headers, found) or _judged(headers)
        if isinstance(judged, DicomRefusal):
            refused.append(judged)
        else:
            accepted.append(judged)
    if refused and not skip_refused:
        raise refused[0]
    if not accepted:
        raise refused[0] if refused else _nothing(source, series_uid, FoundSeries((), tuple(skipped)))
    return Plan(tuple(accepted), tuple(skipped), tuple(refused))


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


def _judged(headers: Sequence[SliceHeader]) -> Source | DicomRefusal:
    try:
        if headers[0].sop_class in MULTIFRAME_CT:
            _check_size(headers[0])
            return MultiFrame(open_enhanced(headers[0].path))
        return _checked(headers)
    except DicomRefusal as refusal:
        return refusal


def _checked(headers: Sequence[SliceHeader]) -> ClassicSeries:
    for header in headers:
        rules.check_slice(header)
        _check_size(header)
        _check_identity(header)
    rules.check_together(headers)
    kinds = {header.image_type[:1] for header in headers}
    if len(kinds) > 1:
        raise DicomRefusal(
            headers[0].path,
            tag="ImageType",
            found=f"{' and '.join(sorted('/'.join(kind) or 'absent' for kind in kinds))} within one series",
            needed="one kind of image per series",
            cure="take the derived images out of the folder",
        )
    ordered, positions_mm = geometry.sort_slices(headers)
    geometry.check_no_duplicates(ordered, positions_mm)
    return ClassicSeries(tuple(ordered))


def _check_size(header: SliceHeader) -> None:
    for tag, pixels in (("Rows", header.rows or 0), ("Columns", header.columns or 0)):
        if not SMALLEST_PX <= pixels <= LARGEST_PX:
            raise DicomRefusal(
                header.path,
                tag=tag,
                found=pixels,
                needed=f"{SMALLEST_PX} to {LARGEST_PX}",
                cure="give the original images",
            )


def _check_identity(header: SliceHeader) -> None:
    if not header.sop_instance_uid:
        raise DicomRefusal(
            header.path,
            tag="SOPInstanceUID",
            found="absent, in the file meta information too",
            needed="a UID that the derived image can name as its source",
            cure="export the series again",
        )


def _may_lack_a_slice(headers: Sequence[SliceHeader], found: FoundSeries) -> DicomRefusal | None:
    """A file that is set aside though it may be a slice of the series.

    That is one of the same SeriesInstanceUID that is no scout; and a damaged one that says nothing, beside the series,
    or a folder that cannot be opened, anywhere.
    """
    if headers[0].sop_class in MULTIFRAME_CT:
        return None
    folders = {header.path.parent for header in headers}
    for one in found.skipped:
        same = one.series_uid == headers[0].series_uid != "" and one.reason != LOCALIZER
        nameless = one.damaged and not one.series_uid and (one.path.parent in folders or one.path.is_dir())
        if same or nameless:
            return DicomRefusal(
                headers[0].path,
                tag="SeriesInstanceUID",
                found=f"of a series that may be incomplete: {one.path} is set aside ({one.reason})",
                needed="every slice of the series",
                cure="copy that file again from the source if it is damaged, or take it out of the folder",
            )
    return None


def _damaged(skipped: Skipped) -> DicomRefusal:
    return DicomRefusal(
        skipped.path,
        tag="file",
        found=f"damaged: {skipped.reason}",
        needed="a DICOM file that can be read to its end",
        cure="it may be a slice of a series: copy it again from the source, or take it out of the folder",
    )


def _nothing(source: Path, series_uid: str | None, found: FoundSeries) -> DicomRefusal:
    cure = "check the UID" if series_uid is not None else "give the folder that holds the CT slices"
    if series_uid is None and any(one.reason.startswith("DERIVED") for one in found.skipped):
        cure = "name a derived series with --series UID, if it is the one you mean"
    elif any(is_image_file(one.path) for one in found.skipped):
        cure = "give the NIfTI file itself"
    return DicomRefusal(
        source,
        tag="SeriesInstanceUID",
        found=f"{series_uid or 'of no original axial CT series'} (skipped: {found.reasons()})",
        needed="at least one original axial CT series in Hounsfield units",
        cure=cure,
    )


def folder_names(series: Sequence[Source]) -> tuple[str, ...]:
    """Where each series goes within the output: the output itself for one, a folder of its own for each of several."""
    if len(series) == 1:
        return ("",)
    width = len(str(len(series)))
    return tuple(f"{index + 1:0{width}d}_{_plain(one.title)}" for index, one in enumerate(series))


def _plain(text: str) -> str:
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)
    return "_".join(part for part in kept.split("_") if part)[:40] or "series"
