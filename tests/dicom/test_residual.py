"""What was removed, as a series: exactly source minus result, and nothing that was said about the source's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom.derived import derivation, derive, item, read, write_source
from dicom.synthetic import Change, setting
from pydicom.dataset import FileDataset

from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice, without_warnings
from iscl_monai.dicom.residual import SHOWN_HU, ResidualWriter, residual_of
from iscl_monai.errors import DicomRefusal


def made_from(path: Path, removed: np.ndarray) -> FileDataset:
    """The residual of a slice of which something was removed, in stored units."""
    folder = path.parent.parent / "residual"
    folder.mkdir()
    header = read_header(path)
    with without_warnings():
        source, dataset = load_slice(header)
        before = source.stored.astype(np.int64)
        writer = ResidualWriter([header], residual_of(derivation()), folder)
        return read(writer.write_residual(0, dataset, before, before - removed))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("slope", [1.0, 2.0, -0.5])
def test_source_minus_result_in_hounsfield_units(tmp_path: Path, signed: bool, slope: float) -> None:
    removed = np.random.default_rng(0).integers(-32767, 32768, (16, 16))
    residual = made_from(write_source(tmp_path, signed=signed, slopes=[slope]), removed)
    hu = residual.pixel_array * float(residual.RescaleSlope) + float(residual.RescaleIntercept)
    np.testing.assert_array_equal(hu, removed * slope)
    assert (residual.BitsAllocated, residual.BitsStored, residual.HighBit, residual.PixelRepresentation) == (
        16,
        16,
        15,
        1,
    )


def test_it_is_a_series_of_its_own(tmp_path: Path) -> None:
    path = write_source(tmp_path)
    residual, source = made_from(path, np.ones((16, 16), int)), read(path)
    assert residual.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "RESIDUAL"]
    assert residual.SeriesDescription == "synthetic | AI REMOVED NOISE ISCL"
    assert (residual.SeriesNumber, residual.StudyInstanceUID) == (378, source.StudyInstanceUID)
    denoised = derivation().uid("series", source.SeriesInstanceUID)
    assert residual.SeriesInstanceUID not in (denoised, source.SeriesInstanceUID)
    assert (residual.WindowCenter, residual.WindowWidth) == (0, SHOWN_HU)


def test_it_says_that_it_is_a_difference(tmp_path: Path) -> None:
    residual = made_from(write_source(tmp_path), np.ones((16, 16), int))
    steps = [(one.CodeValue, one.CodingSchemeDesignator) for one in residual.DerivationCodeSequence]
    assert steps == [("NOISERED", "99ISCL"), ("113062", "DCM")]
    assert "source minus result" in residual.DerivationDescription
    assert "then Pixel by pixel subtraction" in residual.ContributingEquipmentSequence[-1].ContributionDescription


def test_it_lies_in_the_study_of_the_result_even_where_that_was_blanked(tmp_path: Path) -> None:
    path = write_source(tmp_path, setting(StudyInstanceUID=""))
    assert made_from(path, np.ones((16, 16), int)).StudyInstanceUID == derive(path).StudyInstanceUID


def words_about_values() -> Change:
    table = item(LUTDescriptor=[1, 0, 16])
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "US", 5)
    return setting(
        PixelPaddingValue=63536,
        PixelPaddingRangeLimit=63537,
        VOILUTSequence=[table],
        WindowCenterWidthExplanation="soft tissue",
    )


def test_what_was_said_about_the_values_of_the_source_is_dropped(tmp_path: Path) -> None:
    path = write_source(tmp_path, words_about_values())
    found = {element.keyword for element in made_from(path, np.ones((16, 16), int))}
    assert not found & {"PixelPaddingValue", "PixelPaddingRangeLimit", "VOILUTSequence", "WindowCenterWidthExplanation"}


def test_real_world_values_of_the_source_are_dropped(tmp_path: Path) -> None:
    mapping = item(RealWorldValueIntercept=-1024.0, RealWorldValueSlope=1.0)
    path = write_source(tmp_path, setting(RealWorldValueMappingSequence=[mapping], VOILUTFunction="SIGMOID"))
    found = {element.keyword for element in made_from(path, np.ones((16, 16), int))}
    assert not found & {"RealWorldValueMappingSequence", "VOILUTFunction"}


def test_more_than_16_bits_can_hold_is_refused(tmp_path: Path) -> None:
    path = write_source(tmp_path)
    with pytest.raises(DicomRefusal, match="--save-residual"):
        made_from(path, np.full((16, 16), -32768))
    assert list((tmp_path / "residual").iterdir()) == []
