"""Read one CT series as Hounsfield units with its geometry, or refuse it.

>>> series = read_series("scan/", geometry="volume")  # doctest: +SKIP
>>> series.hu.shape, series.spacing_between_slices_mm  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom import geometry as places
from iscl_monai.dicom import rules
from iscl_monai.dicom.admission import check_hounsfield
from iscl_monai.dicom.copies import without_copies
from iscl_monai.dicom.examine import ReadHeader, Skipped
from iscl_monai.dicom.find import FoundSeries, SeriesFiles, find_series
from iscl_monai.dicom.headers import SliceHeader, read_header
from iscl_monai.dicom.one_pass import OnePass
from iscl_monai.dicom.selection import select_series
from iscl_monai.dicom.value_statistics import SampledSlice
from iscl_monai.errors import ConfigRefusal, DicomRefusal

__all__ = [
    "CTSeries",
    "FoundSeries",
    "Geometry",
    "SeriesFiles",
    "Skipped",
    "estimate_voxels",
    "find_series",
    "read_series",
    "select_series",
]

Geometry = Literal["volume", "slices"]
"""``volume``: one evenly spaced grid, or a refusal. ``slices``: single images, wherever they lie."""

NUMBERS = ("SliceLocation", "XRayTubeCurrent", "Exposure")
"""Elements whose values in every slice are kept beside the header, which reading does not need."""

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class CTSeries:
    """One CT series in slice order.

    Attributes:
        hu: float32 (slice, row, column), Hounsfield units, pixels as stored (never flipped or resampled).
        padded: bool, same shape, True where a pixel is padding outside the scan; None when none is.
        headers: of the source of each slice.
        digests: of the source file of each slice, see :func:`iscl_monai.dicom.headers.digest_of`.
        numbers: for each of :data:`NUMBERS`, its value in each slice, None where it is absent or no number.
        positions_mm: along the slice normal, ascending; for an axial series the patient's z (LPS).
        pixel_spacing_mm: between rows, between columns.
        spacing_between_slices_mm: along the normal, measured; for one slice SliceThickness; None when
            unknown or uneven (``geometry="slices"`` only).
        orientation: direction cosines of a row, then of a column (ImageOrientationPatient), LPS.
        origin: centre of the first pixel of the first slice (ImagePositionPatient), LPS mm.
        affine_lps: 4x4, takes indices (row, column, slice) to LPS mm; sheared under gantry tilt, and for an
            uneven series only the mean step between slices: use ``positions_mm`` there.
        frame_of_reference_uid: ``""`` when absent or without meaning (one per file).
        slice_thickness_mm: None when absent or not the same in all slices.
        kvp: None when absent or not the same in all slices.
        kernel: ConvolutionKernel, which may have several values; empty when absent.
        remark: what derived objects say of doubtful attributes, see :mod:`iscl_monai.dicom.admission`.
    """

    hu: npt.NDArray[np.float32]
    padded: npt.NDArray[np.bool_] | None
    headers: tuple[SliceHeader, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)
    numbers: Mapping[str, tuple[float | None, ...]] = field(repr=False)
    positions_mm: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    spacing_between_slices_mm: float | None
    orientation: tuple[float, ...]
    origin: tuple[float, ...]
    affine_lps: npt.NDArray[np.float64]
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    patient_id: str
    kernel: tuple[str, ...]
    manufacturer: str
    model: str
    kvp: float | None
    slice_thickness_mm: float | None
    description: str
    remark: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The source of each slice."""
        return tuple(header.path for header in self.headers)


def read_series(
    path: Path | str,
    *,
    series_uid: str | None = None,
    geometry: Geometry = "volume",
    z_range_mm: tuple[float, float] | None = None,
) -> CTSeries:
    """Read one CT series, or refuse it in one line that names file, element, value found and needed.

    Each file is opened once, for its header and its pixels (:mod:`iscl_monai.dicom.one_pass`). Slices are ordered by
    position and each is rescaled by its own slope and intercept. When ``RescaleType`` may be absent stands in
    :func:`iscl_monai.dicom.rules.check_slice`.

    Args:
        path: a DICOM file, or a folder that may hold sub-folders, scouts, reports and other files.
        series_uid: which series to read when the folder holds several.
        geometry: ``"volume"`` also demands even spacing without gaps; ``"slices"`` accepts any spacing.
        z_range_mm: keep the slices with lowest <= position <= highest; only their pixels are decoded, and
            only their spacing is judged.

    Returns:
        The series; memory is 4 bytes per voxel (5 when there is padding).

    Raises:
        DicomRefusal: whenever HU or geometry would have to be guessed.
        ConfigRefusal: an unknown ``geometry``, or a ``z_range_mm`` that is no range or holds no slice.
    """
    if geometry not in get_args(Geometry):
        raise ConfigRefusal(f"geometry {geometry!r}", allowed="'volume', 'slices'", cure="give one of these")
    reader = OnePass(series_uid=series_uid, z_range_mm=z_range_mm, numbers=NUMBERS)
    headers, positions_mm = _ordered(path, series_uid, z_range_mm, reader.read)
    places.check_no_duplicates(headers, positions_mm)
    if geometry == "volume":
        places.check_even(headers, positions_mm)
    spacing_mm = _spacing(headers, positions_mm)
    if geometry == "volume" and spacing_mm is None:
        raise DicomRefusal(
            headers[0].path,
            tag="SliceThickness",
            found="absent in a series of one slice",
            needed="a positive thickness in mm",
            cure="read it with geometry='slices'",
        )
    for header in headers:
        rules.check_stored(header)
    return _assemble(headers, positions_mm, spacing_mm, reader)


def estimate_voxels(
    path: Path | str,
    *,
    series_uid: str | None = None,
    z_range_mm: tuple[float, float] | None = None,
) -> tuple[int, int, int]:
    """The shape :func:`read_series` would return, from headers alone.

    Args:
        path: see :func:`read_series`.
        series_uid: see :func:`read_series`.
        z_range_mm: see :func:`read_series`.

    Returns:
        (slices, rows, columns).

    Raises:
        DicomRefusal: as :func:`read_series`, except for what concerns spacing and pixels.
    """
    headers, _ = _ordered(path, series_uid, z_range_mm)
    return len(headers), headers[0].rows or 0, headers[0].columns or 0


def _ordered(
    path: Path | str,
    series_uid: str | None,
    z_range_mm: tuple[float, float] | None,
    read: ReadHeader = read_header,
) -> tuple[list[SliceHeader], places.Floats]:
    headers: Sequence[SliceHeader] = select_series(path, series_uid, read).headers
    for header in headers:
        rules.check_slice(header)
    headers, _ = without_copies(headers)
    rules.check_together(headers)
    ordered, positions_mm = places.sort_slices(headers)
    if z_range_mm is not None:
        kept = places.within(positions_mm, z_range_mm, path)
        ordered, positions_mm = [ordered[index] for index in kept], positions_mm[kept]
    return ordered, positions_mm


def _spacing(headers: Sequence[SliceHeader], positions_mm: places.Floats) -> float | None:
    if len(headers) == 1:
        thickness = headers[0].slice_thickness
        return thickness if thickness and thickness > 0 else None
    if places.uneven_gap(positions_mm) is not None:
        return None
    return float(positions_mm[-1] - positions_mm[0]) / (len(headers) - 1)


def _voxels(
    headers: Sequence[SliceHeader], reader: OnePass
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None, tuple[bytes, ...]]:
    shape = (len(headers), headers[0].rows or 0, headers[0].columns or 0)
    hu = np.empty(shape, np.float32)
    padded: npt.NDArray[np.bool_] | None = None
    digests = []
    for index, header in enumerate(headers):
        slice_, digest = reader.take(header)
        slice_.hu(hu[index])
        if slice_.padded is not None:
            padded = np.zeros(shape, np.bool_) if padded is None else padded
            padded[index] = slice_.padded
        digests.append(digest)
    return hu, padded, tuple(digests)


def _assemble(
    headers: Sequence[SliceHeader], positions_mm: places.Floats, spacing_mm: float | None, reader: OnePass
) -> CTSeries:
    hu, padded, digests = _voxels(headers, reader)

    def sampled(index: int) -> SampledSlice:
        return hu[index], None if padded is None else padded[index]

    first = headers[0]
    rows_mm, columns_mm = first.pixel_spacing or (0.0, 0.0)
    return CTSeries(
        hu=hu,
        padded=padded,
        headers=tuple(headers),
        digests=digests,
        numbers={keyword: tuple(reader.number(header, keyword) for header in headers) for keyword in NUMBERS},
        positions_mm=tuple(positions_mm.tolist()),
        pixel_spacing_mm=(rows_mm, columns_mm),
        spacing_between_slices_mm=spacing_mm,
        orientation=first.orientation or (),
        origin=first.position or (),
        affine_lps=places.affine_lps(headers, positions_mm, spacing_mm),
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        frame_of_reference_uid=rules.frame_of_reference(headers) or "",
        patient_id=first.patient_id,
        kernel=first.kernel,
        manufacturer=first.manufacturer,
        model=first.model,
        kvp=_common([header.kvp for header in headers]),
        slice_thickness_mm=_common([header.slice_thickness for header in headers]),
        description=first.description,
        remark=check_hounsfield(headers, sampled),
    )


def _common(values: Sequence[Value | None]) -> Value | None:
    return values[0] if len(set(values)) == 1 else None
