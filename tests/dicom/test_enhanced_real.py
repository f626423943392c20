"""Multi-frame images in folders, real ones, and what other people's readers say of ours."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom.derived_frames import (
    DCMDUMP,
    DICOM3TOOLS,
    check_groups,
    derive,
    frames_of,
    one_line_with_a_cure,
    refusal,
    setting,
)
from dicom.multiframe import SERIES, Enhanced, shared, without
from dicom.synthetic import Series
from real_data import real

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.find import find_series
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import DicomRefusal

# --- what lies in a folder ---------------------------------------------------------------------------


def test_multiframe_images_are_found_beside_series(tmp_path: Path) -> None:
    made = Series()
    made.write(tmp_path / "single")
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    Enhanced(change=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])).write(tmp_path / "scout.dcm")
    Enhanced(change=setting(Modality="PT")).write(tmp_path / "other.dcm")
    found = find_series(tmp_path)
    assert [one.uid for one in found.series] == [made.series_uid]
    assert [(header.path, header.frames) for header in found.multiframe] == [(path, 4)]
    assert sorted(skipped.path.name for skipped in found.skipped) == ["other.dcm", "scout.dcm"]
    assert "localizer" in found.reasons()
    np.testing.assert_array_equal(read_series(tmp_path).hu, made.hu())


def test_no_series_is_read_from_a_multiframe_image(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    for options in ({}, {"series_uid": SERIES}):
        with pytest.raises(DicomRefusal, match="open_enhanced") as caught:
            read_series(tmp_path, **options)
        assert caught.value.file == str(one_line_with_a_cure(caught.value).file) == str(path)
    Series().write(tmp_path / "single")
    with pytest.raises(DicomRefusal, match="open_enhanced"):
        read_series(tmp_path, series_uid=SERIES)
    with pytest.raises(DicomRefusal, match="among 1"):
        read_series(tmp_path, series_uid="1.2.3")


def test_a_damaged_multiframe_image_may_be_a_lost_one(tmp_path: Path) -> None:
    path = Enhanced().write(tmp_path / "enhanced.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"\x28\x00\x02\x00US")])
    (skipped,) = find_series(tmp_path).skipped
    assert skipped.damaged


# --- real files, and other people's readers ----------------------------------------------------------


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 tilted slices of a GE scanner with uneven spacing and padding, converted by highdicom."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    with without_warnings():
        slices = [pydicom.dcmread(path) for path in sorted(real("qa/ge_head_tilt").rglob("*.dcm"))]
        converted = LegacyConvertedEnhancedCTImage(slices, "1.2.826.0.1.1", 9, "1.2.826.0.1.2", 1)
        path = tmp_path_factory.mktemp("legacy") / "image.dcm"
        converted.save_as(path)
    return path


@pytest.fixture(scope="module")
def legacy_derived(legacy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("derived")
    derive(legacy, out)
    return out / "00001.dcm"


def mended(source: Path, path: Path) -> Path:
    """A perfusion map made to look like a plain image in HU."""
    with without_warnings():
        dataset = pydicom.dcmread(source)
        shared(dataset, "PixelValueTransformationSequence").RescaleType = "HU"
        shared(dataset, "CTImageFrameTypeSequence").PixelPresentation = dataset.PixelPresentation = "MONOCHROME"
        without(dataset.SharedFunctionalGroupsSequence[0], "RealWorldValueMappingSequence")
        for tag in [tag for tag in dataset.keys() if 0x00281100 < tag < 0x00281300]:  # noqa: SIM118
            del dataset[tag]
        dataset.save_as(path)
    return path


def test_a_converted_series_stays_bit_for_bit(legacy: Path, legacy_derived: Path) -> None:
    with without_warnings():
        source, derived = pydicom.dcmread(legacy), pydicom.dcmread(legacy_derived)
    assert derived.NumberOfFrames == 28
    assert hashlib.sha256(derived.PixelData).digest() == hashlib.sha256(source.PixelData).digest()
    check_groups(source, derived)
    positions = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames_of(derived)]
    assert positions == [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames_of(source)]
    assert not any(element.tag.is_private for element in derived.iterall())
    slices = list(open_enhanced(legacy_derived).slices())
    assert all(one.padding_range == (-1500, -1500) for one in slices)
    assert any(one.padded is not None for one in slices)


def test_a_derived_image_can_be_derived_from(legacy_derived: Path, tmp_path: Path) -> None:
    assert open_enhanced(legacy_derived).derived
    twice = derive(legacy_derived, tmp_path / "out")
    assert len(frames_of(twice)[5].DerivationImageSequence) == 2


def messages(path: Path) -> set[str]:
    done = subprocess.run([DICOM3TOOLS, "-new", path], capture_output=True, text=True, check=False)
    assert "Enhanced" in done.stderr  # it knew what to look for
    return {line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))}


@pytest.mark.skipif(not Path(DICOM3TOOLS).exists(), reason="dicom3tools is not installed")
def test_the_validator_finds_nothing_new(legacy: Path, legacy_derived: Path, tmp_path: Path) -> None:
    source = mended(real("robust/robust_pydicom") / "eCT_Supplemental.dcm", tmp_path / "image.dcm")
    derive(source, tmp_path / "out")
    for before, after in ((legacy, legacy_derived), (source, tmp_path / "out" / "00001.dcm")):
        new = messages(after) - messages(before)
        # Our own coding scheme, and a UID that its dictionary of 2022 does not know there.
        assert not [line for line in new if "99ISCL" not in line and "DeviceUID" not in line]
        assert not any(line.startswith("Error") for line in new)


def test_highdicom_and_simpleitk_read_it(legacy: Path, legacy_derived: Path) -> None:
    import highdicom
    import SimpleITK

    with without_warnings():
        hu = [highdicom.imread(path).get_frames(dtype=np.float64) for path in (legacy, legacy_derived)]
    np.testing.assert_array_equal(*hu)
    read = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)) for path in (legacy, legacy_derived)]
    assert read[1].shape == (28, 512, 512)
    np.testing.assert_array_equal(*read)


@pytest.mark.skipif(not Path(DCMDUMP).exists(), reason="dcmtk is not installed")
def test_dcmtk_reads_it(legacy_derived: Path) -> None:
    done = subprocess.run([DCMDUMP, legacy_derived], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("DerivationImageSequence") == 28
    assert "(7fe0,0010) OW" in done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "robust_pydicom/eCT_Supplemental.dcm",
        "robust_transfer_syntaxes/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm",
    ],
)
def test_perfusion_maps_are_refused(name: str) -> None:
    folder, file = name.split("/")
    assert refusal(real(f"robust/{folder}") / file).tag == "PixelPresentation"


@pytest.mark.skipif("libjpeg" in sys.modules, reason="a decoder for 12-bit JPEG is installed")
def test_pixels_that_no_free_decoder_reads_are_refused(tmp_path: Path) -> None:
    name = "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm"
    caught = refusal(mended(real("robust/robust_transfer_syntaxes") / name, tmp_path / "image.dcm"))
    assert caught.tag == "PixelData"
    for words in ("JPEG Extended", "12-bit", "Explicit VR Little Endian"):
        assert words in str(caught)
