"""CT volumes in other files than DICOM: NIfTI, MetaImage and NRRD, checked as far as they can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.geometry import Floats, within
from iscl_monai.dicom.value_statistics import sample_indices
from iscl_monai.dicom.values import check_image_values, judge_values
from iscl_monai.errors import ImageRefusal

NIFTI = (".nii", ".nii.gz")
ITK = (".mha", ".mhd", ".nrrd")

LOWEST_HU, HIGHEST_HU = -65536.0, 65535.0
"""No CT goes beyond: 16 stored bits with any common intercept, padding included."""

CURE_HU = "give a CT volume in Hounsfield units (air about -1000, water 0), before any windowing or scaling"


@dataclass(frozen=True, eq=False)
class ImageVolume:
    """A volume as its file holds it.

    Attributes:
        hu: float32 of three axes, the third across the slices. NIfTI keeps its file order; the others are
            (row, column, slice).
        affine_ras: 4x4, takes indices in that order to RAS mm.
        positions_mm: of each slice along the third axis' normal; the patient's z for axial slices.
    """

    hu: npt.NDArray[np.float32]
    affine_ras: Floats
    positions_mm: tuple[float, ...]


def is_image_file(path: Path) -> bool:
    """True for the file names that :func:`read_image` knows."""
    return path.name.lower().endswith(NIFTI + ITK)


def read_image(path: Path, z_range_mm: tuple[float, float] | None = None, *, trust_hu: bool = False) -> ImageVolume:
    """Read a NIfTI, MetaImage or NRRD volume of CT in Hounsfield units.

    These files do not say what their values are, so the values have to show it: air near -1000 and soft tissue near
    0 HU (:mod:`iscl_monai.dicom.values`). Refused are also colours and complex numbers, fewer or more than three axes
    (a fourth axis of length 1 is left out), NaN or infinity, and values outside 16 bits.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd`` or ``.nrrd``.
        z_range_mm: keep the slices whose position lies within, both limits included.
        trust_hu: take values as HU that show no air, e.g. a crop within the body; not what cannot be HU.

    Returns:
        The volume.

    Raises:
        ImageRefusal: not such a volume, or its third axis does not run along the patient.
        ConfigRefusal: nothing within ``z_range_mm``.
    """
    if not path.is_file():
        raise ImageRefusal(f"{path}: no such file", allowed="an existing file", cure="check the spelling")
    try:
        volume = _read_nifti(path, z_range_mm) if path.name.lower().endswith(NIFTI) else _read_itk(path, z_range_mm)
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise unreadable(path, error, "a whole NIfTI, MetaImage or NRRD file") from error
    check_range(path, float(volume.hu.min()), float(volume.hu.max()))  # NaN wins in both
    slices = [(volume.hu[..., index], None) for index in sample_indices(volume.hu.shape[2])]
    steps_mm = np.linalg.norm(volume.affine_ras[:3, :2], axis=0)
    judgement = judge_values(slices, spacing_mm=(float(steps_mm[0]), float(steps_mm[1])))
    check_image_values(path, judgement, trust_hu=trust_hu)
    return volume


def slice_positions(affine: Floats, count: int) -> Floats:
    """Position of each slice of the third axis along its normal, mm.

    The normal points toward positive coordinates as in :func:`iscl_monai.dicom.geometry.slice_normal`; for
    (nearly) axial slices it is the patient's z, the same number in RAS and LPS.

    Args:
        affine: 4x4, third axis across slices.
        count: number of slices.

    Returns:
        Shape (count,), ascending or descending as the file has it.
    """
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    normal = normal * np.sign(normal[np.abs(normal).argmax()])
    positions: Floats = normal @ affine[:3, 3] + np.arange(count) * (normal @ affine[:3, 2])
    return positions


def open_nifti(path: Path, *, any_axis: bool = False) -> Any:
    """A nibabel image whose header may be that of a CT volume; no voxel is read.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        any_axis: the third axis need not run along the patient.

    Raises:
        ImageRefusal: colours or complex numbers, other than three axes (and more of length 1), or a third axis that
            does not run along the patient.
        ValueError, OSError, EOFError: nibabel's, when it is no NIfTI file.
    """
    image = load_nifti(path)
    _check_real(path, complex_values=image.get_data_dtype().kind == "c")
    _check_axes(path, spatial_shape(image), colour=image.get_data_dtype().fields is not None)
    if not any_axis:
        _check_third_axis(path, np.array(image.affine, np.float64))
    return image


def spatial_shape(image: Any) -> tuple[int, ...]:
    """The axes of a NIfTI volume without those of length 1 behind the third: (x, y, z, 1) is one volume, too."""
    shape = tuple(int(size) for size in image.shape)
    return shape[:3] if set(shape[3:]) == {1} else shape


def _read_nifti(path: Path, z_range_mm: tuple[float, float] | None) -> ImageVolume:
    image = open_nifti(path)
    affine: Floats = np.array(image.affine, np.float64)
    shape = spatial_shape(image)
    kept, affine, positions_mm = _part(affine, shape[2], z_range_mm, path)
    # Slicing the proxy reads and scales only the wanted slices; a float64 file is cast at once.
    hu = np.asarray(image.dataobj[:, :, kept], np.float32)
    hu = hu.reshape(hu.shape[:3])
    return ImageVolume(hu, affine, positions_mm)


def load_nifti(path: Path) -> Any:
    """A nibabel image, whatever it holds; no voxel is read.

    Raises:
        ValueError, OSError, EOFError: nibabel's, when it is no NIfTI file.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        return nibabel.load(path)
    except ImageFileError as error:  # of no family that a caller would catch
        raise ValueError(error) from error


def unreadable(path: Path, error: Exception, allowed: str = "a whole NIfTI file") -> ImageRefusal:
    """The refusal of a file that a library could not read, with what the library said."""
    return ImageRefusal(
        f"{path}: not readable ({' '.join(str(error).split())[:240]})",
        allowed=allowed,
        cure="copy the file again from its source",
    )


def _read_itk(path: Path, z_range_mm: tuple[float, float] | None) -> ImageVolume:
    import SimpleITK

    image: Any = SimpleITK.ReadImage(str(path))
    _check_real(path, complex_values="complex" in image.GetPixelIDTypeAsString())
    colour = image.GetNumberOfComponentsPerPixel() != 1
    _check_axes(path, image.GetSize(), colour=colour)
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine = np.eye(4)
    # ITK counts (x, y, z) in LPS; ours is (row, column, slice), and RAS turns the first two coordinates.
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ steps[:, [1, 0, 2]]
    affine[:3, 3] = np.array(image.GetOrigin()) * [-1.0, -1.0, 1.0]
    _check_third_axis(path, affine)
    kept, affine, positions_mm = _part(affine, image.GetSize()[2], z_range_mm, path)
    hu = SimpleITK.GetArrayViewFromImage(image)[kept].astype(np.float32).transpose(1, 2, 0)
    return ImageVolume(hu, affine, positions_mm)


def _part(
    affine: Floats, count: int, z_range_mm: tuple[float, float] | None, path: Path
) -> tuple[slice, Floats, tuple[float, ...]]:
    positions_mm = slice_positions(affine, count)
    if z_range_mm is None:
        return slice(0, count), affine, tuple(positions_mm.tolist())
    inside = within(positions_mm, z_range_mm, path)
    # Positions are even, so what lies within a range is contiguous.
    kept = slice(int(inside[0]), int(inside[-1]) + 1)
    moved = affine.copy()
    moved[:3, 3] += kept.start * affine[:3, 2]
    return kept, moved, tuple(positions_mm[kept].tolist())


def _check_real(path: Path, *, complex_values: bool) -> None:
    """NumPy would take the real part, with nothing but a warning."""
    if complex_values:
        raise ImageRefusal(
            f"{path}: complex values, as of MR before the magnitude is taken",
            allowed="real numbers",
            cure="give a CT volume in Hounsfield units",
        )


def _check_axes(path: Path, shape: tuple[int, ...], *, colour: bool) -> None:
    if colour:
        raise ImageRefusal(f"{path}: colour or vector pixels", allowed="one number per voxel", cure=CURE_HU)
    if len(shape) != 3 or min(shape) < 1:
        raise ImageRefusal(
            f"{path}: shape {tuple(shape)}",
            allowed="three axes",
            cure="save one CT volume (one phase, one channel) per file",
        )


def _check_third_axis(path: Path, affine: Floats) -> None:
    steps = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(steps)) < 1e-9:
        raise ImageRefusal(
            f"{path}: affine {steps.tolist()}", allowed="an invertible matrix", cure="write the file again"
        )
    cosines = np.abs(steps[2]) / np.linalg.norm(steps, axis=0)
    if cosines.argmax() != 2:
        raise ImageRefusal(
            f"{path}: axis {int(cosines.argmax()) + 1} runs along the patient, not axis 3",
            allowed="axial slices along the third axis",
            cure="reorient it, e.g. nibabel.as_closest_canonical(image).to_filename(...)",
        )


def check_range(path: Path, lowest: float, highest: float) -> None:
    """Refuse values that cannot be Hounsfield units.

    Raises:
        ImageRefusal: NaN or infinity, values outside 16 bits, or nothing outside [0, 1].
    """
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ImageRefusal(f"{path}: NaN or infinite values", allowed="finite Hounsfield units", cure=CURE_HU)
    if lowest < LOWEST_HU or highest > HIGHEST_HU:
        raise ImageRefusal(f"{path}: values {lowest:g} to {highest:g}", allowed="values that fit 16 bits", cure=CURE_HU)
    if lowest >= 0 and highest <= 1:
        raise ImageRefusal(
            f"{path}: values {lowest:g} to {highest:g}, a mask or a picture scaled to [0, 1]",
            allowed="Hounsfield units",
            cure=CURE_HU,
        )


def estimate_shape(path: Path, z_range_mm: tuple[float, float] | None = None) -> tuple[int, int, int]:
    """The shape of :func:`read_image`'s volume, without reading its voxels.

    Args:
        path: see :func:`read_image`.
        z_range_mm: see :func:`read_image`; of formats other than NIfTI all slices are counted.

    Raises:
        ImageRefusal: if the header cannot be read.
    """
    try:
        if path.name.lower().endswith(NIFTI):
            image = load_nifti(path)
            shape = tuple(int(size) for size in image.shape[:3])
            affine = np.array(image.affine, np.float64)
        else:
            import SimpleITK

            itk: Any = SimpleITK
            reader = itk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            columns, rows, *rest = reader.GetSize()  # ITK counts (x, y, z)
            shape, z_range_mm, affine = (rows, columns, *rest[:1]), None, np.eye(4)
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise unreadable(path, error, "a whole NIfTI, MetaImage or NRRD file") from error
    rows, columns, slices = (*shape, 1, 1, 1)[:3]
    if z_range_mm is not None:
        positions = slice_positions(affine, slices)
        slices = int(((positions >= z_range_mm[0]) & (positions <= z_range_mm[1])).sum())
    return rows, columns, slices
