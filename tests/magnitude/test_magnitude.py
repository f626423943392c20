"""MR magnitude is read from NIfTI and classic DICOM; whatever else an MR scanner gives is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from real_data import real

from iscl_monai.errors import DicomRefusal, ImageRefusal, Refusal
from iscl_monai.magnitude import read_magnitude
from iscl_monai.magnitude.mr_series import MULTIFRAME_MR
from iscl_monai.magnitude.values import distance_from_uniform


def head(side: int = 40, slices: int = 3) -> Any:
    """A bright disc with noise of a magnitude: Rayleigh outside."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:side, :side] - side / 2
    disc = 500.0 * (row**2 + column**2 < (side / 3) ** 2)
    real_part, imaginary = rng.normal(0, 20, (2, side, side, slices))
    return np.hypot(disc[..., None] + real_part, imaginary)


def saved(path: Path, values: Any, affine: Any = None) -> Path:
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_nifti_with_one_window_per_scan(tmp_path: Path) -> None:
    values = head().astype(np.float32)
    values[..., 0] *= 0.1  # a slice of its own would be scaled otherwise
    scan = read_magnitude(saved(tmp_path / "a.nii.gz", values, np.diag([2.0, 3.0, 4.0, 1.0])))
    np.testing.assert_array_equal(scan.values, values)
    assert scan.window == pytest.approx(np.percentile(values, 99.5))
    assert scan.spacing_mm == (2, 3, 4)
    assert scan.positions_mm == (0, 4, 8)


def test_a_sagittal_scan_is_read(tmp_path: Path) -> None:
    """CT's reader wants axial slices."""
    affine = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    scan = read_magnitude(saved(tmp_path / "a.nii", head().astype(np.uint16), affine))
    assert scan.positions_mm == (0, 4, 8)


RGB = np.zeros((8, 8, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
REFUSED: dict[str, tuple[Any, str]] = {
    "complex": (head() * np.complex64(1j), "complex values.*numpy.abs"),
    "colour": (RGB, "colour pixels"),
    "four axes": (np.stack([head()] * 2, -1).astype(np.float32), r"shape \(40, 40, 3, 2\).*one echo"),
    "phase": (np.random.default_rng(0).uniform(-3.14, 3.14, (40, 40, 3)).astype("f4"), "as of phase.*ImageType M"),
    "phase without a sign": (
        np.random.default_rng(0).integers(0, 4096, (40, 40, 3)).astype("u2"),
        "values spread evenly over 0 to 4095, as those of phase",
    ),
    "interpolated": ((head() - 3).clip(-1).astype("f4"), "an interpolated magnitude"),
    "a mask": ((head() > 250).astype("u1"), "2 distinct values, a mask"),
    "one value": (np.full((40, 40, 3), 7, "u1"), "nothing but 7"),
    "NaN": (np.where(head() > 400, np.nan, head()).astype("f4"), "NaN or infinite"),
    "nearly nothing": (
        np.where(np.arange(4800).reshape(40, 40, 3) < 20, head(), 0).astype("f4"),
        "99.5 % of the voxels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_nifti(tmp_path: Path, name: str) -> None:
    values, words = REFUSED[name]
    with pytest.raises(ImageRefusal, match=words):
        read_magnitude(saved(tmp_path / "a.nii", values))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", head().astype("f4"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ImageRefusal, match="not readable"):
        read_magnitude(path)
    with pytest.raises(ImageRefusal, match="no such file"):
        read_magnitude(tmp_path / "absent.nii")
    with pytest.raises(ImageRefusal, match=r"allowed: \.nii"):
        read_magnitude(tmp_path / "a.nrrd")
    with pytest.raises(ImageRefusal, match="leave it out"):
        read_magnitude(path, series_uid="1.2")
    with pytest.raises(DicomRefusal, match="path is absent"):
        read_magnitude(tmp_path / "nowhere")


def test_real_scans_are_read_and_the_phase_of_one_is_not(tmp_path: Path) -> None:
    folder = real("mri/mri") / "mri"
    paths = [*folder.glob("clinical_3T/fig6A*.nii"), *folder.glob("ulf_055T/fig6A_T?w.nii")]
    assert len(paths) == 4
    for path in paths:
        scan = read_magnitude(path)
        assert distance_from_uniform(scan.values.ravel()) > 0.4
        assert 2000 < scan.window <= 4095
    complex_file = folder / "ulf_055T" / "fig6A_T2w_slice1_complex.nii"
    with pytest.raises(ImageRefusal, match="complex values"):
        read_magnitude(complex_file)
    signal = np.asarray(nib.load(complex_file).dataobj)
    assert read_magnitude(saved(tmp_path / "m.nii", np.abs(signal).astype("f4"))).window > 0
    phase = ((np.angle(signal) + np.pi) / (2 * np.pi) * 4095).astype("u2")
    with pytest.raises(ImageRefusal, match="as those of phase"):
        read_magnitude(saved(tmp_path / "p.nii", phase))


# --- DICOM ---------------------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Four slices of a real T1w series, to be spoilt."""
    folder = tmp_path / "mr"
    folder.mkdir()
    for path in sorted((real("mri/mri") / "mri" / "t1w_dicom").iterdir())[8:12]:
        shutil.copy(path, folder)
    return folder


def spoilt(folder: Path, change: Callable[[Dataset], object], count: int = 1) -> Path:
    for path in sorted(folder.iterdir())[:count]:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
    return folder


def setting(**elements: Any) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return change


def test_a_real_series_is_read_in_order_of_position(series: Path) -> None:
    (series / "notes.txt").write_text("of the session")
    scan = read_magnitude(series)
    assert scan.values.shape == (384, 274, 4)
    assert scan.spacing_mm == pytest.approx((2 / 3, 0.69999, 4.0), rel=1e-4)
    assert list(scan.positions_mm) == sorted(scan.positions_mm)
    for index, path in enumerate(sorted(series.glob("*.dcm"))):
        np.testing.assert_array_equal(scan.values[..., index], pydicom.dcmread(path).pixel_array)


def test_each_slice_has_its_own_slope_or_none(series: Path) -> None:
    plain = read_magnitude(series).values
    spoilt(series, setting(RescaleSlope=2, RescaleIntercept=5))
    paths = sorted(series.iterdir())
    dataset = pydicom.dcmread(paths[1])
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.save_as(paths[1])
    again = read_magnitude(series).values
    np.testing.assert_array_equal(again[..., 0], plain[..., 0] * 2 + 5)
    np.testing.assert_array_equal(again[..., 1:], plain[..., 1:])


def other_class(uid: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid

    return change


SPOILT: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "enhanced": (other_class(MULTIFRAME_MR[0]), "Enhanced MR Image Storage.*classic single-frame"),
    "colour of enhanced": (other_class(MULTIFRAME_MR[2]), "Enhanced MR Color"),
    "phase": (setting(ImageType=["ORIGINAL", "PRIMARY", "P", "ND"]), r"ImageType is ORIGINAL\\PRIMARY\\P.*magnitude"),
    "real part": (setting(ImageType=["ORIGINAL", "PRIMARY", "R"]), "ImageType.*magnitude"),
    "a map": (setting(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]), r"DIFFUSION\\ADC; .*computed from"),
    "a projection": (setting(ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE", "M"]), "no map, difference or pro"),
    "complex component": (setting(ComplexImageComponent="PHASE"), "ComplexImageComponent is PHASE"),
    "colour": (setting(PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR.*original MR images"),
    "another series": (setting(SeriesInstanceUID="1.2.3"), "not chosen among 2: .*series_uid"),
    "two at one place": (setting(ImagePositionPatient=[-91.8, -151.7, -47.9]), "ImagePositionPatient"),
    "another patient": (setting(PatientID="someone"), "PatientID is someone"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_refused_dicom(series: Path, name: str) -> None:
    change, words = SPOILT[name]
    with pytest.raises(DicomRefusal, match=words):
        read_magnitude(spoilt(series, change))


def test_a_missing_or_lost_slice_is_refused(series: Path) -> None:
    paths = sorted(series.iterdir())
    paths[1].write_bytes(b"")
    with pytest.raises(DicomRefusal, match="where a slice may have been"):
        read_magnitude(series)
    paths[1].unlink()
    with pytest.raises(DicomRefusal, match=r"1 missing|mm before the next slice"):
        read_magnitude(series)


def test_the_series_that_is_named(series: Path) -> None:
    spoilt(series, setting(SeriesInstanceUID="1.2.3"))
    assert read_magnitude(series, series_uid="1.2.3").values.shape[2] == 1
    with pytest.raises(Refusal, match=r"1\.2\.4 among 2"):
        read_magnitude(series, series_uid="1.2.4")


def test_a_folder_without_mr(tmp_path: Path) -> None:
    with pytest.raises(DicomRefusal, match=r"of no MR series \(skipped: no files at all\); allowed: classic MR"):
        read_magnitude(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "ct.dcm")
    with pytest.raises(DicomRefusal, match=r"1 x CT Image Storage, not MR, 1 x not a DICOM file"):
        read_magnitude(tmp_path)
    with pytest.raises(DicomRefusal, match=r"record\.json: .*skipped: 1 x not a DICOM file"):
        read_magnitude(tmp_path / "record.json")
