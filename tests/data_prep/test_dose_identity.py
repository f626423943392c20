"""What a simulated series is called, and when an earlier run's work counts: by the voxels it came from."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from objects import water
from pydicom.dataset import FileDataset
from test_dose_archive import row
from test_dose_series import (
    AXIS,
    SIGNED,
    SPACING_MM,
    UNSIGNED,
    headers,
    interrupt_late,
    painting,
    read,
    simulate,
    source,
)

from data_prep.__main__ import main
from data_prep.dose.archive import TableRequest, simulate_table
from data_prep.table import write_table
from iscl_monai.errors import ConfigRefusal, OutputRefusal
from iscl_monai.scanner.dose import SIMULATOR, acquire, insert_noise, outside


def raise_square(folder: Path, hu: int = 700) -> None:
    """Change pixels behind UIDs that stay."""
    for file in filter(Path.is_file, folder.rglob("*")):
        dataset = pydicom.dcmread(file)
        stored = dataset.pixel_array.copy()
        stored[30:34, 30:34] += hu
        dataset.PixelData = stored.tobytes()
        dataset.save_as(file)


def test_other_voxels_are_another_series(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan")
    first = read(simulate(scan, tmp_path / "a", fraction=0.5))
    part = read(simulate(scan, tmp_path / "b", fraction=0.5, z_range_mm=(first.positions_mm[0], first.positions_mm[2])))
    uids = [{dataset.SOPInstanceUID for dataset in headers(tmp_path / name)} for name in "ab"]
    raise_square(scan)
    other = read(simulate(scan, tmp_path / "c", fraction=0.5))
    uids.append({dataset.SOPInstanceUID for dataset in headers(tmp_path / "c")})
    assert len({first.series_uid, part.series_uid, other.series_uid}) == 3
    assert len(set.union(*uids)) == sum(map(len, uids))


def test_a_table_run_again_follows_what_changed(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", slices=4)
    table, _ = write_table([row(scan, 0)], tmp_path / "series")
    request = TableRequest(fraction=0.5)
    simulate_table(table, tmp_path / "low", request=request)
    raise_square(scan)
    simulate_table(table, tmp_path / "low", request=request)
    folders = sorted(
        (path for path in (tmp_path / "low").iterdir() if path.is_dir()), key=lambda one: one.stat().st_ctime
    )
    assert len(folders) == 2
    shift = read(folders[1]).hu[:, 30:34, 30:34].mean() - read(folders[0]).hu[:, 30:34, 30:34].mean()
    assert shift == pytest.approx(700, abs=30)


def test_what_was_left_of_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = source(tmp_path / "scan")
    interrupt_late(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        simulate(scan, tmp_path / "low", fraction=0.5, workers=1)
    monkeypatch.undo()
    raise_square(scan)
    low = read(simulate(scan, tmp_path / "low", fraction=0.5))
    change = (low.hu - read(scan).hu)[:, 30:34, 30:34].mean(axis=(1, 2))
    assert np.abs(change).max() < 30


def test_the_recipe_has_a_new_name_whenever_it_gives_other_noise() -> None:
    """If this fails, the same UIDs would name other pixels: raise the version in SIMULATOR, then the numbers here."""
    assert SIMULATOR == "iscl_monai noise insertion, fan beam, version 4"
    truth = np.stack([water(96, 3.0, 120, 90, hu=30)] * 4)
    scan_hu = np.rint(acquire(truth, spacing_mm=3.0, photons=2e5, seed=1))
    added_hu = insert_noise(scan_hu, spacing_mm=3.0, fraction=0.25, seed=2) - scan_hu
    found = [added_hu.std(), added_hu[0, 48, 48], added_hu[2, 40, 60], np.abs(added_hu).max()]
    # Other processors round other positions to the nearest sample.
    assert found == pytest.approx([7.50, 1.57, -18.44, 33.09], rel=2e-3, abs=0.2)


def test_volumes_of_one_name_get_noise_of_their_own(tmp_path: Path) -> None:
    added = []
    for number in range(2):
        scan = read(source(tmp_path / f"scan{number}", slices=3))
        hu = np.rint(scan.hu.transpose(2, 1, 0) + 3 * number).astype(np.int16)
        (tmp_path / str(number)).mkdir()
        nibabel.save(
            nibabel.Nifti1Image(hu, np.diag([SPACING_MM, SPACING_MM, 1, 1])), tmp_path / str(number) / "ct.nii"
        )
        words = [str(tmp_path / str(number) / "ct.nii"), str(tmp_path / f"low{number}.nii"), "--fraction", "0.25"]
        assert main(["dose", *words]) == 0
        added.append(np.asarray(nibabel.load(tmp_path / f"low{number}.nii").dataobj, np.float32) - hu)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.1


def test_values_that_are_no_hu_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hu = read(source(tmp_path / "scan", SIGNED, slices=3)).hu.transpose(2, 1, 0)
    image = nibabel.Nifti1Image((hu.clip(-1000, None) + 1024).astype(np.uint16), np.diag([4.0, 4, 1, 1]))
    nibabel.save(image, tmp_path / "scan.nii")
    assert main(["dose", str(tmp_path / "scan.nii"), str(tmp_path / "low.nii"), "--fraction", "0.5"]) == 2
    assert "allowed: Hounsfield units" in capsys.readouterr().err
    assert main(["dose", str(tmp_path / "scan.nii"), str(tmp_path / "low"), "--fraction", "0.5"]) == 2
    assert "ends with .nii" in capsys.readouterr().err


def test_noise_in_air_is_not_taken_for_padding() -> None:
    rng = np.random.default_rng(0)
    image_hu = np.where(np.hypot(AXIS, AXIS[:, None]) > 124, -2000, -1000).astype(np.float32)
    image_hu[5:-5, 5:-5] += rng.normal(0, 80, (54, 54)).astype(np.float32) * (image_hu[5:-5, 5:-5] > -1500)
    found = outside(image_hu)
    assert (image_hu[~found] > -1500).all()
    assert found.sum() == pytest.approx((image_hu < -1500).sum(), rel=0.02)
    assert ((image_hu < -1100) & ~found).sum() > 20


def test_averages_of_noisy_air_keep_its_mean(tmp_path: Path) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        painting(SIGNED)(dataset, index)
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(64, 64).copy()
        air = (stored > -1900) & (stored < -500)
        stored[air] += np.rint(np.random.default_rng(index).normal(0, 60, air.sum())).astype(np.int16)
        dataset.PixelData = stored.tobytes()

    scan = source(tmp_path / "scan", change=change)
    clean = read(simulate(scan, tmp_path / "clean", fraction=1, average=3))
    air = (np.hypot(AXIS, AXIS[:, None]) > 95) & (np.hypot(AXIS, AXIS[:, None]) < 120)
    assert clean.hu[:, air].mean() == pytest.approx(read(scan).hu[:, air].mean(), abs=1)
    assert clean.hu[:, air].min() > -1500


def test_an_average_is_as_thick_as_what_it_covers(tmp_path: Path) -> None:
    elements = {"SliceThickness": 5, "SpacingBetweenSlices": 1, "ImagePositionPatient": None}
    del elements["ImagePositionPatient"]
    scan = source(tmp_path / "scan", elements=elements)
    dataset = headers(simulate(scan, tmp_path / "clean", fraction=1, average=3))[0]
    assert float(dataset.SliceThickness) == pytest.approx(7)  # three of 5 mm, 1 mm apart
    assert float(dataset.SpacingBetweenSlices) == pytest.approx(3)


@pytest.mark.parametrize("location", ["", "top"])
def test_a_location_that_is_none_is_left_out(tmp_path: Path, location: str) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        painting(SIGNED)(dataset, index)
        dataset["SliceLocation"] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag("SliceLocation"), "DS", len(location), location.encode(), 0, False, True
        )

    scan = source(tmp_path / "scan", change=change)
    assert "SliceLocation" not in headers(simulate(scan, tmp_path / "clean", fraction=1, average=3))[0]


def test_descriptions_in_any_alphabet(tmp_path: Path) -> None:
    for number, (charset, text) in enumerate((("ISO_IR 192", "胸部 CT"), ("ISO_IR 13", "ｷｮｳﾌﾞ"))):
        elements = {"SpecificCharacterSet": charset, "SeriesDescription": text}
        scan = source(tmp_path / f"scan{number}", elements=elements)
        dataset = headers(simulate(scan, tmp_path / f"low{number}", fraction=0.5))[0]
        assert dataset.SeriesDescription.endswith("SIMULATED 0.5 DOSE")


def test_what_is_read_is_never_written_into(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", UNSIGNED)
    with pytest.raises(OutputRefusal, match="inside"):
        simulate(scan, scan / "low", fraction=0.5)
    assert len(read(scan).files) == len(list(scan.rglob("*")))


@pytest.mark.parametrize("words", [["--device", "cuda"], ["--device", "foo"], ["--fraction", "1"]])
def test_wrong_arguments_are_one_line(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    scan = source(tmp_path / "scan", slices=3)
    assert main(["dose", str(scan), str(tmp_path / "low"), "--fraction", "0.5", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = source(tmp_path / "scan", slices=3)
    for report in (tmp_path, tmp_path / "absent" / "report.html", tmp_path / "low.json"):
        words = [str(scan), str(tmp_path / "low"), "--fraction", "0.5", "--report", str(report)]
        assert main(["dose", *words]) == 2
        assert re.search("--report .*; allowed: ", capsys.readouterr().err)
    assert not (tmp_path / "low").exists()


@pytest.mark.parametrize("number", [np.inf, np.nan, -1.0, 0.0])
def test_requests_with_odd_numbers_are_refused(number: float) -> None:
    for change in ({"thickness_mm": number}, {"clean_below_hu": number}):
        with pytest.raises(ConfigRefusal):
            TableRequest(fraction=0.5, **change)
