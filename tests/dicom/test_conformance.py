"""Derived series of real scanners, in the eyes of other people's tools: nothing wrong that the source has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from dicom.derived import read
from dicom.scanners import SCANNERS, Pair
from dicom.validators import contradictions, new_complaints, run
from pydicom.dataset import FileDataset

from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import read_series

EVEN = ("Philips Ingenuity", "Siemens")


@pytest.fixture(params=SCANNERS)
def pair(request: pytest.FixtureRequest, pair_of: Callable[[str], Pair]) -> Pair:
    return pair_of(request.param)


# --- dicom3tools -------------------------------------------------------------------------------------


def test_no_slice_has_an_error_that_its_source_has_not(pair: Pair) -> None:
    files = pair.files()
    assert len(files) == 2 * len(pair.sources())
    assert {path: new_complaints(source, path) for source, path in files} == {path: [] for _, path in files}


def test_source_and_derived_series_do_not_contradict_one_another(pair: Pair) -> None:
    assert contradictions(pair.sources()) == []  # else the next line would say nothing
    assert contradictions([*pair.sources(), *(path for _, path in pair.files())]) == []


def broken(pair: Pair, folder: Path, change: Callable[[FileDataset], None]) -> tuple[Path, Path]:
    source, derived = pair.files()[0]
    dataset = read(derived)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.3"
    change(dataset)
    dataset.save_as(folder / "broken.dcm")
    return source, folder / "broken.dcm"


FAULTS: dict[str, Callable[[FileDataset], None]] = {
    "RescaleSlope": lambda dataset: delattr(dataset, "RescaleSlope"),
    "ImageType": lambda dataset: setattr(dataset, "ImageType", ["DERIVED"]),
    "SOPInstanceUID": lambda dataset: setattr(dataset, "SOPInstanceUID", "2.25.4"),  # not what the file meta says
    "ReferencedSOPInstanceUID": lambda dataset: delattr(dataset.SourceImageSequence[0], "ReferencedSOPInstanceUID"),
    "WindowWidth": lambda dataset: setattr(dataset, "WindowWidth", 0),
    "PixelData": lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-100]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scanner", ["Toshiba", "Philips Brilliance"])
def test_a_fault_would_be_seen(pair_of: Callable[[str], Pair], tmp_path: Path, scanner: str, fault: str) -> None:
    found = new_complaints(*broken(pair_of(scanner), tmp_path, FAULTS[fault]))
    assert any(line.startswith("Error") and fault in line for line in found), found


@pytest.mark.parametrize("keyword", ["SeriesTime", "SeriesDescription", "PatientID"])
def test_a_contradiction_would_be_seen(pair_of: Callable[[str], Pair], tmp_path: Path, keyword: str) -> None:
    pair = pair_of("Toshiba")
    _, path = broken(pair, tmp_path, lambda dataset: setattr(dataset, keyword, "000001"))
    found = contradictions([*pair.sources(), pair.files()[0][1], path])
    assert any(keyword in line for line in found), found


# --- readers -----------------------------------------------------------------------------------------


def test_dcmtk_reads_what_was_written(pair: Pair, tmp_path: Path) -> None:
    for _, derived in pair.files()[:2]:
        dumped = run("dcmdump", "--print-all", derived)
        assert (dumped.returncode, dumped.stderr) == (0, "")
        assert "DERIVED\\SECONDARY" in dumped.stdout
        assert run("dcmftest", derived).stdout.startswith("yes:")
        written = run("dcm2xml", derived)
        assert (written.returncode, written.stderr) == (0, "")
        converted = run("dcmconv", "--write-xfer-implicit", derived, tmp_path / "implicit.dcm")
        assert (converted.returncode, converted.stderr) == (0, "")
        again, before = read(tmp_path / "implicit.dcm"), read(derived)
        assert [element for element in again if element.VR != "UL"] == [
            element for element in before if element.VR != "UL"
        ]


def test_simpleitk_reads_the_same_geometry_and_values(pair: Pair) -> None:
    images = []
    for folder in (pair.source, pair.derived):
        (uid,) = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        images.append(SimpleITK.ReadImage(files))
    source, derived = images
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(derived, geometry)() == getattr(source, geometry)()
    series = read_series(pair.derived, series_uid=uid, geometry="slices")
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(derived), series.hu, atol=1e-3)
    assert np.abs(series.hu - read_series(pair.source, geometry="slices").hu).mean() > 1  # it is another image


def test_highdicom_reads_the_same_geometry_and_values(pair: Pair) -> None:
    source, derived = pair.files()[0]
    with without_warnings():
        image, before = highdicom.imread(derived), highdicom.imread(source)
    np.testing.assert_allclose(image.get_frame(1), read_series(derived, geometry="slices").hu[0], atol=1e-3)
    mine, its = image.get_volume_geometry(), before.get_volume_geometry()
    assert mine is not None
    assert its is not None
    np.testing.assert_array_equal(mine.affine, its.affine)
    assert mine.frame_of_reference_uid == its.frame_of_reference_uid


@pytest.mark.parametrize("scanner", EVEN)
def test_highdicom_makes_the_same_volume(pair_of: Callable[[str], Pair], scanner: str) -> None:
    pair = pair_of(scanner)
    datasets = [read(path) for path in sorted(pair.derived.glob("*.dcm"))]
    with without_warnings():
        mine = highdicom.get_volume_from_series(datasets)
        its = highdicom.get_volume_from_series([read(path) for path in pair.sources()])
    np.testing.assert_array_equal(mine.affine, its.affine)
    assert mine.array.shape == its.array.shape
    assert np.abs(mine.array - its.array).mean() > 1
