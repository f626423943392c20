"""Whether a series is all there: no file beside it that may be a slice of it and is none of its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iscl_monai.dicom.examine import Skipped
from iscl_monai.dicom.headers import MULTIFRAME_CT, SliceHeader
from iscl_monai.errors import DicomRefusal


def check_whole(headers: Sequence[SliceHeader], skipped: Iterable[Skipped]) -> None:
    """Refuse a series beside which a file is set aside that may be a slice of it.

    That is a damaged one, or one that contradicts itself, of the same SeriesInstanceUID; such a one without a
    SeriesInstanceUID in the same folder; and a folder that cannot be opened, anywhere.

    Args:
        headers: of one series, or one multi-frame image, which is whole by itself.
        skipped: what else was found.

    Raises:
        DicomRefusal: naming that file.
    """
    if headers[0].sop_class in MULTIFRAME_CT:
        return
    folders = {header.path.parent for header in headers}
    for one in skipped:
        of_the_series = one.series_uid == headers[0].series_uid != ""
        nameless = not one.series_uid and (one.path.parent in folders or one.path.is_dir())
        if (one.damaged or one.contradictory) and (of_the_series or nameless):
            raise DicomRefusal(
                headers[0].path,
                tag="SeriesInstanceUID",
                found=f"of a series that may be incomplete: {one.path} is set aside ({one.reason})",
                needed="every slice of the series",
                cure="copy that file again from the source if it is damaged, or take it out of the folder",
            )
