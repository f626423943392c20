"""Simulated series of real scanners and of hostile files, in the eyes of dicom3tools: nothing wrong that was not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.derived import FULL, both, read
from dicom.scanners import SCANNERS
from dicom.synthetic import setting
from dicom.validators import contradictions, new_complaints
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.pixels import set_pixel_data
from pydicom.uid import ExplicitVRBigEndian, JPEGLSNearLossless
from test_dose_series import SIGNED, UNSIGNED, painting, source

from data_prep.dose.series import simulate_series
from data_prep.dose.simulation import Acceptance
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.errors import DicomRefusal

AVERAGED = {"Philips Ingenuity": 2, "Siemens": 3}


def as_it_is(path: Path) -> FileDataset:
    """A file whose elements are converted when they are looked at."""
    with without_warnings():
        return dcmread(path)


def pairs(scan: Path, derived: Path) -> list[tuple[Path, Path]]:
    """Every derived file, with each of its sources."""
    by_uid = {as_it_is(path).SOPInstanceUID: path for path in scan.iterdir()}
    return [
        (by_uid[one.ReferencedSOPInstanceUID], path)
        for path in sorted(derived.iterdir())
        for one in read(path).SourceImageSequence
    ]


def check(scan: Path, derived: Path) -> None:
    files = pairs(scan, derived)
    assert {path for _, path in files} == {*derived.iterdir()}
    assert {path: new_complaints(one, path) for one, path in files} == {path: [] for _, path in files}
    assert contradictions([*scan.iterdir(), *derived.iterdir()]) == contradictions([*scan.iterdir()])


def middle_slices(scanner: str, count: int, folder: Path) -> Path:
    """A few neighbouring slices of a scanner; they are large, so they are few."""
    for name in ("all", "scan"):
        (folder / name).mkdir()
    SCANNERS[scanner](folder / "all")
    files = sorted((folder / "all").iterdir(), key=lambda path: float(read(path).ImagePositionPatient[2]))
    start = (len(files) - count) // 2
    for file in files[start : start + count]:
        shutil.copyfile(file, folder / "scan" / file.name)
    return folder / "scan"


ANYTHING = Acceptance(calibration=True, iterative=True)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_no_simulated_slice_has_an_error_that_its_source_has_not(tmp_path: Path, scanner: str) -> None:
    scan = middle_slices(scanner, 1, tmp_path)
    simulate_series(scan, tmp_path / "low", fraction=0.25, accepted=ANYTHING)
    check(scan, tmp_path / "low")


@pytest.mark.parametrize("scanner", AVERAGED)
def test_no_average_has_an_error_that_its_sources_have_not(tmp_path: Path, scanner: str) -> None:
    scan = middle_slices(scanner, AVERAGED[scanner] + 1, tmp_path)  # the last one is left out
    simulate_series(scan, tmp_path / "clean", fraction=1, average=AVERAGED[scanner])
    check(scan, tmp_path / "clean")


# --- hostile sources ---------------------------------------------------------------------------------


def rewrite(folder: Path, change: Callable[[FileDataset, Path], None]) -> None:
    for path in folder.iterdir():
        change(read(path), path)


def big_endian(dataset: FileDataset, path: Path) -> None:
    table = FileDataset("", {})
    table.LUTDescriptor = [4, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", np.arange(4, dtype=">u2").tobytes())
    dataset.VOILUTSequence = [table]
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(path, dataset, implicit_vr=False, little_endian=False, overwrite=True)


def lossy(dataset: FileDataset, path: Path) -> None:
    set_pixel_data(dataset, dataset.pixel_array, "MONOCHROME2", 12, generate_instance_uid=False)
    dataset.compress(JPEGLSNearLossless, jls_error=2, generate_instance_uid=False)
    dataset.save_as(path)


def more_private(dataset: FileDataset, index: int) -> None:
    dataset.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "broken")


def damaged_private(dataset: FileDataset, path: Path) -> None:
    raw = path.read_bytes()
    found = b"LO\x06\x00broken"
    assert raw.count(found) == 1
    path.write_bytes(raw.replace(found, b"FD\x06\x00broken"))  # of no length that such numbers have


def unchanged(dataset: FileDataset, path: Path) -> None:
    """Hostile as it is."""


JAPANESE = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}
KANA = {"SpecificCharacterSet": "ISO_IR 13", "SeriesDescription": "ｷｮｳﾌﾞ"}
HOSTILE: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[FileDataset, Path], None]]] = {
    "big endian": (SIGNED, {}, big_endian),
    "lossy": (UNSIGNED, {}, lossy),
    "damaged private element": (SIGNED, {}, damaged_private),
    "Japanese": (SIGNED, JAPANESE, unchanged),
    "half-width kana": (SIGNED, KANA, unchanged),
}


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    form, elements, change = HOSTILE[request.param]
    scan = source(tmp_path / "scan", slices=3, change=both(FULL, painting(form), more_private, setting(**elements)))
    rewrite(scan, change)
    return scan


@pytest.mark.parametrize("options", [{"fraction": 0.25}, {"fraction": 1, "average": 3}], ids=["low", "mean"])
def test_hostile_sources_become_valid_series(hostile: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    simulate_series(hostile, tmp_path / "low", **options)
    check(hostile, tmp_path / "low")
    for one, path in pairs(hostile, tmp_path / "low"):
        before, after = as_it_is(one), read(path)
        assert after.PatientID == before.PatientID
        assert after.get("PatientName") == before.get("PatientName")
        assert after.get("SpecificCharacterSet") == before.get("SpecificCharacterSet")
        assert "dose" in after.SeriesDescription.lower() or "MEAN" in after.SeriesDescription
        assert not [element for element in after if element.tag.is_private]
        is_lossy = before.file_meta.TransferSyntaxUID == JPEGLSNearLossless
        assert after.get("LossyImageCompression") == ("01" if is_lossy else None)
        if "VOILUTSequence" in after:
            assert after.VOILUTSequence[0].LUTData == np.arange(4, dtype="<u2").tobytes()


def test_an_element_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", slices=3, elements={"InstitutionName": "wrong"})
    for path in scan.iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"\x08\x00\x80\x00LO\x06\x00wrong ", b"\x08\x00\x80\x00FD\x06\x00wrong "))
    with pytest.raises(DicomRefusal, match="0008,0080"):
        simulate_series(scan, tmp_path / "low", fraction=0.5)
    assert not (tmp_path / "low").exists()
