"""None"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom.refused import refusal
from dicom.synthetic import SCOUT, Change, Series, only, setting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iscl_monai.dicom.series import CTSeries, estimate_voxels, find_series, read_series
from iscl_monai.errors import ConfigRefusal

SEVERAL = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def corner(series: CTSeries, row: int, column: int, index: int) -> np.ndarray:
    return (series.affine_lps @ [row, column, index, 1])[:3]


# --- what is read ------------------------------------------------------------------------------------


def test_values_geometry_and_headers(tmp_path: Path) -> None:
    made = Series()
    files = made.write(tmp_path)
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.hu, made.hu())
    assert series.hu.dtype == np.float32
    assert series.files == tuple(files)
    assert series.padded is None
    assert series.positions_mm == pytest.approx((100, 102, 104, 106, 108))
    assert series.spacing_between_slices_mm == pytest.approx(2)
    assert series.pixel_spacing_mm == (0.5, 0.75)
    assert series.origin == (-10, -20, 100)
    assert series.orientation == (1, 0, 0, 0, 1, 0)
    assert series.kernel == ("Br38f", "3")
    assert (series.kvp, series.slice_thickness_mm, series.patient_id) == (120, 2, "P1")
    assert (series.manufacturer, series.model, series.description) == ("Nobody", "Model", "synthetic")
    assert series.series_uid == made.series_uid
    assert series.study_uid == made.study_uid
    assert series.frame_of_reference_uid == made.study_uid + ".1"
    # One row down moves along y by the first PixelSpacing, one column along x by the second.
    np.testing.assert_allclose(corner(series, 1, 2, 3), [-10 + 2 * 0.75, -20 + 0.5, 106])


@SEVERAL
@given(order=st.permutations(range(5)), data=st.data())
def test_names_and_instance_numbers_mean_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], data: st.DataObject
) -> None:
    made = Series(order=order)
    folder = tmp_path_factory.mktemp("shuffled")
    for path in made.write(folder):
        subfolder = folder / data.draw(st.sampled_from("abc"))
        subfolder.mkdir(exist_ok=True)
        path.rename(subfolder / path.name)
    series = read_series(folder)
    np.testing.assert_array_equal(series.hu, made.hu())


@st.composite
def orientations(draw: st.DrawFn) -> tuple[float, ...]:
    """Any pair of orthogonal unit vectors, by a random quaternion."""
    w, x, y, z = (draw(st.floats(-1, 1, width=32)) for _ in range(4))
    norm = float(np.hypot(np.hypot(w, x), np.hypot(y, z)))
    if norm < 0.1:
        w, x, y, z, norm = 1.0, 0.0, 0.0, 0.0, 1.0
    w, x, y, z = (value / norm for value in (w, x, y, z))
    row = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    column = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return (*row, *column)


@SEVERAL
@given(orientation=orientations())
def test_any_orientation_keeps_every_position(
    tmp_path_factory: pytest.TempPathFactory, orientation: tuple[float, ...]
) -> None:
    made = Series(orientation=orientation, rle=False)
    folder = tmp_path_factory.mktemp("turned")
    files = made.write(folder)
    series = read_series(folder)
    assert np.all(np.diff(series.positions_mm) > 0)
    assert series.spacing_between_slices_mm == pytest.approx(2)
    for index, file in enumerate(series.files):
        slot = files.index(file)
        np.testing.assert_array_equal(series.hu[index], made.hu()[slot])
        expected = np.array(made.origin) + slot * made.step_vector()
        np.testing.assert_allclose(corner(series, 0, 0, index), expected, atol=1e-4)
        expected += 2 * 0.5 * np.array(orientation[3:]) + 3 * 0.75 * np.array(orientation[:3])
        np.testing.assert_allclose(corner(series, 2, 3, index), expected, atol=1e-4)


def test_axial_slices_ascend_to_the_head_even_when_rows_run_backwards(tmp_path: Path) -> None:
    Series(orientation=(1, 0, 0, 0, -1, 0)).write(tmp_path)  # its cross product points to the feet
    series = read_series(tmp_path)
    assert series.positions_mm == pytest.approx((92, 94, 96, 98, 100))
    assert corner(series, 0, 0, 0)[2] == pytest.approx(92)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    made = Series(slopes=[1, 2, 0.5, 1.25, 3])
    made.write(tmp_path)
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())


def test_run_length_encoding(tmp_path: Path) -> None:
    made = Series(rle=True, signed=True)
    made.write(tmp_path)
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())


def test_a_tilt_is_kept_in_the_affine(tmp_path: Path) -> None:
    Series(step=(0, 1, 2)).write(tmp_path)
    series = read_series(tmp_path)
    assert series.spacing_between_slices_mm == pytest.approx(2)
    np.testing.assert_allclose(series.affine_lps[:3, 2], [0, 1, 2], atol=1e-9)


def test_positions_rounded_by_the_scanner_are_even(tmp_path: Path) -> None:
    rounded: Change = lambda dataset, index: setattr(  # noqa: E731
        dataset, "ImagePositionPatient", [-10, -20, round(100 + 0.625 * index, 1)]
    )
    Series(slots=range(9), change=rounded).write(tmp_path)
    assert read_series(tmp_path).spacing_between_slices_mm == pytest.approx(0.625)


@pytest.mark.parametrize("value", [-2000, 63536])  # the same bits, as SS and mistaken for US
def test_padding_is_marked_and_keeps_its_value(tmp_path: Path, value: int) -> None:
    def change(dataset: pydicom.FileDataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.int16).copy()
        pixels[:3] = -2000
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)

    Series(signed=True, change=only(1, change)).write(tmp_path)
    series = read_series(tmp_path)
    assert series.padded is not None
    assert np.argwhere(series.padded).tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 2]]
    np.testing.assert_array_equal(series.hu[series.padded], -3024)


def test_twelve_signed_bits_with_zeros_above(tmp_path: Path) -> None:
    made = Series(signed=True, change=setting(BitsStored=12, HighBit=11))
    made.write(tmp_path)  # 0..4095 in 12 bits with a sign: from 2048 on negative
    stored = made.stored()
    expected = np.where(stored < 2048, stored, stored - 4096) - 1024
    np.testing.assert_array_equal(read_series(tmp_path).hu, expected)


def test_padding_wider_than_the_stored_bits(tmp_path: Path) -> None:
    def change(dataset: pydicom.FileDataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit = 13, 12
        pixels = np.frombuffer(dataset.PixelData, np.int16).copy()
        pixels[:3] = -5000
        dataset.PixelData = pixels.tobytes()

    Series(signed=True, change=change).write(tmp_path)
    error = refusal(tmp_path)  # pydicom alone would read 3192
    assert error.tag == "BitsStored"
    assert "-5000" in str(error)


def test_padding_range(tmp_path: Path) -> None:
    made = Series(change=setting(PixelPaddingValue=0, PixelPaddingRangeLimit=100))
    made.write(tmp_path)
    padded = read_series(tmp_path).padded
    np.testing.assert_array_equal(padded, made.stored() <= 100)


def test_a_range_decodes_only_its_slices(tmp_path: Path) -> None:
    made = Series(change=only(0, setting(PixelData=b"\0\0")))  # the first slice could not be decoded
    made.write(tmp_path)
    series = read_series(tmp_path, z_range_mm=(102, 106))  # both borders belong to it
    np.testing.assert_array_equal(series.hu, made.hu()[1:4])
    assert series.origin[2] == 102
    assert estimate_voxels(tmp_path, z_range_mm=(102, 106)) == (3, 6, 4)
    assert estimate_voxels(tmp_path) == (5, 6, 4)


@pytest.mark.parametrize("z_range_mm", [(0, 50), (106, 102), (1,), "ab", 3])
def test_a_range_without_slices_is_refused(tmp_path: Path, z_range_mm: object) -> None:
    Series().write(tmp_path)
    with pytest.raises(ConfigRefusal, match=r"100\.000 to 108\.000"):
        read_series(tmp_path, z_range_mm=z_range_mm)  # type: ignore[arg-type]


def test_an_unknown_geometry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="'volume', 'slices'"):
        read_series(tmp_path, geometry="3d")  # type: ignore[arg-type]


def test_one_file_is_one_slice(tmp_path: Path) -> None:
    files = Series(spacing_mm=3).write(tmp_path)
    series = read_series(files[2])
    assert series.spacing_between_slices_mm == 3  # SliceThickness
    assert corner(series, 0, 0, 1)[2] - corner(series, 0, 0, 0)[2] == pytest.approx(3)


def test_one_slice_without_thickness_is_no_volume(tmp_path: Path) -> None:
    files = Series(change=setting(SliceThickness=None)).write(tmp_path)
    assert refusal(files[0]).tag == "SliceThickness"
    assert read_series(files[0], geometry="slices").spacing_between_slices_mm is None


@pytest.mark.parametrize("slots", [(0, 1, 2, 4), (0, 1, 5), (0, 2, 3), (0, 1, 2, 3, 4, 6, 7)])
def test_a_missing_slice(tmp_path: Path, slots: tuple[int, ...]) -> None:
    files = Series(slots=slots).write(tmp_path)
    error = refusal(tmp_path)
    before = int(np.argmax(np.diff(slots)))
    assert error.tag == "ImagePositionPatient"
    assert error.file == str(files[before])
    assert str(files[before + 1]) in str(error)
    assert f"({max(np.diff(slots)) - 1} missing)" in str(error)
    assert "2.000 mm between all slices" in str(error)
    series = read_series(tmp_path, geometry="slices")
    assert series.spacing_between_slices_mm is None
    np.testing.assert_allclose(corner(series, 0, 0, len(slots) - 1), [-10, -20, 100 + 2 * slots[-1]])


def test_small_differences_that_add_up(tmp_path: Path) -> None:
    def change(dataset: pydicom.FileDataset, index: int) -> None:
        dataset.ImagePositionPatient = [-10, -20, index + 0.1 * max(0, index - 10)]

    Series(slots=range(20), spacing_mm=1, change=change).write(tmp_path)
    assert "1.000 mm between all slices" in str(refusal(tmp_path))


def test_only_the_kept_spacing_counts(tmp_path: Path) -> None:
    Series(slots=(0, 1, 2, 4)).write(tmp_path)
    assert read_series(tmp_path, z_range_mm=(0, 105)).spacing_between_slices_mm == pytest.approx(2)


@pytest.mark.parametrize("geometry", ["volume", "slices"])
def test_one_place_twice(tmp_path: Path, geometry: str) -> None:
    files = Series(slots=(0, 1, 1, 2)).write(tmp_path)
    error = refusal(tmp_path, geometry=geometry)
    assert error.file == str(files[2])
    assert str(files[1]) in str(error)


def test_slices_shifted_sideways(tmp_path: Path) -> None:
    def change(dataset: pydicom.FileDataset, index: int) -> None:
        dataset.ImagePositionPatient = [-5, -20, dataset.ImagePositionPatient[2]]

    files = Series(change=only(2, change)).write(tmp_path)
    error = refusal(tmp_path)
    assert error.file == str(files[2])
    assert "5.00 mm off the line" in str(error)
    assert read_series(tmp_path, geometry="slices").hu.shape[0] == 5


# --- what is refused ---------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, object], str]] = [
    ("RescaleSlope", {"RescaleSlope": None}, "absent"),
    ("RescaleSlope", {"RescaleSlope": 0}, "0"),
    ("RescaleIntercept", {"RescaleIntercept": None}, "absent"),
    ("RescaleType", {"RescaleType": "US"}, "US"),
    ("RescaleType", {"RescaleType": "HU_MOD"}, "HU_MOD"),
    ("RescaleType", {"RescaleType": None, "ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "absent"),
    ("RescaleType", {"RescaleType": None, "ImageType": None}, "absent"),
    ("RescaleType", {"RescaleType": None, "MultienergyCTAcquisition": "YES"}, "absent"),
    ("PhotometricInterpretation", {"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    ("SamplesPerPixel", {"SamplesPerPixel": 3}, "3"),
    ("Modality", {"Modality": ""}, "absent"),
    ("Columns", {"Columns": None}, "absent"),
    ("header", {"Rows": None}, "ends early"),
    ("ImagePositionPatient", {"ImagePositionPatient": None}, "absent"),
    ("ImagePositionPatient", {"ImagePositionPatient": [1, 2]}, "not 3 numbers"),
    ("ImageOrientationPatient", {"ImageOrientationPatient": None}, "absent"),
    ("ImageOrientationPatient", {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "1"),
    ("PixelSpacing", {"PixelSpacing": None}, "absent"),
    ("PixelSpacing", {"PixelSpacing": [0, 1]}, "0"),
    ("PixelData", {"PixelData": b"\1\0" * 10}, "20 bytes long"),
    ("PixelData", {"PixelData": None}, "absent"),
    ("BitsStored", {"BitsStored": 8, "HighBit": 7}, "8 with HighBit 7"),
    ("BitsStored", {"BitsStored": 12, "HighBit": 15}, "HighBit 15"),
]


@pytest.mark.parametrize(("tag", "elements", "found"), WRONG)
@pytest.mark.parametrize("where", ["all", "third"])
def test_wrong_elements(tmp_path: Path, tag: str, elements: dict[str, object], found: str, where: str) -> None:
    change = setting(**elements)
    files = Series(change=change if where == "all" else only(2, change)).write(tmp_path)
    error = refusal(tmp_path)
    assert error.tag == tag
    assert found in str(error.found)
    assert error.file == str(files[0 if where == "all" else 2])


DIFFERING: list[tuple[str, object]] = [
    ("Columns", 3),
    ("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]),
    ("PixelSpacing", [0.5, 0.5]),
    ("FrameOfReferenceUID", "1.2.3"),
    ("StudyInstanceUID", "1.2.3"),
    ("PatientID", "P2"),
]


@pytest.mark.parametrize(("tag", "value"), DIFFERING)
def test_slices_that_do_not_belong_together(tmp_path: Path, tag: str, value: object) -> None:
    files = Series(change=only(3, setting(**{tag: value}))).write(tmp_path)
    error = refusal(tmp_path)
    assert (error.tag, error.file) == (tag, str(files[3]))
    assert str(files[0]) in str(error)


def test_rescale_type_may_be_absent_in_an_original_ct_image(tmp_path: Path) -> None:
    Series(change=setting(RescaleType=None)).write(tmp_path)
    assert read_series(tmp_path).hu.shape == (5, 6, 4)


def test_a_frame_of_reference_per_file_means_nothing(tmp_path: Path) -> None:
    def change(dataset: pydicom.FileDataset, index: int) -> None:
        dataset.FrameOfReferenceUID = f"1.2.{index}"

    Series(change=change).write(tmp_path)
    assert read_series(tmp_path).frame_of_reference_uid == ""
    Series(change=change, slots=range(2)).write(tmp_path / "two")
    assert refusal(tmp_path / "two").tag == "FrameOfReferenceUID"


def test_a_malformed_number_counts_as_absent(tmp_path: Path) -> None:
    files = Series().write(tmp_path)
    raw = files[1].read_bytes()
    assert raw.count(b"-1024.0 ") == 1
    files[1].write_bytes(raw.replace(b"-1024.0 ", b"-1024,0 "))
    assert refusal(tmp_path).tag == "RescaleIntercept"


# --- what is found -----------------------------------------------------------------------------------


def test_scouts_reports_and_junk_are_skipped_with_a_reason(tmp_path: Path) -> None:
    made = Series()
    made.write(tmp_path / "ct" / "deep")
    scout = setting(**SCOUT)
    # A scout of the very same series must be split off, too.
    replace(made, slots=(9,), prefix="scout", change=scout).write(tmp_path)
    Series(slots=(0,), change=setting(SOPClassUID=SECONDARY_CAPTURE)).write(tmp_path / "dose")
    Series(slots=(0,), change=setting(Modality="MR", SOPClassUID=MR_IMAGE)).write(tmp_path / "mr")
    Series(slots=(0,), change=setting(ImageType=["DERIVED", "PRIMARY", "MPR"])).write(tmp_path / "mpr")
    Series(slots=(0,), change=setting(NumberOfFrames=2)).write(tmp_path / "enhanced")
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "empty").touch()
    found = find_series(tmp_path)
    assert [(one.uid, len(one.files), one.rows, one.columns) for one in found.series] == [(made.series_uid, 5, 6, 4)]
    assert found.series[0].modality == "CT"
    assert found.series[0].image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    reasons = found.reasons()
    for words in ("localizer", "Secondary Capture", "Modality MR", "MPR", "multi-frame", "2 x not a DICOM"):
        assert words in reasons
    assert {skipped.series_uid for skipped in found.skipped if "localizer" in skipped.reason} == {made.series_uid}
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())


def test_two_series_ask_for_a_choice(tmp_path: Path) -> None:
    soft, sharp = Series(description="soft", seed=1), Series(description="sharp", seed=2)
    soft.write(tmp_path)
    replace(sharp, prefix="other").write(tmp_path)
    message = str(refusal(tmp_path))
    for words in (soft.series_uid, sharp.series_uid, "soft", "sharp", "series_uid="):
        assert words in message
    np.testing.assert_array_equal(read_series(tmp_path, series_uid=sharp.series_uid).hu, sharp.hu())
    assert "1.2.3" in str(refusal(tmp_path, series_uid="1.2.3"))


def test_without_a_series_uid_a_folder_is_a_series(tmp_path: Path) -> None:
    blank = setting(SeriesInstanceUID="")
    made = Series(change=blank)
    made.write(tmp_path / "one")
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())
    Series(change=blank).write(tmp_path / "two")
    assert str(tmp_path / "two") in str(refusal(tmp_path))


def test_no_series_at_all_lists_the_reasons(tmp_path: Path) -> None:
    assert "no files at all" in str(refusal(tmp_path))
    (tmp_path / "note").write_text("hello")
    assert "1 x not a DICOM file" in str(refusal(tmp_path))
    assert refusal(tmp_path / "nowhere").tag == "path"


def test_a_damaged_header_may_be_a_lost_slice(tmp_path: Path) -> None:
    files = Series().write(tmp_path)
    files[4].write_bytes(files[4].read_bytes()[:150])  # cut within the file meta group
    error = refusal(tmp_path)
    assert error.file == str(files[4])


def test_a_link_to_nowhere_may_be_a_lost_slice(tmp_path: Path) -> None:
    Series().write(tmp_path)
    (tmp_path / "zzz").symlink_to(tmp_path / "gone")
    assert refusal(tmp_path).file == str(tmp_path / "zzz")


@pytest.mark.parametrize("part", np.linspace(0.05, 0.999, 24))
def test_a_file_cut_anywhere_is_never_read_silently(tmp_path: Path, part: float) -> None:
    files = Series().write(tmp_path)
    raw = files[4].read_bytes()
    files[4].write_bytes(raw[: int(part * len(raw))])
    if part * len(raw) > 132:  # shorter than that it no longer claims to be DICOM
        refusal(tmp_path)
