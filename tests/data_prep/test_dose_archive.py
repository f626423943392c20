from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from report.valid_html import check_page
from test_dose_series import SIGNED, SPACING_MM, noise_hu, read, source

from data_prep.__main__ import main
from data_prep.dose.archive import TableRequest, simulate_table, slices_to_simulate
from data_prep.dose.report import SliceFigures, verdict_of, write_dose_report
from data_prep.dose.simulation import Acceptance, Simulation
from data_prep.table import SeriesRow, read_table, write_table
from iscl_monai.data import Datalist
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, DicomRefusal, Refusal

SLICES = 12


def row(folder: Path, number: int, **options: Any) -> SeriesRow:
    scan = read(folder)
    fields: dict[str, Any] = {
        "path": str(folder),
        "series_uid": scan.series_uid,
        "study_uid": scan.study_uid,
        "patient": f"p{number}",
        "verdict": "fit",
        "geometry": "even",
        "slices": len(scan.files),
        "rows": scan.hu.shape[1],
        "columns": scan.hu.shape[2],
        "pixel_spacing_mm": SPACING_MM,
        "slice_step_mm": 1.0,
        "slice_thickness_mm": 1.0,
        "z_lowest_mm": scan.positions_mm[0],
        "z_highest_mm": scan.positions_mm[-1],
        "body_part": "CHEST",
        "noise_hu": 8.0,
        **options,
    }
    return SeriesRow(**fields)


def test_iterative_series_of_a_table_are_left_out(tmp_path: Path) -> None:
    fit = SeriesRow(path="/a", series_uid="1", study_uid="2", patient="p", verdict="fit", reconstruction="ASiR 50")
    request = TableRequest(fraction=0.25)
    assert request.reason_against(fit) == "iterative reconstruction (ASiR 50)"
    assert request.reason_against(replace(fit, reconstruction="")) == ""
    assert replace(request, accepted=Acceptance(iterative=True)).reason_against(fit) == ""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients, one of them unfit, one low dose already, one of another body part."""
    folder = tmp_path_factory.mktemp("archive")
    options: list[dict[str, Any]] = [{}] * 6
    options += [{"verdict": "gap: 1 slice missing"}, {"dose_class": "low"}, {"body_part": "HEAD"}]
    rows = []
    for number, option in enumerate(options):
        scan = source(
            folder / f"scan{number}",
            SIGNED,
            slices=SLICES,
            series_uid=f"1.2.{number + 1}",
            elements={"StudyInstanceUID": f"1.3.{number + 1}", "PatientID": f"p{number}"},
        )
        rows.append(row(scan, number, **option))
    return write_table(rows, folder / "series")[0]


def test_a_table_becomes_pairs_that_can_be_split(table: Path, tmp_path: Path) -> None:
    request = TableRequest(fraction=0.25, thickness_mm=3.0, body_parts=("chest",))
    counted: list[int] = []
    batch = simulate_table(table, tmp_path / "low", request=request, progress=counted.append)
    assert batch.made == 12  # six patients, each averaged at full dose and at low dose
    assert sum(counted) == slices_to_simulate(read_table(table), request) == 12 * 4
    assert batch.left_out == {"not fit for training": 1, "low dose already": 1, "body part HEAD": 1}
    rows = read_table(tmp_path / "low")
    assert rows[:9] == read_table(table)
    for clean, noisy in zip(rows[9::2], rows[10::2], strict=True):
        assert (clean.dose_fraction, noisy.dose_fraction) == (1, 0.25)
        assert (clean.dose_class, noisy.dose_class) == ("full", "low")
        assert clean.simulated_from == noisy.simulated_from == f"1.2.{int(clean.patient[1:]) + 1}"
        assert clean.average == noisy.average == 3
        a, b = read(Path(clean.path)), read(Path(noisy.path))
        assert a.positions_mm == b.positions_mm
        assert (clean.slices, clean.slice_step_mm) == (len(a.files), 3.0) == (4, 3.0)
        assert (clean.z_lowest_mm, clean.z_highest_mm) == pytest.approx((a.positions_mm[0], a.positions_mm[-1]))
        assert (clean.series_uid, noisy.series_uid) == (a.series_uid, b.series_uid)
        assert noise_hu(b.hu - a.hu, a.hu) == pytest.approx(noise_hu(a.hu, a.hu) * np.sqrt(3), rel=0.2)
        assert noisy.noise_hu is not None
        assert clean.noise_hu is not None
        assert 1.5 < noisy.noise_hu / clean.noise_hu < 2.6
    again = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")}
    simulate_table(table, tmp_path / "low", request=request)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")} == again
    assert main(["split", str(tmp_path / "low"), str(tmp_path / "D"), "--test", "0.2", "--exclude-patient", "p7"]) == 0
    datalist = Datalist.load(tmp_path / "D")
    assert datalist.test
    assert all(str(scan.image).startswith(str(tmp_path / "low")) for scan in (*datalist.noisy, *datalist.clean))


def test_the_command_line_takes_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dose", str(table.parent), str(tmp_path / "low"), "--fraction", "0.5", "--body-part", "HEAD"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "low" / "series.parquet")
    assert "1 series made" in said.err
    assert "6 left as they were: body part CHEST" in said.err
    assert main([*words, "--average", "3"]) == 2
    assert "--average for a table" in capsys.readouterr().err
    assert main([*words[:-1], "FOOT"]) == 2
    assert "no series to simulate" in capsys.readouterr().err


def test_a_series_that_cannot_be_simulated_does_not_hold_up_the_rest(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = source(tmp_path / "odd", SIGNED, slices=3, pixel_spacing_mm=(4.0, 3.0), series_uid="1.9")
    rows = [row(odd, 0), read_table(table)[0]]
    own, _ = write_table(rows, tmp_path / "own")
    assert main(["dose", str(own), str(tmp_path / "low"), "--fraction", "0.5"]) == 3
    printed = capsys.readouterr().err
    assert "1 series made" in printed
    assert "PixelSpacing" in printed.splitlines()[-1]
    assert printed.splitlines()[-1].startswith("refused: ")
    made = [one.simulated_from for one in read_table(tmp_path / "low") if one.simulated_from]
    assert made == [read_table(table)[0].series_uid]
    alone, _ = write_table(rows[:1], tmp_path / "alone")
    with pytest.raises(DicomRefusal, match="PixelSpacing"):
        simulate_table(alone, tmp_path / "none", request=TableRequest(fraction=0.5))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"series_uid": ""}, "without SeriesInstanceUID"),
        ({"noise_hu": 20.0}, "noisier"),
        ({"noise_hu": None}, "noisier"),
        ({"simulated_from": "1.2"}, "simulated already"),
        ({}, ""),
    ],
)
def test_why_nothing_is_simulated_from_a_row(change: dict[str, Any], reason: str) -> None:
    plain = SeriesRow(path="/a", series_uid="1.2", study_uid="", patient="p", verdict="fit", noise_hu=8.0)
    found = TableRequest(fraction=0.5, clean_below_hu=12).reason_against(replace(plain, **change))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_an_empty_table_and_wrong_fractions_are_refused(tmp_path: Path) -> None:
    own, _ = write_table([], tmp_path / "own")
    with pytest.raises(DatalistRefusal, match="empty"):
        simulate_table(own, tmp_path / "low", request=TableRequest(fraction=0.5))
    for fraction in (0.0, 1.0, 2.0):
        with pytest.raises(ConfigRefusal):
            TableRequest(fraction=fraction)


def test_dicom_becomes_nifti_with_the_same_voxels_and_places(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", SIGNED, slices=7)
    assert main(["dose", str(scan), str(tmp_path / "low.nii.gz"), "--fraction", "0.25", "--average", "3"]) == 0
    assert main(["dose", str(scan), str(tmp_path / "low"), "--fraction", "0.25", "--average", "3"]) == 0
    image, series = nibabel.load(tmp_path / "low.nii.gz"), read(tmp_path / "low")
    voxels = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert series.padded is not None
    # A mean of three that lies between two integers may be rounded to either.
    difference = np.abs(voxels - series.hu)[~series.padded]
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
    assert (voxels[series.padded] == -1024).all()
    # Index (column, row, slice) to RAS, against (row, column, slice) to LPS.
    for index in ((0, 0, 0), (5, 9, 1)):
        column, line, place = index
        lps = series.affine_lps @ (line, column, place, 1)
        np.testing.assert_allclose(image.affine @ (*index, 1), lps * (-1, -1, 1, 1), atol=1e-3)
    assert b"SIMULATED" in bytes(image.header["descrip"])
    first = (tmp_path / "low.nii.gz").read_bytes()
    assert main(["dose", str(scan), str(tmp_path / "again.nii.gz"), "--fraction", "0.25", "--average", "3"]) == 0
    assert (tmp_path / "again.nii.gz").read_bytes() == first


def test_nifti_becomes_nifti(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = read(source(tmp_path / "scan", SIGNED))
    hu = np.where(scan.hu < -1100, -2000, scan.hu).transpose(2, 1, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([SPACING_MM, SPACING_MM, 1, 1])), tmp_path / "scan.nii")
    words = ["dose", str(tmp_path / "scan.nii"), str(tmp_path / "low.nii"), "--fraction"]
    assert main([*words, "0.25"]) == 0
    low, before = nibabel.load(tmp_path / "low.nii"), nibabel.load(tmp_path / "scan.nii")
    np.testing.assert_array_equal(low.affine, before.affine)
    added = (np.asarray(low.dataobj, np.float32) - hu).transpose(2, 1, 0)
    tissue = scan.hu
    assert noise_hu(added, tissue) == pytest.approx(noise_hu(tissue, tissue) * np.sqrt(3), rel=0.1)
    assert (added[scan.hu < -1100] == 0).all()
    assert b"SIMULATED 0.25" in bytes(low.header["descrip"])
    capsys.readouterr()
    assert main([*words, "0.25"]) == 2
    assert "exists" in capsys.readouterr().err
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([SPACING_MM, 2 * SPACING_MM, 1, 1])), tmp_path / "scan.nii")
    assert main(["dose", str(tmp_path / "scan.nii"), str(tmp_path / "other.nii"), "--fraction", "0.5"]) == 2
    assert "square pixels" in capsys.readouterr().err


def test_the_report_says_what_physics_expects(tmp_path: Path) -> None:
    scan = read(source(tmp_path / "scan", SIGNED, slices=5))
    simulation = Simulation(scan, fraction=0.25)
    figures = write_dose_report(simulation, tmp_path / "report.html")
    assert [one.index for one in figures] == [0, 2, 4]
    for one in figures:
        assert one.expected == pytest.approx(2, abs=0.1)
        assert one.ratio == pytest.approx(one.expected, rel=0.15)
        assert one.added == pytest.approx(1, abs=0.06)  # some 800 pixels of tissue in each: chance moves it by 0.03
        assert abs(one.shift_hu) < 1
    assert np.mean([one.added for one in figures]) == pytest.approx(1, abs=0.03)
    page = (tmp_path / "report.html").read_text()
    check_page(page, scripts=1)
    assert page.count("data:image/png;base64") == 5 * 3
    assert page.count('<a href="#about-dose">as physics expects</a>: noise is') == 3
    content = json.loads((tmp_path / "report.json").read_text())
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in page.split("<tr>") if "about-dose" in line]
    for one, cells in zip(content["slices"], rows, strict=True):
        numbers = [value for name, value in one.items() if name not in ("Slice", "Verdict")]
        assert cells[0] == str(one["Slice"])
        assert cells[1:4] == [f"{number:.2f}" for number in numbers[:3]]
        assert re.sub("<.*?>", "", cells[-1]) == one["Verdict"]
        assert numbers[4:6] == [None, None]
    for name, found in content["self_check"].items():
        assert name.replace("'", "&#39;") in page
        assert found is not None
    assert len(content["self_check"]) == 4
    assert f"{content['photons_per_ray']:,.0f} photons" in page
    assert not any(name.startswith("...") for one in content["slices"] for name in one)
    assert "not for diagnosis" in page
    assert page.count("not measurable") == 2 * 3  # too small for a spectrum
    assert ">nan<" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert json.dumps("PHANTOM") not in page


def test_a_ratio_beyond_what_is_taken_is_not_to_be_trained_on() -> None:
    fine = SliceFigures(
        index=0, ratio=2.04, expected=1.80, added=1, shift_hu=0, mean_frequencies_per_mm=(1, 1), starved=0
    )
    assert verdict_of(fine).startswith("as physics expects: noise is 1.13")
    assert verdict_of(replace(fine, ratio=2.4)).startswith("too much, do not train on it: noise is 1.33")
    assert verdict_of(replace(fine, ratio=math.nan, added=0.5)).startswith("too little, do not train on it: added")


def test_the_report_is_written_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source(tmp_path / "scan", SIGNED, slices=3)
    words = ["dose", str(tmp_path / "scan"), str(tmp_path / "low"), "--fraction", "0.25"]
    assert main([*words, "--report", str(tmp_path / "low.html")]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / "low"), str(tmp_path / "low.html")]
    assert json.loads((tmp_path / "low.json").read_text())["fraction"] == 0.25
    assert "rays starved" in said.err
    assert main([*words[:2], str(tmp_path / "b.nii"), *words[3:], "--report", str(tmp_path / "b.html")]) == 2


def test_full_dose_has_no_noise_to_report(tmp_path: Path) -> None:
    simulation = Simulation(read(source(tmp_path / "scan", SIGNED, slices=3)), fraction=1, average=3)
    with pytest.raises((ValueError, Refusal)):
        write_dose_report(simulation, tmp_path / "report.html")
