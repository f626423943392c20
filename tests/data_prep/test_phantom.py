from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from noise_level import noise_level_hu
from numpy.typing import NDArray

from data_prep import phantom
from data_prep.__main__ import main
from data_prep.anatomy import draw_patient
from data_prep.phantom import ensure_dataset, make_dataset
from iscl_monai import data
from iscl_monai.data import Datalist
from iscl_monai.errors import ConfigRefusal

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


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def hu(file: Path) -> NDArray[np.float32]:
    """(slice, row, column)"""
    image = nibabel.load(file)
    assert image.get_data_dtype() == np.int16
    values: NDArray[np.float32] = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return values


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = bytes_of(make_dataset(tmp_path / "a", seed=1, **TINY).parent)
    again = bytes_of(make_dataset(tmp_path / "elsewhere" / "b", seed=1, **TINY).parent)
    other = bytes_of(make_dataset(tmp_path / "c", seed=2, **TINY).parent)
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".nii"))


def test_datalist_names_what_is_there(dataset: Path) -> None:
    datalist = json.loads(dataset.read_text())
    assert dataset.name == "datalist.json"
    assert {role: len(datalist[role]) for role in ("noisy", "clean", "validation", "test")} == {
        "noisy": 2,
        "clean": 2,
        "validation": 1,
        "test": 1,
    }
    assert datalist["clean"][0].keys() == {"image", "patient", "dose", "kernel"}
    assert datalist["noisy"][0].keys() == datalist["clean"][0].keys() | {"reference"}
    assert datalist["test"][0].keys() == {"noisy", "clean", "patient"}
    assert {item["dose"] for item in datalist["noisy"]} == {0.1}
    assert {item["dose"] for item in datalist["clean"]} == {1.0}
    entries = [item for role in ("noisy", "clean", "validation", "test") for item in datalist[role]]
    patients = [item["patient"] for item in entries]
    assert len(set(patients)) == len(patients)  # nobody stands on two sides
    images = [item[key] for item in entries for key in ("image", "reference", "noisy", "clean") if key in item]
    assert len(set(images)) == len(images)
    assert set(images) == {f"images/{file.name}" for file in dataset.parent.rglob("*.nii")}


def test_training_takes_the_datalist(dataset: Path) -> None:
    datalist = Datalist.load(dataset)
    assert [scan.dose for scan in datalist.clean] == [1.0, 1.0]
    references = {scan.image for scan in data.references(datalist.noisy)}
    assert len(references) == 2
    assert not references & {scan.image for scan in datalist.clean}


def test_affine_says_where_left_back_and_head_are(dataset: Path) -> None:
    file = next(dataset.parent.rglob("*.nii"))
    image = nibabel.load(file)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_zooms() == pytest.approx((5.4, 5.4, 5.0))
    assert image.affine @ [31.5, 31.5, 0, 1] == pytest.approx([0, 0, 0, 1], abs=1e-4)  # the middle
    assert image.header.get_xyzt_units()[0] == "mm"


def test_pairs_differ_by_the_noise_that_was_asked_for(dataset: Path) -> None:
    datalist = json.loads(dataset.read_text())
    pairs = [(pair["noisy"], pair["clean"]) for pair in datalist["validation"] + datalist["test"]]
    pairs += [(scan["image"], scan["reference"]) for scan in datalist["noisy"]]
    assert len(pairs) == 4
    for names in pairs:
        noisy, clean = (hu(dataset.parent / name) for name in names)
        assert noise_level_hu(noisy - clean, clean, 5.4) == pytest.approx(12 * np.sqrt(9), rel=0.07)
        assert abs((noisy - clean)[clean > -500].mean()) < 3


@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_clean_images_carry_full_dose_noise(region: str) -> None:
    recipe = phantom.PhantomRecipe(size=96, slices=2, spacing_mm=3.6)
    clean = phantom._full_dose("P01", region, recipe)
    truth = draw_patient(phantom._rng(0, "P01"), region=region, slices=2, size=96, spacing_mm=3.6, slice_mm=5.0)
    assert noise_level_hu(clean - truth, truth, 3.6) == pytest.approx(12, rel=0.05)


@pytest.mark.parametrize("region", ["chest", "abdomen"])
def test_patients_hold_what_a_denoiser_meets(region: str) -> None:
    size, spacing = 96, 3.6
    patient = draw_patient(np.random.default_rng(3), region=region, slices=3, size=size, spacing_mm=spacing, slice_mm=5)
    assert patient.shape == (3, size, size)
    assert patient[:, :8].max() == -1000  # air above
    share = {
        "fat": ((patient > -130) & (patient < -60)).mean(),
        "tissue": ((patient > 0) & (patient < 120)).mean(),
        "bone": (patient > 300).mean(),
        "lung": ((patient > -920) & (patient < -780)).mean(),
    }
    assert share["fat"] > 0.02
    assert share["tissue"] > 0.07
    assert 0.003 < share["bone"] < 0.08
    assert (share["lung"] > 0.08) == (region == "chest")
    spine = patient[:, size // 2 :, size // 2 - 8 : size // 2 + 8]
    assert (spine > 300).mean() > (patient > 300).mean()  # the spine lies at the back
    other = draw_patient(np.random.default_rng(4), region=region, slices=3, size=size, spacing_mm=spacing, slice_mm=5)
    assert np.abs(other - patient).mean() > 10


def test_a_dataset_is_made_once(tmp_path: Path) -> None:
    datalist = ensure_dataset(tmp_path / "set", **TINY)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert ensure_dataset(tmp_path / "set", **TINY) == datalist
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == stamps


@pytest.mark.parametrize("stale", ["parameters", "recipe", "datalist", "manifest"])
def test_a_stale_dataset_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: str) -> None:
    made: list[Path] = []

    def fill(folder: Path, recipe: phantom.PhantomRecipe) -> dict[str, Any]:
        made.append(folder)
        return {}

    monkeypatch.setattr(phantom, "_fill", fill)
    parameters = dict(TINY)
    ensure_dataset(tmp_path / "set", **parameters)
    if stale == "parameters":
        parameters["fraction"] = 0.25
    elif stale == "recipe":
        monkeypatch.setattr(phantom, "RECIPE", -1)
    elif stale == "datalist":
        (tmp_path / "set" / "datalist.json").unlink()
    else:
        (tmp_path / "set" / "manifest.json").write_text('{"recipe": ')
        with pytest.raises(ConfigRefusal):  # it can no longer be told whose folder this is
            ensure_dataset(tmp_path / "set", **parameters)
        return
    ensure_dataset(tmp_path / "set", **parameters)
    assert len(made) == 2


def test_nothing_is_left_when_making_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "_save", fail)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "set", **TINY)
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigRefusal, match="no phantom dataset"):
        make_dataset(tmp_path, **TINY)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("wrong", [{"size": 8}, {"fraction": 1.0}, {"noisy": 0}, {"slises": 3}])
def test_parameters_without_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefusal, match="phantom parameters"):
        make_dataset(tmp_path / "set", **wrong)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(phantom, "_fill", lambda folder, recipe: {"seed": recipe.seed})
    assert main(["phantom", str(tmp_path / "set"), "--seed", "7"]) == 0
    assert json.loads((tmp_path / "set" / "datalist.json").read_text()) == {"seed": 7}
    assert capsys.readouterr().out.strip() == str(tmp_path / "set" / "datalist.json")
