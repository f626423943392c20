"""What a series must be for a denoiser, beyond what it must be for a reader."""

from __future__ import annotations

from collections.abc import Sequence

from iscl_monai.dicom.headers import SliceHeader
from iscl_monai.errors import DicomRefusal
from iscl_monai.inference.slice_denoiser import LARGEST_PX, SMALLEST_PX


def check_one_kind(headers: Sequence[SliceHeader]) -> None:
    """Refuse original and derived images under one SeriesInstanceUID.

    Raises:
        DicomRefusal: for more than one first value of ImageType.
    """
    kinds = {header.image_type[:1] for header in headers}
    if len(kinds) > 1:
        raise DicomRefusal(
            headers[0].path,
            tag="ImageType",
            found=f"{' and '.join(sorted('/'.join(kind) or 'absent' for kind in kinds))} within one series",
            needed="one kind of image per series",
            cure="take the derived images out of the folder",
        )


def check_size(header: SliceHeader) -> None:
    """Refuse slices that no network here can work on.

    Raises:
        DicomRefusal: for other sizes than 16 to 4096 pixels each way.
    """
    for tag, pixels in (("Rows", header.rows or 0), ("Columns", header.columns or 0)):
        if not SMALLEST_PX <= pixels <= LARGEST_PX:
            raise DicomRefusal(
                header.path,
                tag=tag,
                found=pixels,
                needed=f"{SMALLEST_PX} to {LARGEST_PX}",
                cure="give the original images",
            )


def check_identity(header: SliceHeader) -> None:
    """Refuse an image that a derived one cannot name as its source.

    Raises:
        DicomRefusal: without a SOPInstanceUID.
    """
    if not header.sop_instance_uid:
        raise DicomRefusal(
            header.path,
            tag="SOPInstanceUID",
            found="absent, in the file meta information too",
            needed="a UID that the derived image can name as its source",
            cure="export the series again",
        )
