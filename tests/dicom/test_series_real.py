"""Series of real scanners: read, refused or left out, each as it should be."""

from __future__ import annotations

import numpy as np
import pytest
from dicom.refused import refusal
from real_data import real

from iscl_monai.dicom.series import estimate_voxels, read_series

# --- real scans --------------------------------------------------------------------------------------

GEOMETRY = "robust/robust_dicom2nifti_geometry"


SYNTAXES = "robust/robust_transfer_syntaxes"


VERDICTS = [
    # folder or file, options, shape when read, tag and words when refused
    (f"{GEOMETRY}/gantrytilting/001", {}, (4, 512, 512), ""),
    (f"{GEOMETRY}/notavolume/001", {}, "ImagePositionPatient", "one slice per position"),
    (f"{GEOMETRY}/notavolume/001", {"geometry": "slices"}, "ImagePositionPatient", "one slice per position"),
    (f"{GEOMETRY}/sliceincrement/001", {}, "ImagePositionPatient", "10.000 mm"),
    (f"{GEOMETRY}/sliceincrement/001", {"geometry": "slices"}, (4, 512, 512), ""),
    (f"{GEOMETRY}/sliceincrement/002", {}, "ImagePositionPatient", "(1 missing)"),
    ("robust/robust_pydicom", {}, "SeriesInstanceUID", "among 2"),
    ("robust/robust_pydicom/bad_sequence.dcm", {}, (1, 512, 512), ""),
    ("robust/robust_pydicom/eCT_Supplemental.dcm", {}, "SeriesInstanceUID", "multi-frame"),
    ("robust/robust_pydicom/explicit_VR-UN.dcm", {}, "SliceThickness", "absent"),
    ("robust/robust_pydicom/explicit_VR-UN.dcm", {"geometry": "slices"}, (1, 512, 512), ""),
    (SYNTAXES, {}, "SeriesInstanceUID", "among 3"),
    (f"{SYNTAXES}/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm", {}, "SeriesInstanceUID", "multi-frame"),
    ("qa/ge_head_tilt", {}, "ImagePositionPatient", "4.002 mm between all slices"),
    ("qa/ge_head_tilt", {"geometry": "slices"}, (28, 512, 512), ""),
    ("qa/philips_phantom_mixed_folder", {}, (28, 512, 512), ""),
    ("qa/fda_lcd_fbp", {}, "SeriesInstanceUID", "not a DICOM file"),
    ("test/totalsegmentator_abdomen", {}, (20, 512, 512), ""),
]


@pytest.mark.parametrize(("name", "options", "verdict", "words"), VERDICTS)
def test_real_folders(name: str, options: dict[str, str], verdict: tuple[int, int, int] | str, words: str) -> None:
    # The archives hold one folder each; a single file or sub-folder lies in a plain folder.
    path = real(name) if name.count("/") == 1 else real("/".join(name.split("/")[:2])).joinpath(*name.split("/")[2:])
    if isinstance(verdict, str):
        error = refusal(path, **options)
        assert error.tag == verdict
        assert words in str(error)
        return
    series = read_series(path, **options)  # type: ignore[arg-type]
    assert series.hu.shape == verdict
    assert -3100 <= series.hu.min() <= -900  # air, or the padding around the scan
    if "blanked" not in name and GEOMETRY not in name:  # icometrix blanked the pixels
        assert 200 < series.hu.max() < 4000


LOSSLESS = [
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
]


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_transfer_syntaxes_give_the_same_pixels(syntax: str) -> None:
    folder = real(SYNTAXES)
    plain = read_series(folder / "CTImage.dcm")
    assert plain.padded is None  # the file declares -32768 and never uses it
    np.testing.assert_array_equal(read_series(folder / f"CTImage.dcm_{syntax}.dcm").hu, plain.hu)


@pytest.mark.parametrize(
    ("syntax", "tag"),
    [
        ("JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53", "TransferSyntaxUID"),  # retired
        ("JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55", "TransferSyntaxUID"),  # retired
        ("JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50", "PixelData"),  # 8 bits: steps of 32 HU
    ],
)
def test_other_transfer_syntaxes_are_refused(syntax: str, tag: str) -> None:
    assert refusal(real(SYNTAXES) / f"CTImage.dcm_{syntax}.dcm").tag == tag


@pytest.mark.parametrize(
    "syntax", ["JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91", "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81"]
)
def test_derived_images_whose_values_prove_hounsfield_units_are_read(syntax: str) -> None:
    folder = real(SYNTAXES)
    plain, lossy = read_series(folder / "CTImage.dcm"), read_series(folder / f"CTImage.dcm_{syntax}.dcm")
    assert np.median(np.abs(lossy.hu - plain.hu)) < 10
    assert "RescaleType absent" in lossy.remark
    assert "air at -" in lossy.remark
    assert plain.remark == ""


def test_gantry_tilt_of_a_real_scan() -> None:
    series = read_series(real(GEOMETRY) / "gantrytilting" / "001")
    assert series.spacing_between_slices_mm == pytest.approx(5 * np.cos(np.radians(14)), abs=1e-3)
    np.testing.assert_allclose(series.affine_lps[:3, 2], [0, 0, 5], atol=1e-6)


def test_padding_of_a_real_scan_is_outside_the_field_of_view() -> None:
    series = read_series(real("qa/ge_head_tilt"), geometry="slices", z_range_mm=(-1000, 60))
    assert series.padded is not None
    assert series.padded[:, 0, 0].all()
    assert not series.padded[:, 256, 256].any()
    np.testing.assert_array_equal(series.hu[series.padded], -1500)


def test_a_frame_of_reference_per_slice_and_a_part_of_a_large_scan() -> None:
    series = read_series(real("train/lidc_idri_0314"), z_range_mm=(-600, -590))
    assert series.hu.shape == (10, 512, 512)
    assert series.frame_of_reference_uid == ""
    assert -600 <= series.positions_mm[0] < series.positions_mm[-1] <= -590
    assert estimate_voxels(real("train/lidc_idri_0314")) == (275, 512, 512)
