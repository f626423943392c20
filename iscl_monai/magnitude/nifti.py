"""MR magnitude in NIfTI; slices along the third axis, in whatever direction of the body that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.geometry import Floats
from iscl_monai.dicom.images import load_nifti, slice_positions, spatial_shape, unreadable
from iscl_monai.errors import ImageRefusal
from iscl_monai.magnitude.values import GIVE_MAGNITUDE


def read_nifti(path: Path) -> tuple[npt.NDArray[np.float32], Floats, tuple[float, ...]]:
    """Values (file order), affine (RAS mm), and position of each slice in mm.

    Raises:
        ImageRefusal: complex or colour values, a fourth axis, no affine, or a damaged file.
    """
    if not path.is_file():
        raise ImageRefusal(f"{path}: no such file", allowed="an existing file", cure="check the spelling")
    try:
        image = load_nifti(path)
        _check_header(path, image)
        shape = spatial_shape(image)
        affine: Floats = np.array(image.affine, np.float64)
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except ImageRefusal:
        raise
    except Exception as error:  # nibabel and zlib raise nearly anything for damaged files
        raise unreadable(path, error) from error
    return values, affine, tuple(slice_positions(affine, shape[2]).tolist())


def _check_header(path: Path, image: object) -> None:
    header, affine = image.header, image.affine  # type: ignore[attr-defined]
    dtype, shape = header.get_data_dtype(), spatial_shape(image)
    if dtype.kind == "c":
        raise ImageRefusal(
            f"{path}: complex values", allowed="a magnitude", cure="save numpy.abs of it: the imaginary part counts"
        )
    if dtype.fields is not None:
        raise ImageRefusal(f"{path}: colour pixels", allowed="one number per voxel", cure=GIVE_MAGNITUDE)
    if len(shape) != 3 or min(shape) < 1:
        raise ImageRefusal(
            f"{path}: shape {shape}",
            allowed="three axes",
            cure="save one volume (one echo, one direction, one time) per file, e.g. by fslsplit",
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ImageRefusal(f"{path}: affine {affine.tolist()}", allowed="an invertible one", cure="write it again")
