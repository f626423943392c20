from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from dicom.synthetic import Series, setting
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import LoadImage
from real_data import real

from iscl_monai.dicom.monai_io import CTReader, LoadCTd, estimate_shape, load_ct
from iscl_monai.errors import ConfigRefusal, DicomRefusal, ImageRefusal

AFFINE = np.array([[0.5, 0, 0, -30], [0, 0.75, 0, -40], [0, 0, 2, 100], [0, 0, 0, 1.0]])


def volume(seed: int = 0, shape: tuple[int, ...] = (6, 4, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def nifti(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


# --- DICOM -------------------------------------------------------------------------------------------


def test_dicom_in_index_order_with_its_ras_affine(tmp_path: Path) -> None:
    made = Series()
    made.write(tmp_path)
    image, meta = load_ct(tmp_path, geometry="volume")
    np.testing.assert_array_equal(image, made.hu().transpose(1, 2, 0))
    assert image.dtype == np.float32
    # LPS (-10, -20, 100) is RAS (10, 20, 100); a row down goes to posterior, a column on to the left.
    np.testing.assert_allclose(meta["affine"], [[0, -0.75, 0, 10], [-0.5, 0, 0, 20], [0, 0, 2, 100], [0, 0, 0, 1]])
    assert meta["spacing"] == pytest.approx((0.5, 0.75, 2))
    assert meta["positions_mm"] == pytest.approx((100, 102, 104, 106, 108))
    assert meta["series_uid"] == made.series_uid
    assert meta["filename_or_obj"] == str(tmp_path)
    assert meta["evenly_spaced"] is True


def test_a_single_dicom_file(tmp_path: Path) -> None:
    made = Series()
    image, _ = load_ct(str(made.write(tmp_path)[3]))
    np.testing.assert_array_equal(image[..., 0], made.hu()[3])


def test_uneven_slices_say_so(tmp_path: Path) -> None:
    Series(slots=(0, 1, 3)).write(tmp_path)
    assert load_ct(tmp_path)[1]["evenly_spaced"] is False
    with pytest.raises(DicomRefusal, match="1 missing"):
        load_ct(tmp_path, geometry="volume")


def test_dicom_agrees_with_simpleitk_on_a_real_scan() -> None:
    folder = real("qa/philips_phantom_mixed_folder") / "philips_mixed" / "S21570" / "S2010"
    image, meta = load_ct(folder, geometry="volume")
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    itk = SimpleITK.ReadImage(names)
    np.testing.assert_array_equal(image, SimpleITK.GetArrayFromImage(itk).transpose(1, 2, 0))
    lps = itk.TransformContinuousIndexToPhysicalPoint((7.0, 5.0, 3.0))  # x, y, z
    ras = meta["affine"] @ [5, 7, 3, 1]
    np.testing.assert_allclose(ras[:3], np.array(lps) * [-1, -1, 1], atol=1e-4)


# --- NIfTI, MetaImage, NRRD --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_its_order(tmp_path: Path, suffix: str) -> None:
    path = nifti(tmp_path / f"ct{suffix}", volume())
    image, meta = load_ct(path, trust_hu=True)
    np.testing.assert_array_equal(image, volume())
    assert image.dtype == np.float32
    np.testing.assert_allclose(meta["affine"], AFFINE)
    assert meta["positions_mm"] == pytest.approx((100, 102, 104, 106, 108))


def test_nifti_scaling_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(volume() + 1024, AFFINE)
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "ct.nii")
    loaded, _ = load_ct(tmp_path / "ct.nii", trust_hu=True)
    np.testing.assert_array_equal(loaded, nibabel.load(tmp_path / "ct.nii").get_fdata())


@pytest.mark.parametrize("downward", [False, True])
def test_nifti_range_by_position(tmp_path: Path, downward: bool) -> None:
    affine = AFFINE.copy()
    if downward:
        affine[:3, 2:] = [[0, -30], [0, -40], [-2, 108]]
    path = nifti(tmp_path / "ct.nii.gz", volume(), affine)
    image, meta = load_ct(path, z_range_mm=(102, 105), trust_hu=True)
    kept = slice(2, 4) if downward else slice(1, 3)
    np.testing.assert_array_equal(image, volume()[..., kept])
    np.testing.assert_allclose(meta["affine"][:3, 3], affine[:3] @ [0, 0, kept.start, 1])
    assert sorted(meta["positions_mm"]) == pytest.approx([102, 104])
    with pytest.raises(ConfigRefusal, match=r"100\.000 to 108\.000"):
        load_ct(path, z_range_mm=(0, 1))


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_itk_files_in_row_column_slice_order(tmp_path: Path, suffix: str) -> None:
    image = SimpleITK.GetImageFromArray(volume().transpose(2, 0, 1))
    image.SetSpacing((0.75, 0.5, 2.0))
    image.SetOrigin((-10.0, -20.0, 100.0))
    SimpleITK.WriteImage(image, str(tmp_path / f"ct{suffix}"))
    loaded, meta = load_ct(tmp_path / f"ct{suffix}", z_range_mm=(102, 108), trust_hu=True)
    np.testing.assert_array_equal(loaded, volume()[..., 1:])
    np.testing.assert_allclose(meta["affine"], [[0, -0.75, 0, 10], [-0.5, 0, 0, 20], [0, 0, 2, 102], [0, 0, 0, 1]])


def test_the_raw_fda_phantom(tmp_path: Path) -> None:
    """Its stored values are HU + 1000, and its header does not say so."""
    path = real("qa/fda_lcd_fbp") / "fda_lcd_fbp" / "dose_100" / "signal_absent" / "signal_absent.mhd"
    with pytest.raises(ImageRefusal, match=r"as dense as bone.*subtract 1000 from all values"):
        load_ct(path, trust_hu=True)
    mended = SimpleITK.ReadImage(str(path)) - 1000
    SimpleITK.WriteImage(mended, str(tmp_path / "hu.mha"))
    image, _ = load_ct(tmp_path / "hu.mha", trust_hu=True)
    assert image.shape == (256, 256, 10)
    assert image.min() > -1100


def spread(values: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    changed = values.astype(np.float32)
    changed[place] = value
    return changed


REFUSED: list[tuple[str, np.ndarray, np.ndarray, str]] = [
    ("nan", spread(volume(), (1, 2, 3), np.nan), AFFINE, "NaN"),
    ("infinite", spread(volume(), (0, 0, 0), np.inf), AFFINE, "infinite"),
    ("too low", spread(volume(), (0, 0, 0), -70000), AFFINE, "16 bits"),
    ("mask", (volume() > 0).astype(np.uint8), AFFINE, r"\[0, 1\]"),
    ("scaled", (volume() + 1000).astype(np.float32) / 3000, AFFINE, r"\[0, 1\]"),
    ("two axes", volume(shape=(6, 4)), AFFINE, "three axes"),
    ("four axes", volume(shape=(6, 4, 5, 2)), AFFINE, "three axes"),
    ("colour", np.zeros((6, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]), AFFINE, "colour"),
    ("sagittal", volume(), AFFINE[[2, 0, 1, 3]], "axis 2 runs along the patient"),
]


@pytest.mark.parametrize(("values", "affine", "words"), [case[1:] for case in REFUSED], ids=lambda _: "")
def test_nifti_that_is_no_ct(tmp_path: Path, values: np.ndarray, affine: np.ndarray, words: str) -> None:
    path = nifti(tmp_path / "odd.nii", values, affine)
    with pytest.raises(ImageRefusal, match=words) as caught:
        load_ct(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nifti_with_a_flat_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(volume(), None)
    image.header.set_sform(np.diag([1.0, 1, 0, 1]), 1)  # nibabel would complain if it wrote this by itself
    image.to_filename(tmp_path / "flat.nii")
    with pytest.raises(ImageRefusal, match="invertible"):
        load_ct(tmp_path / "flat.nii")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = nifti(tmp_path / "ct.nii.gz", volume(shape=(40, 40, 9))).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.nii").write_bytes(gzip.decompress(whole)[:5000])
    (tmp_path / "junk.nii").write_text("hello")
    (tmp_path / "junk.nrrd").write_text("hello")
    for name in ("cut.nii.gz", "cut.nii", "junk.nii", "junk.nrrd"):
        with pytest.raises(ImageRefusal, match="not readable"):
            load_ct(tmp_path / name)
    with pytest.raises(ImageRefusal, match="no such file"):
        load_ct(tmp_path / "none.nii")
    with pytest.raises(ImageRefusal, match="DICOM only"):
        load_ct(tmp_path / "ct.nii.gz", series_uid="1.2")


def test_vector_pixels(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((5, 6, 4, 2), np.int16), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "flow.mha"))
    with pytest.raises(ImageRefusal, match="vector"):
        load_ct(tmp_path / "flow.mha")


def test_shapes_from_headers_alone(tmp_path: Path) -> None:
    Series().write(tmp_path / "scan")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume().transpose(2, 0, 1)), str(tmp_path / "ct.mha"))
    nifti(tmp_path / "ct.nii", volume())
    for name in ("scan", "ct.nii", "ct.mha"):
        assert estimate_shape(tmp_path / name) == load_ct(tmp_path / name, trust_hu=True)[0].shape
    assert estimate_shape(tmp_path / "scan", z_range_mm=(102, 104)) == (6, 4, 2)
    assert estimate_shape(tmp_path / "ct.nii", z_range_mm=(102, 104)) == (6, 4, 2)
    (tmp_path / "junk.nii").write_text("hello")
    with pytest.raises(ImageRefusal, match="not readable"):
        estimate_shape(tmp_path / "junk.nii")


# --- MONAI -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*nvImageCodec.*")
def test_reader_in_load_image(tmp_path: Path) -> None:
    made = Series()
    made.write(tmp_path)
    image = LoadImage(reader=CTReader(z_range_mm=(102, 106)), ensure_channel_first=True)(str(tmp_path))
    assert isinstance(image, MetaTensor)
    np.testing.assert_array_equal(image[0].numpy(), made.hu()[1:4].transpose(1, 2, 0))
    np.testing.assert_allclose(image.affine[:3, 3], [10, 20, 102])


@pytest.mark.filterwarnings("ignore:.*nvImageCodec.*")
def test_load_image_does_not_read_behind_a_refusal(tmp_path: Path) -> None:
    files = Series(change=setting(RescaleType="US")).write(tmp_path)
    load = LoadImage(reader=CTReader())
    with pytest.raises(DicomRefusal, match="RescaleType is US"):
        load(str(tmp_path))
    with pytest.raises(ImageRefusal, match="5 paths"):
        load(files)


def test_load_ctd_reads_the_options_of_the_item(tmp_path: Path) -> None:
    one, two = Series(seed=1, prefix="a"), Series(seed=2, prefix="b")
    one.write(tmp_path)
    two.write(tmp_path)
    item = {"image": str(tmp_path), "series_uid": two.series_uid, "z_range_mm": [102, 104], "dose": 0.25}
    loaded = LoadCTd(keys=("image",), geometry="volume")(item)
    image = loaded["image"]
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image[0].numpy(), two.hu()[1:3].transpose(1, 2, 0))
    np.testing.assert_allclose(image.affine[:3, 3], [10, 20, 102])
    assert image.meta["series_uid"] == two.series_uid
    assert image.meta["filename_or_obj"] == str(tmp_path)
    assert json.loads(image.meta["positions_mm"]) == pytest.approx([102, 104])
    assert loaded["dose"] == 0.25
    assert isinstance(item["image"], str)  # the item itself is left alone


def test_load_ctd_tells_the_refusal_as_it_is(tmp_path: Path) -> None:
    Series(change=setting(RescaleType="US")).write(tmp_path)
    with pytest.raises(DicomRefusal, match="RescaleType is US"):
        LoadCTd(keys="image")({"image": tmp_path})
    with pytest.raises(KeyError):
        LoadCTd(keys="image")({})
    assert LoadCTd(keys="image", allow_missing_keys=True)({}) == {}


def test_scans_of_different_length_batch_after_cropping(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = []
    for count in (4, 7):
        Series(slots=range(count)).write(tmp_path / str(count))
        items.append({"image": str(tmp_path / str(count))})
    nifti(tmp_path / "ct.nii", volume())
    items.append({"image": str(tmp_path / "ct.nii")})

    def first_slices(item: dict[str, Any]) -> dict[str, Any]:
        loaded = LoadCTd(keys="image", trust_hu=True)(item)
        return {"image": loaded["image"][..., :3]}

    batch = next(iter(DataLoader(Dataset(items, first_slices), batch_size=3)))
    assert batch["image"].shape == (3, 1, 6, 4, 3)
    lengths: Sequence[int] = [len(json.loads(text)) for text in batch["image"].meta["positions_mm"]]
    assert lengths == [4, 7, 5]
