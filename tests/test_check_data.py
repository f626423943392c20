from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.data import Datalist
from iscl_monai.data.check import check_data
from iscl_monai.dicom.series import read_series
from iscl_monai.quality.noise import noise_sigma_hu
from tests.made_once import made_once


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pools of one patient each, and a pair for validation and test."""

    def make(folder: Path) -> None:
        from iscl_monai.phantom import make_dataset

        make_dataset(folder / "D", size=96, slices=2, noisy=1, clean=1, validation=1, test=1, lesions=0)

    return made_once(tmp_path_factory, "check_data", make) / "D"


@pytest.fixture
def dataset(phantom: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom, tmp_path / "D"))


def changed(dataset: Path, section: str, **values: Any) -> None:
    content = json.loads((dataset / "datalist.json").read_text())
    content[section][0].update(values)
    (dataset / "datalist.json").write_text(json.dumps(content))


def set_in(folder: Path, **elements: Any) -> None:
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        data.save_as(file)


def asked(dataset: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check-data", str(dataset), *words], env={"COLUMNS": "160"})
    return done.exit_code, done.output


def test_every_scan_is_read_once_and_shown(dataset: Path) -> None:
    found = check_data(Datalist.load(dataset))
    pairs = [f"{section}[0].{kind}" for section in ("validation", "test") for kind in ("noisy", "clean")]
    names = ["noisy[0]", "noisy[0].reference", "clean[0]", *pairs]
    assert [one.name for one in found.scans] == names
    assert {(one.slices, one.rows, one.columns, one.kernel) for one in found.scans} == {(2, 96, 96, "Hann")}
    for one in found.scans:
        assert one.noise_hu == pytest.approx(noise_sigma_hu(read_series(one.path).hu))
    assert not found.problems
    code, text = asked(dataset)
    assert code == 0
    assert all(name in text for name in names)
    assert "7 of 7 scans can be read" in text


@pytest.mark.parametrize("section", ["clean", "validation", "test"])
def test_one_patient_under_two_names_is_known_by_the_pixels(section: str, dataset: Path) -> None:
    """Anonymised twice: other UIDs, another name, other file names; and a slice less."""
    source = Path(json.loads((dataset / "datalist.json").read_text())["noisy"][0]["image"])
    twin = Path(shutil.copytree(dataset / source, dataset / "twin"))
    set_in(twin, PatientID="X9", PatientName="X9", SeriesInstanceUID="1.2.3.9", StudyInstanceUID="1.2.3.8")
    for number, file in enumerate(sorted(twin.iterdir())):
        file.rename(twin / f"{number}.dcm")
    (twin / "0.dcm").unlink()
    changed(dataset, section, **({"image": "twin"} if section == "clean" else {"noisy": "twin", "clean": "twin"}))
    code, text = asked(dataset)
    assert code == 2
    assert re.search(rf"refused: noisy\[0\] \(P01\) and {section}\[0\]\S* \(P\d+\) have 1 slice in common", text)


def test_slices_that_show_no_patient_are_nobodys(tmp_path: Path) -> None:
    """Air that was cut off, and what lies around the circle of reconstruction, are the same in many scans."""
    from_middle = np.hypot(*np.ogrid[-1:1:96j, -1:1:96j])
    content: dict[str, list[Any]] = {"noisy": [], "clean": []}
    for index, section in enumerate(content):
        body = np.where(from_middle < 0.7, 40.0, -1000.0)[..., None] * np.ones(40)
        hu = body + np.random.default_rng(index).normal(0, 20, body.shape)
        hu[..., 1] = -1000
        hu[from_middle > 1] = -1024
        nibabel.save(nibabel.Nifti1Image(hu.astype(np.float32), np.diag([-1, -1, 2, 1.0])), tmp_path / f"{section}.nii")
        content[section].append({"image": f"{section}.nii", "patient": section})
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    found = check_data(Datalist.load(tmp_path), trust_hu=True)
    assert not [text for text in (*found.problems, *found.doubts) if "in common" in text]


def test_parts_of_one_scan_under_two_names_are_refused_as_in_training(tmp_path: Path) -> None:
    """They have no slice in common; a link is the same scan."""
    hu = np.random.default_rng(0).normal(40, 20, (96, 96, 40))
    hu[:10] = -1000
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.float32), np.diag([-1, -1, 2, 1.0])), tmp_path / "scan.nii")
    (tmp_path / "link.nii").symlink_to("scan.nii")
    content = {
        "noisy": [{"image": "scan.nii", "patient": "A", "z_range_mm": [0, 20]}],
        "clean": [{"image": "link.nii", "patient": "B", "z_range_mm": [50, 78]}],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    (problem,) = check_data(Datalist.load(tmp_path), trust_hu=True).problems
    assert problem == "scan.nii of 'A' in 'noisy' is link.nii of 'B' in 'clean': one patient under two names"


def test_a_pool_that_has_a_patient_twice_is_doubted(dataset: Path) -> None:
    content = json.loads((dataset / "datalist.json").read_text())
    content["noisy"].append({**content["noisy"][0], "patient": "another"})
    (dataset / "datalist.json").write_text(json.dumps(content))
    found = check_data(Datalist.load(dataset))
    assert not found.problems
    assert "noisy[0] (P01) and noisy[1] (another) have 2 slices in common: one patient under two names" in found.doubts


def test_a_log_holds_whole_columns_and_brackets(dataset: Path) -> None:
    """80 columns cut them, and what looks like markup was taken for it."""
    kernel, patient = "B30f [bold]_xx", "[P01] " + "y" * 90
    folder = dataset / json.loads((dataset / "datalist.json").read_text())["noisy"][0]["image"]
    set_in(folder, ConvolutionKernel=kernel)
    changed(dataset, "noisy", patient=patient)
    text = CliRunner().invoke(app, ["check-data", str(dataset)], env={"COLUMNS": None}).output
    (line,) = (line for line in text.splitlines() if line.lstrip().startswith("noisy[0] "))
    assert kernel in line
    assert patient in line


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_a_table_obeys_no_text_and_shows_any(charset: str, dataset: Path) -> None:
    """Names come from headers: codes that a terminal would obey, and letters that it does not have."""
    changed(dataset, "noisy", patient="P\x1b[31m\n\u60a3\udcff")
    done = CliRunner(charset=charset).invoke(app, ["check-data", str(dataset)], env={"COLUMNS": None})
    assert done.exit_code == 0
    (line,) = (line for line in done.output.splitlines() if line.lstrip().startswith("noisy[0] "))
    assert r"P\x1b[31m\x0a" in line
    assert ("\u60a3" if charset == "utf-8" else r"\u60a3") in line


def test_what_training_refuses_is_told_for_every_scan_and_ends_with_2(dataset: Path) -> None:
    set_in(dataset / "patients" / "P01" / "low", Modality="MR")
    image = nibabel.Nifti1Image(np.zeros((96, 96, 2), np.float32), np.eye(4))
    nibabel.save(image, dataset / "empty.nii")
    changed(dataset, "clean", image="empty.nii")
    code, text = asked(dataset)
    assert code == 2
    assert "refused: noisy[0]: " in text
    assert "refused: clean[0]: " in text
    assert "5 of 7 scans can be read" in text


def test_slices_smaller_than_the_patches(dataset: Path) -> None:
    code, text = asked(dataset, "--patch-size", "128")
    assert code == 2
    assert "noisy[0]: slices of 96x96, smaller than the patches of 128" in text


def test_pools_that_differ_in_more_than_noise(dataset: Path) -> None:
    set_in(dataset / "patients" / "P02" / "full", ConvolutionKernel="B70s")
    changed(dataset, "noisy", image="patients/P01/full")
    doubts = "\n".join(check_data(Datalist.load(dataset)).doubts)
    assert "kernel Hann in the noisy pool alone" in doubts
    assert "kernel B70s in the clean pool alone" in doubts
    assert "noisy: 1 scans" in doubts


def test_pools_as_noisy_as_each_other(dataset: Path) -> None:
    changed(dataset, "clean", image="patients/P01/low", patient="another")
    assert any("little to learn" in doubt for doubt in check_data(Datalist.load(dataset)).doubts)


def test_iterative_scans_beside_others(dataset: Path) -> None:
    set_in(dataset / "patients" / "P01" / "low", Manufacturer="SIEMENS", ConvolutionKernel=["I31f", "3"])
    doubts = "\n".join(check_data(Datalist.load(dataset)).doubts)
    assert "in the noisy pool alone" in doubts
    assert "filtered backprojection in the clean pool alone" in doubts


def test_for_programs(dataset: Path) -> None:
    code, text = asked(dataset, "--json")
    found = json.loads(text)["result"]
    assert code == 0
    assert len(found["scans"]) == 7
    assert found["problems"] == []


def test_a_leak_is_refused_at_once(dataset: Path) -> None:
    changed(dataset, "test", patient="P01")
    code, text = asked(dataset)
    assert code == 2
    assert "LeakRefusal" in text


def test_the_page_shows_what_the_command_says(dataset: Path) -> None:
    """The table's figures are those of this phantom; only the seconds may differ."""
    page = (Path(__file__).parents[1] / "docs/how-to/check-data.md").read_text(encoding="utf-8")
    shown = page.split("```\n scan ", 1)[1].split("```", 1)[0].splitlines()[1:]
    code, text = asked(dataset)
    assert code == 0
    for line in shown:
        words = " ".join(line.split()).partition(", in ")[0]
        assert words in {" ".join(said.split()).partition(", in ")[0] for said in text.splitlines()}
    refusal = page.split("(`refused", 1)[1].split("`", 1)[0]
    command = "iscl-monai check-data D --patch-size 128"
    assert command in page
    code, text = asked(dataset, *command.split()[3:])
    assert code == 2
    assert f"refused{refusal}" in text


def test_the_page_has_every_option() -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/check-data.md").read_text(encoding="utf-8")
    help_ = CliRunner().invoke(app, ["check-data", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    options = {word.rstrip(":.,") for word in help_.replace("│", " ").split() if word.startswith("--")} - {"--help"}
    assert options - {word for word in page.replace("`", " ").split() if word.startswith("--")} == set()
