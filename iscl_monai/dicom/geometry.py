"""Where the slices of a series lie in the patient: order, gaps, and the affine (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iscl_monai.errors import ConfigRefusal, DicomRefusal

if TYPE_CHECKING:  # training compares places without any DICOM library
    from iscl_monai.dicom.headers import SliceHeader

Floats = npt.NDArray[np.float64]

SAME_PLACE_MM = 0.01
"""Slices closer than this are the same place twice; the thinnest CT slices are 0.1 mm and more apart."""

GAP_TOLERANCE = 0.05
GAP_TOLERANCE_MM = 0.11
"""A gap may differ from the usual one, and a slice from its place in an even stack, by 5 % of the gap or by
0.11 mm: some scanners round positions to 0.1 mm. A missing slice doubles the gap and can not hide in that."""

ALIGNED_MM = 0.1
"""Images whose voxels lie no further apart are voxel by voxel at the same place."""


def corners_apart_mm(one: Floats, other: Floats, shape: Sequence[int]) -> float:
    """How far apart two images of one shape lie: the largest distance along an axis between corners of the same index.

    Args:
        one: 4x4, takes voxel indices to mm.
        other: likewise, of the same index order and axes in mm.
        shape: of both, three numbers.
    """
    ends = [(0, length - 1) for length in shape]
    corners = np.array([[*corner, 1] for corner in itertools.product(*ends)], float)
    return float(np.abs(corners @ (one - other).T).max())


def slice_normal(orientation: Sequence[float]) -> Floats:
    """Unit vector across the slices, pointing toward positive patient coordinates.

    The sign is chosen so that the largest component is positive: for an axial series positions then are
    the patient's z (toward the head) and slices ascend, whichever way rows and columns run.

    Args:
        orientation: ImageOrientationPatient, 6 direction cosines.

    Returns:
        Shape (3,), LPS.
    """
    normal: Floats = np.cross(orientation[:3], orientation[3:])
    normal /= np.linalg.norm(normal)
    normal *= np.sign(normal[np.abs(normal).argmax()])
    return normal


def sort_slices(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], Floats]:
    """Sort by the projection of ImagePositionPatient on the slice normal; file names and numbers are ignored.

    Args:
        headers: of one series, checked by :mod:`iscl_monai.dicom.rules`.

    Returns:
        The sorted headers and their positions along the normal in mm, ascending.
    """
    positions = np.array([header.position for header in headers]) @ slice_normal(headers[0].orientation or ())
    order = np.argsort(positions, kind="stable")
    return [headers[index] for index in order], positions[order]


def reading_order(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """The order in which images that are worked on one by one go out: by position, and by number at one place.

    Where several images lie at one place (phases, a bolus that is watched, ranges that meet), InstanceNumber decides
    for all of them if every image has one of its own: that is the order in which they were taken.

    Args:
        headers: of one series, checked one by one by :mod:`iscl_monai.dicom.rules`; they need not be a volume.
    """
    ordered, positions_mm = sort_slices(headers)
    numbers = [header.instance_number for header in ordered]
    several_at_one_place = bool((np.diff(positions_mm) < SAME_PLACE_MM).any())
    if several_at_one_place and None not in numbers and len(set(numbers)) == len(numbers):
        return sorted(ordered, key=lambda header: header.instance_number or 0)
    return ordered


def across_most(headers: Sequence[SliceHeader]) -> list[bool]:
    """For each image, whether it cuts across most others: a coronal reference image, or an unlabelled scout.

    A gantry that is tilted in the middle of a series turns its slices by less than 45 degrees.

    Args:
        headers: with orientations.
    """
    normals = np.array([slice_normal(header.orientation or ()) for header in headers])
    usual = normals[int(np.abs(normals @ normals.T).sum(axis=1).argmax())]
    return [bool(cosine < np.cos(np.pi / 4)) for cosine in np.abs(normals @ usual)]


def within(positions_mm: Floats, z_range_mm: Sequence[float], path: object) -> npt.NDArray[np.intp]:
    """Indices of the slices with lowest <= position <= highest.

    Args:
        positions_mm: shape (slices,), in any order.
        z_range_mm: lowest and highest position to keep, both included.
        path: of the scan, for the message.

    Returns:
        The indices, ascending; at least one.

    Raises:
        ConfigRefusal: when this is not a range, or when no slice lies within.
    """
    try:
        lowest, highest = (float(limit) for limit in z_range_mm)
    except (TypeError, ValueError):
        lowest, highest = 1.0, 0.0
    kept = np.flatnonzero((positions_mm >= lowest) & (positions_mm <= highest))
    if not len(kept):
        extent = f"{positions_mm.min():.3f} to {positions_mm.max():.3f} mm"
        raise ConfigRefusal(
            f"{path}: z_range_mm {z_range_mm} holds none of the slices at {extent}",
            allowed="two numbers (lowest, highest) around at least one slice position",
            cure="choose the range within the scan",
        )
    return kept


def check_no_duplicates(headers: Sequence[SliceHeader], positions_mm: Floats) -> None:
    """Refuse two slices of a volume at one place: two phases, or ranges that meet, of which one would silently win.

    Raises:
        DicomRefusal: naming both files.
    """
    for index in map(int, np.flatnonzero(np.diff(positions_mm) < SAME_PLACE_MM)):
        raise DicomRefusal(
            headers[index + 1].path,
            tag="ImagePositionPatient",
            found=f"{positions_mm[index]:.3f} mm along the slice normal, as in {headers[index].path}",
            needed="one slice per position",
            cure="separate phases and ranges into folders of their own",
        )


def uneven_gap(positions_mm: Floats) -> int | None:
    """Index of the slice before the gap that differs most from the usual one, None when all are even."""
    gaps = np.diff(positions_mm)
    if len(gaps) < 2:
        return None
    deviation = np.abs(gaps - usual_gap(positions_mm))
    # Small differences may add up along the scan, so the places count as well as the gaps.
    off_place = np.abs(positions_mm - np.linspace(positions_mm[0], positions_mm[-1], len(positions_mm)))
    allowed = max(GAP_TOLERANCE * usual_gap(positions_mm), GAP_TOLERANCE_MM)
    return int(deviation.argmax()) if max(deviation.max(), off_place.max()) > allowed else None


def usual_gap(positions_mm: Floats) -> float:
    """The (lower) median distance in mm of neighbouring slices; two slices or more."""
    gaps = np.sort(np.diff(positions_mm))
    return float(gaps[(len(gaps) - 1) // 2])


def check_even(headers: Sequence[SliceHeader], positions_mm: Floats) -> None:
    """Refuse a volume with missing slices, uneven spacing, or slices shifted sideways.

    A gantry tilt shifts every slice by the same step and is no reason to refuse: the affine is sheared.

    Raises:
        DicomRefusal: naming the two files around the worst gap with the spacing found and needed, or the
            slice that lies off the line of the others.
    """
    worst = uneven_gap(positions_mm)
    if worst is not None:
        gap, usual = positions_mm[worst + 1] - positions_mm[worst], usual_gap(positions_mm)
        # Only a whole multiple is surely a missing slice.
        lost = round(gap / usual) - 1 if abs(gap / usual - round(gap / usual)) < GAP_TOLERANCE else 0
        raise DicomRefusal(
            headers[worst].path,
            tag="ImagePositionPatient",
            found=f"{gap:.3f} mm before the next slice {headers[worst + 1].path}"
            + (f" ({lost} missing)" if lost > 0 else ""),
            needed=f"{usual:.3f} mm between all slices",
            cure="fetch the missing slices, choose an even part by z_range_mm, or use geometry='slices'",
        )
    _check_line(headers, positions_mm)


def _check_line(headers: Sequence[SliceHeader], positions_mm: Floats) -> None:
    if len(headers) < 3:
        return
    origins = np.array([header.position for header in headers])
    along = (positions_mm - positions_mm[0]) / (positions_mm[-1] - positions_mm[0])
    off = np.linalg.norm(origins - origins[0] - along[:, None] * (origins[-1] - origins[0]), axis=1)
    worst = int(off.argmax())
    allowed = max(0.1, GAP_TOLERANCE * usual_gap(positions_mm))
    if off[worst] > allowed:
        raise DicomRefusal(
            headers[worst].path,
            tag="ImagePositionPatient",
            found=f"{off[worst]:.2f} mm off the line through the first and last slice",
            needed=f"at most {allowed:.2f} mm",
            cure="read with geometry='slices'",
        )


def affine_lps(headers: Sequence[SliceHeader], positions_mm: Floats, spacing_mm: float | None) -> Floats:
    """The matrix that takes (row, column, slice) indices to patient mm (LPS), of voxel centres.

    The third column is the mean step from the first to the last slice. It is exact for an even series,
    sheared under gantry tilt, and a mere mean for an uneven one. One slice steps along the normal.

    Args:
        headers: sorted.
        positions_mm: shape (slices,).
        spacing_mm: the step for a single slice; 1 mm when unknown.

    Returns:
        Shape (4, 4).
    """
    first = headers[0]
    orientation = np.array(first.orientation)
    row_step_mm, column_step_mm = first.pixel_spacing or (1.0, 1.0)
    affine = np.eye(4)
    # Going down one row moves along the direction *of the columns*, the second triple (PS3.3 C.7.6.2.1.1).
    affine[:3, 0] = orientation[3:] * row_step_mm
    affine[:3, 1] = orientation[:3] * column_step_mm
    affine[:3, 3] = first.position
    if len(positions_mm) > 1:
        affine[:3, 2] = (np.array(headers[-1].position) - affine[:3, 3]) / (len(positions_mm) - 1)
    else:
        affine[:3, 2] = slice_normal(first.orientation or ()) * (spacing_mm or 1.0)
    return affine
