"""Scans as evaluation wants them: HU in one axis order, with their place, so that pairs can be checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.dicom.geometry import ALIGNED_MM, corners_apart_mm
from iscl_monai.dicom.images import is_image_file, read_image
from iscl_monai.dicom.inserted import inserted_dose, text_of
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ImageRefusal

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NIFTI_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """A CT scan.

    Attributes:
        source: the path it was read from.
        hu: float32 (slice, row, column); axial slices upwards, the patient's front at the top, right side left.
        affine_lps: 4x4, takes (slice, row, column) to LPS mm; of uneven series only the mean step across slices.
        positions_mm: of each slice along the normal.
        pixel_spacing_mm: between rows, between columns.
        padded: bool of the shape of ``hu``, True outside the scan; None: nowhere.
        body_part: BodyPartExamined; empty when not said.
        simulated_dose: over that of the scan it was made from, as our own derivation says; None: it says nothing.
    """

    source: Path
    hu: NDArray[np.float32]
    affine_lps: NDArray[np.float64]
    positions_mm: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    padded: NDArray[np.bool_] | None = None
    body_part: str = ""
    simulated_dose: float | None = None

    def with_hu(self, hu: NDArray[np.float32]) -> Scan:
        """Other voxels at the same places."""
        return replace(self, hu=hu)


def read_scan(
    path: Path | str,
    *,
    series_uid: str | None = None,
    z_range_mm: tuple[float, float] | None = None,
    trust_hu: bool = False,
) -> Scan:
    """Read a DICOM series, or a NIfTI, MetaImage or NRRD volume.

    Args:
        path: DICOM folder or file, or volume file.
        series_uid: DICOM only: which series of the folder.
        z_range_mm: keep the slices within, both limits included.
        trust_hu: volume files only: see :func:`iscl_monai.dicom.images.read_image`.

    Raises:
        Refusal: whatever would have to be guessed.
    """
    path = Path(path)
    if is_image_file(path):
        return _read_volume(path, z_range_mm, trust_hu=trust_hu)
    series = read_series(path, series_uid=series_uid, geometry="slices", z_range_mm=z_range_mm)
    return Scan(
        source=path,
        hu=series.hu,
        affine_lps=series.affine_lps[:, [2, 0, 1, 3]],
        positions_mm=series.positions_mm,
        pixel_spacing_mm=series.pixel_spacing_mm,
        padded=series.padded,
        body_part=text_of(series.files[0], "BodyPartExamined"),
        simulated_dose=inserted_dose(text_of(series.files[0], "DerivationDescription")),
    )


def _read_volume(path: Path, z_range_mm: tuple[float, float] | None, *, trust_hu: bool) -> Scan:
    volume = read_image(path, z_range_mm, trust_hu=trust_hu)
    # NIfTI counts (column, row, slice), the others (row, column, slice).
    order = [2, 1, 0] if path.name.lower().endswith(NIFTI_ENDINGS) else [2, 0, 1]
    lps: NDArray[np.float64] = RAS_FROM_LPS @ volume.affine_ras
    if abs(lps[0, order[1]]) > abs(lps[1, order[1]]):  # rows run to the side
        order = [order[0], order[2], order[1]]
    hu: NDArray[Any] = volume.hu.transpose(order)
    affine = lps[:, [*order, 3]]
    positions = np.array(volume.positions_mm)
    # The way DICOM stores axial slices, so that a volume file can be compared with the series it was made from.
    for axis, towards in enumerate((2, 1, 0)):
        if affine[towards, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
            hu = np.flip(hu, axis)
            positions = positions[::-1] if axis == 0 else positions
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Scan(
        source=path,
        hu=np.ascontiguousarray(hu),
        affine_lps=affine,
        positions_mm=tuple(positions.tolist()),
        pixel_spacing_mm=(float(spacing[1]), float(spacing[2])),
    )


def check_same_place(one: Scan, other: Scan) -> None:
    """Refuse two scans that are not voxel by voxel at the same place.

    Raises:
        ImageRefusal: naming both, and what differs: shape, slice positions, or pixels by more than 0.1 mm.
    """
    cure = "compare a scan with its own reference or denoised image, not resampled and not cropped"
    if one.hu.shape != other.hu.shape:
        raise ImageRefusal(
            f"{one.source} has shape {one.hu.shape}, {other.source} {other.hu.shape}",
            allowed="the same slices, rows and columns",
            cure=cure,
        )
    away = np.abs(np.subtract(one.positions_mm, other.positions_mm)).max()
    if away > ALIGNED_MM:
        raise ImageRefusal(
            f"slices of {one.source} and {other.source} lie up to {away:.2f} mm apart",
            allowed=f"the same positions, within {ALIGNED_MM:g} mm",
            cure=cure,
        )
    away = corners_apart_mm(one.affine_lps, other.affine_lps, (1, *one.hu.shape[1:]))
    if away > ALIGNED_MM:
        raise ImageRefusal(
            f"pixels of {one.source} and {other.source} lie up to {away:.2f} mm apart",
            allowed=f"the same grid, within {ALIGNED_MM:g} mm",
            cure=cure,
        )
