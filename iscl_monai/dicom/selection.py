"""The one CT series under a path that somebody means."""

from __future__ import annotations

from pathlib import Path

from iscl_monai.dicom.examine import ReadHeader
from iscl_monai.dicom.find import SeriesFiles, find_series
from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.dicom.wholeness import check_whole
from iscl_monai.errors import DicomRefusal


def select_series(path: Path | str, series_uid: str | None = None, read: ReadHeader = read_header) -> SeriesFiles:
    """The one candidate series under a path, or the one asked for.

    Args:
        path: a file or folder, see :func:`find_series`.
        series_uid: SeriesInstanceUID, needed when there are several candidates.
        read: see :func:`examine`.

    Returns:
        The series; its pixels are not looked at.

    Raises:
        DicomRefusal: no candidate, only multi-frame images, several candidates without a choice, no such UID,
            damaged DICOM files nearby, or a file set aside that may be a slice of the series.
    """
    found = find_series(path, read, series_uid=series_uid)
    for skipped in found.skipped:
        if skipped.damaged:
            raise DicomRefusal(
                skipped.path,
                tag="header",
                found=skipped.reason,
                needed="a DICOM file that can be read to its end",
                cure="it may be a slice of the series: copy it again from the source, or remove it",
            )
    chosen = [one for one in found.series if series_uid is None or one.uid == series_uid]
    if len(chosen) > 1 and series_uid is None:
        chosen = [one for one in chosen if one.image_type[2:3] in ((), ("",), ("AXIAL",))] or chosen
    if len(chosen) == 1:
        check_whole(chosen[0].headers, found.skipped)
        return chosen[0]
    for header in found.multiframe:
        if header.series_uid == series_uid or not (found.series or series_uid):
            raise _multiframe_is_no_series(header)
    if not found.series:
        raise DicomRefusal(
            path,
            tag="SeriesInstanceUID",
            found=f"of no axial CT series (skipped: {found.reasons()})",
            needed="one series of single-frame axial CT images",
            cure="give the folder that holds the CT slices",
        )
    listed = "; ".join(f"{one.uid or one.files[0].parent} ({_title(one)})" for one in found.series)
    raise DicomRefusal(
        path,
        tag="SeriesInstanceUID",
        found=f"{series_uid or 'not chosen'} among {len(found.series)}: {listed}",
        needed="exactly one of these series",
        cure="give series_uid=<one of these UIDs>, or the folder or file of one series",
    )


def _multiframe_is_no_series(header: SliceHeader) -> DicomRefusal:
    return DicomRefusal(
        header.path,
        tag="SeriesInstanceUID",
        found=f"of a multi-frame image ({header.sop_class_name}, {header.frames} frames)",
        needed="one series of single-frame axial CT images",
        cure="open it with iscl_monai.dicom.enhanced.open_enhanced, or export it as single-frame CT",
    )


def _title(series: SeriesFiles) -> str:
    return f"{series.description or 'no description'}, {len(series.files)} files"
