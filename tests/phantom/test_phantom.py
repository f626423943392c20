"""The dataset of made-up patients: what it holds, and that it can be made again, and go on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom.validators import complaints, contradictions
from noise_level import noise_level_hu
from numpy.typing import NDArray

from data_prep.__main__ import main
from iscl_monai import data, phantom
from iscl_monai.data import Datalist
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.errors import ConfigRefusal
from iscl_monai.phantom import anthropomorphic, ensure_dataset, make_dataset

SMALL: dict[str, Any] = {
    "size": 64,
    "slices": 2,
    "spacing_mm": 5.4,
    "noisy": 2,
    "clean": 2,
    "validation": 1,
    "test": 1,
}
TINY: dict[str, Any] = {**SMALL, "slices": 1, "noisy": 1, "clean": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("phantom") / "set", seed=5, **SMALL)


@pytest.fixture(scope="module")
def series(dataset: Path) -> CTSeries:
    return read_series(dataset.parent / "patients" / "P01" / "low")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def truth_hu(patient: Path) -> NDArray[np.float64]:
    """(slice, row, column)"""
    volume: NDArray[np.float64] = nibabel.load(patient / "truth" / "truth.nii").get_fdata().transpose(2, 1, 0)
    return volume


# --- what it holds -----------------------------------------------------------------------------------


def test_datalist_names_what_is_there(dataset: Path) -> None:
    datalist = json.loads(dataset.read_text())
    assert dataset.name == "datalist.json"
    roles = ("noisy", "clean", "validation", "test")
    assert [len(datalist[role]) for role in roles] == [2, 2, 1, 1]
    assert datalist["clean"][0].keys() == {"image", "patient", "dose", "kernel"}
    assert datalist["noisy"][0].keys() == datalist["clean"][0].keys() | {"reference"}
    assert datalist["test"][0].keys() == {"noisy", "clean", "patient", "dose", "truth", "truth_protocol"}
    assert {item["dose"] for item in datalist["noisy"]} == {0.1}
    assert {item["dose"] for item in datalist["clean"]} == {1.0}
    entries = [item for role in roles for item in datalist[role]]
    assert len({item["patient"] for item in entries}) == len(entries)  # nobody stands on two sides
    images = [item[key] for item in entries for key in ("image", "reference", "noisy", "clean") if key in item]
    assert len(set(images)) == len(images)
    written = {file.parent.relative_to(dataset.parent).as_posix() for file in dataset.parent.rglob("*.dcm")}
    assert set(images) == written


def test_the_datalist_can_be_trained_on(dataset: Path) -> None:
    datalist = Datalist.load(dataset)
    assert [scan.dose for scan in datalist.clean] == [1.0, 1.0]
    references = {scan.image for scan in data.references(datalist.noisy)}
    assert len(references) == 2
    assert not references & {scan.image for scan in datalist.clean}


def test_a_series_is_read_as_it_was_drawn(dataset: Path, series: CTSeries) -> None:
    full = read_series(dataset.parent / "patients" / "P01" / "full")
    truth = truth_hu(dataset.parent / "patients" / "P01")
    assert full.hu.shape == series.hu.shape == truth.shape == (2, 64, 64)
    air = truth < -990
    assert np.abs((full.hu - truth)[~air]).mean() < 20  # the noise of a full dose, and nothing else
    assert abs((full.hu - truth)[~air].mean()) < 1
    assert series.positions_mm == (-2.5, 2.5)
    assert series.pixel_spacing_mm == (5.4, 5.4)
    assert series.origin[:2] == pytest.approx((-31.5 * 5.4, -31.5 * 5.4))
    assert series.orientation == (1, 0, 0, 0, 1, 0)
    assert full.study_uid == series.study_uid
    assert full.frame_of_reference_uid == series.frame_of_reference_uid
    assert full.series_uid != series.series_uid


def test_every_header_says_that_it_is_synthetic(dataset: Path, series: CTSeries) -> None:
    for file in dataset.parent.rglob("*.dcm"):
        header = pydicom.dcmread(file)
        assert str(header.PatientName).startswith("PHANTOM^P")
        assert "SYNTHETIC PHANTOM" in header.SeriesDescription
        assert "SYNTHETIC PHANTOM" in header.ImageComments
        assert header.ManufacturerModelName == "SYNTHETIC PHANTOM"
        assert (header.QualityControlSubject, header.QualityControlImage) == ("YES", "YES")
        assert header.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]  # iscl-monai denoise takes it for a scan
    assert series.description.endswith("10% dose")
    low, full = (pydicom.dcmread(series.files[0].parents[1] / dose / "00001.dcm") for dose in ("low", "full"))
    assert (low.Exposure, full.Exposure, low.XRayTubeCurrent, full.XRayTubeCurrent) == (20, 200, 40, 400)


def test_a_validator_has_no_complaint(series: CTSeries) -> None:
    files = [*series.files, *sorted((series.files[0].parents[1] / "full").iterdir())]
    assert {file.name: complaints(file) for file in files} == {file.name: set() for file in files}
    assert contradictions(files) == []


@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_pairs_differ_by_the_noise_that_was_asked_for(tmp_path: Path, region: str) -> None:
    # On coarser grids than this so few photons make up 12 HU that electronic noise takes over.
    recipe = phantom.PhantomRecipe(size=144, slices=1, spacing_mm=2.4)
    member = anthropomorphic.Member(name="P01", role="test", region=region)
    anthropomorphic._make_patient(member, recipe)(tmp_path)
    low, full = (read_series(tmp_path / dose).hu for dose in ("low", "full"))
    truth = truth_hu(tmp_path).astype(np.float32)
    assert noise_level_hu(full - truth, truth, 2.4) == pytest.approx(12, rel=0.1)
    assert noise_level_hu(low - full, truth, 2.4) == pytest.approx(12 * np.sqrt(9), rel=0.25)
    tissue = (truth > 0) & (truth < 150)
    assert abs((full - truth)[tissue].mean()) < 2
    assert abs((low - full)[tissue].mean()) < 8


def test_truth_tells_where_lesions_are(dataset: Path) -> None:
    lesions = 0
    for folder in sorted((dataset.parent / "patients").iterdir()):
        truth = json.loads((folder / "truth" / "truth.json").read_text())
        mask = nibabel.load(folder / "truth" / "lesions.nii")
        numbers = np.asarray(mask.dataobj).transpose(2, 1, 0)
        assert nibabel.aff2axcodes(mask.affine) == ("L", "P", "S")
        for lesion in truth["lesions"]:
            slice_, row, column = lesion["centre_slice_row_column"]
            assert numbers[slice_, row, column] == lesion["number"]
            x, y, z, _ = mask.affine @ [column, row, slice_, 1]
            assert (-x, -y, z) == pytest.approx(lesion["centre_lps_mm"], abs=1e-3)
        assert set(np.unique(numbers)) - {0} == {lesion["number"] for lesion in truth["lesions"]}
        lesions += len(truth["lesions"])
    assert lesions > 6


# --- made again --------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = bytes_of(make_dataset(tmp_path / "a", seed=1, **TINY).parent)
    again = bytes_of(make_dataset(tmp_path / "elsewhere" / "b", seed=1, **TINY).parent)
    other = bytes_of(make_dataset(tmp_path / "c", seed=2, **TINY).parent)
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".dcm"))


def stamps(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_a_dataset_is_made_once(tmp_path: Path) -> None:
    datalist = ensure_dataset(tmp_path / "set", **TINY)
    before = stamps(tmp_path)
    assert ensure_dataset(tmp_path / "set", **TINY) == datalist
    assert stamps(tmp_path) == before


@pytest.mark.parametrize("stale", ["parameters", "recipe"])
def test_a_stale_dataset_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: str) -> None:
    ensure_dataset(tmp_path / "set", **TINY)
    before = bytes_of(tmp_path / "set" / "patients")
    parameters = dict(TINY)
    if stale == "parameters":
        parameters["fraction"] = 0.25
    else:
        monkeypatch.setattr(anthropomorphic, "RECIPE", -1)
    ensure_dataset(tmp_path / "set", **parameters)
    after = bytes_of(tmp_path / "set" / "patients")
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before if name.endswith(".dcm"))  # the UIDs, at least


def test_what_is_missing_is_made_and_the_rest_is_kept(tmp_path: Path) -> None:
    datalist = make_dataset(tmp_path / "set", **TINY)
    whole, before = bytes_of(tmp_path / "set"), stamps(tmp_path / "set" / "patients")
    gone = tmp_path / "set" / "patients" / "P02"
    datalist.unlink()
    gone.rename(tmp_path / "aside")
    assert ensure_dataset(tmp_path / "set", **TINY) == datalist
    assert bytes_of(tmp_path / "set") == whole
    after = stamps(tmp_path / "set" / "patients")
    assert {file for file in before if after[file] != before[file]} == {f for f in before if gone in f.parents}


def finished(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "patients").glob("P*"))


def test_killed_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    parameters = {**TINY, "noisy": 4, "clean": 4}
    code = "from pathlib import Path; from iscl_monai.phantom import make_dataset; "
    code += f"make_dataset(Path('set'), **{parameters})"
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    with process:
        while process.poll() is None and not list(finished(tmp_path / "set")):
            with suppress(subprocess.TimeoutExpired):  # asking without a pause would take a core from it
                process.wait(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = stamps(tmp_path / "set" / "patients" / "P01")
    assert len(kept) == 5
    assert not (tmp_path / "set" / "datalist.json").exists()
    make_dataset(tmp_path / "set", **parameters)
    assert stamps(tmp_path / "set" / "patients" / "P01") == kept
    make_dataset(tmp_path / "whole", **parameters)
    assert bytes_of(tmp_path / "set") == bytes_of(tmp_path / "whole")


def test_other_folders_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigRefusal, match="no phantom dataset"):
        make_dataset(tmp_path, **TINY)
    assert (tmp_path / "thesis.txt").exists()
    (tmp_path / "manifest.json").write_text('{"recipe": ')  # it cannot be told whose folder this is
    with pytest.raises(ConfigRefusal, match="no phantom dataset"):
        ensure_dataset(tmp_path, **TINY)
    with pytest.raises(ConfigRefusal, match="no phantom dataset"):
        make_dataset(tmp_path / "thesis.txt", **TINY)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"fraction": 1.0}, {"noisy": 0}, {"slises": 3}, {"lesions": 300}])
def test_parameters_without_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefusal, match="phantom parameters"):
        make_dataset(tmp_path / "set", **wrong)


# --- command line ------------------------------------------------------------------------------------


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict[str, Any]] = []

    def make(directory: Path, **settings: Any) -> Path:
        asked.append(settings)
        return directory / "datalist.json"

    monkeypatch.setattr(phantom, "make_dataset", make)
    monkeypatch.setattr(phantom, "make_physics", make)
    folder = str(tmp_path / "set")
    assert main(["phantom", folder, "--seed", "7"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "set" / "datalist.json")
    assert main(["phantom", folder, "--kind", "physics", "--realisations", "3", "--doses", "1", "0.5"]) == 0
    assert main(["phantom", folder, "--kind", "physics", "--doses", "1,0.5", "0.1"]) == 0
    assert asked == [
        {"seed": 7},
        {"seed": 0, "realisations": 3, "doses": [1.0, 0.5]},
        {"seed": 0, "doses": [1.0, 0.5, 0.1]},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--doses", "1"], "--doses with --kind anthropomorphic"),
        (["--kind", "physics", "--doses", "25%"], "such as 1 0.25 or 1,0.25"),
        (["--kind", "physics", "--doses", "1,0.25,7"], "different doses in (0, 1]"),
        (["--kind", "physics", "--slices", "3"], "--slices with --kind physics"),
        (["0.5"], "after DIR"),
    ],
)
def test_options_of_the_other_kind_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["phantom", str(tmp_path / "set"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
