"""One MR magnitude scan, whatever kind of file holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.geometry import Floats
from iscl_monai.dicom.images import ITK, NIFTI
from iscl_monai.errors import ImageRefusal
from iscl_monai.magnitude.values import check_magnitude

PERCENTILE = 99.5
"""Of all voxels of a scan: the upper end of its window. The few brighter ones (vessels, fat) are kept, above 1."""


@dataclass(frozen=True, eq=False)
class MagnitudeScan:
    """A scan as its files hold it.

    MR has no units: the same tissue has other numbers in each scan. So there is one window per scan, from 0 to
    :attr:`window`; one per slice would change the contrast from slice to slice.

    Attributes:
        path: the file or folder.
        values: float32, 0 or more, three axes, the third across the slices. NIfTI keeps its file order; DICOM is
            (row, column, slice).
        affine_ras: 4x4, takes indices in that order to RAS mm.
        positions_mm: of each slice along the third axis' normal.
        spacing_mm: per axis.
        window: the 99.5th percentile of all values, above 0.
    """

    path: Path
    values: npt.NDArray[np.float32]
    affine_ras: Floats
    positions_mm: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    window: float


def read_magnitude(path: Path | str, *, series_uid: str | None = None) -> MagnitudeScan:
    """Read one MR magnitude scan, or refuse it.

    Args:
        path: ``.nii`` or ``.nii.gz``; or a DICOM file, or a folder with one series of classic MR Image Storage.
        series_uid: DICOM only: which series of the folder.

    Returns:
        The scan.

    Raises:
        ImageRefusal: complex, colour or four-dimensional NIfTI; values that are no magnitude (negative, phase, a mask,
            one value, NaN); MetaImage or NRRD.
        DicomRefusal: Enhanced or colour MR, phase, real or imaginary images, several series, or slices that are no
            volume.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(ITK):
        raise ImageRefusal(
            f"{path}: neither NIfTI nor DICOM",
            allowed=".nii, .nii.gz or DICOM",
            cure="convert it, e.g. SimpleITK.WriteImage(SimpleITK.ReadImage(...), 'scan.nii.gz')",
        )
    if name.endswith(NIFTI):
        if series_uid is not None:
            raise ImageRefusal(f"{path}: a series of a NIfTI file", allowed="series of DICOM", cure="leave it out")
        from iscl_monai.magnitude.nifti import read_nifti

        values, affine, positions_mm = read_nifti(path)
    else:
        from iscl_monai.magnitude.mr_series import read_mr_series

        values, affine, positions_mm = read_mr_series(path, series_uid)
    check_magnitude(path, values)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    spacing_mm = (float(steps[0]), float(steps[1]), float(steps[2]))
    return MagnitudeScan(path, values, affine, positions_mm, spacing_mm, window_of(path, values))


def window_of(path: Path, values: npt.NDArray[np.float32]) -> float:
    """The 99.5th percentile of a scan.

    Raises:
        ImageRefusal: it is 0: nearly everything is background.
    """
    window = float(np.percentile(values, PERCENTILE))
    if window <= 0:
        raise ImageRefusal(
            f"{path}: {PERCENTILE:g} % of the voxels are 0",
            allowed="a scan of which a part of 0.5 % or more is anatomy",
            cure="cut the empty slices and borders off",
        )
    return window
