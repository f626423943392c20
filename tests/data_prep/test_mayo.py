"""The published splits of LDCT-and-Projection-data, on a made-up tree of the same layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.synthetic import Series, setting

from data_prep.__main__ import main
from data_prep.mayo.make import MayoRequest, MayoSplit, make_mayo
from iscl_monai.data import Datalist
from iscl_monai.data.splits import load_protocol, protocol_names, refuse_collisions, region_of
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal

ISCL, BENCH = "iscl-tmi2021", "ldct-bench"
SEEN_BY_ISCL = {"C121", "C135", "L006", "L107"}
SEEN_BY_BENCH = {
    "C158",
    "C160",
    "C162",
    "C166",
    "C179",
    "C193",
    "C203",
    "L125",
    "L131",
    "L134",
    "L145",
    "L148",
    "L150",
    "L160",
    "L170",
    "L175",
    "L178",
}
CHOSEN_BY_BENCH = {"C190", "C202"}


def everyone(name: str, region: str = "") -> list[str]:
    protocol = load_protocol(name)
    ids = (*protocol.train, *protocol.validation, *protocol.test)
    return [patient for patient in ids if region in {"", region_of(patient)}]


def write_tree(root: Path, patients: Iterable[str]) -> Path:
    """One real pair of series, copied for each patient: a reader's PatientID is made to agree."""
    for number, patient in enumerate(sorted(patients)):
        study = root / patient / "08-30-2018-NA-NA-12345"
        for index, dose in enumerate(("Full", "Low")):
            change = setting(PatientID=patient, ConvolutionKernel="D30f")
            folder = study / f"1.000000-{dose} Dose Images-{number}{index}"
            Series(slots=range(2), change=change, seed=index).write(folder)
        (study / "2.000000-Full dose projections-77").mkdir()
        (study / "LICENSE").write_text("CC BY")
    return root


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both splits' abdomen patients."""
    return write_tree(tmp_path_factory.mktemp("LDCT"), {*everyone(ISCL, "abdomen"), *everyone(BENCH, "abdomen")})


def make(root: Path, destination: Path, **request: Any) -> tuple[Datalist, MayoSplit]:
    path, split = make_mayo(root, destination, MayoRequest(**request))
    return Datalist.load(path), split


# --- the splits --------------------------------------------------------------------------------------


def test_the_splits_are_those_published() -> None:
    assert protocol_names() == (ISCL, BENCH)
    sizes = {
        name: [len(getattr(load_protocol(name), key)) for key in ("train", "validation", "test")]
        for name in protocol_names()
    }
    assert sizes == {ISCL: [40, 0, 20], BENCH: [105, 30, 15]}
    for name in protocol_names():
        assert len(set(everyone(name))) == sum(sizes[name])
    assert load_protocol(BENCH).regions() == ("abdomen", "chest", "neuro")
    assert load_protocol(ISCL).regions() == ("abdomen", "chest")
    with pytest.raises(ConfigRefusal, match="ldct-bench"):
        load_protocol("ldct")


def test_collisions_are_exactly_these() -> None:
    bench, iscl = load_protocol(BENCH), load_protocol(ISCL)
    assert set(bench.test) & set(iscl.train) == SEEN_BY_ISCL
    assert set(iscl.test) & set(bench.train) == SEEN_BY_BENCH
    assert set(iscl.test) & set(bench.validation) == CHOSEN_BY_BENCH
    assert len(SEEN_BY_BENCH) == 17


@pytest.mark.parametrize(
    ("trained_on", "scored", "seen"),
    [(ISCL, BENCH, SEEN_BY_ISCL), (BENCH, ISCL, SEEN_BY_BENCH | CHOSEN_BY_BENCH)],
)
def test_weights_are_not_scored_on_what_they_saw(trained_on: str, scored: str, seen: set[str]) -> None:
    test = load_protocol(scored).test
    with pytest.raises(LeakRefusal) as caught:
        refuse_collisions(trained_on, test)
    assert trained_on in str(caught.value)
    assert {patient for patient in test if patient in str(caught.value)} == seen
    refuse_collisions(trained_on, set(test) - seen)
    refuse_collisions(trained_on, load_protocol(trained_on).test)
    for patient in seen:
        with pytest.raises(LeakRefusal, match=patient):
            refuse_collisions(trained_on, [patient])


# --- the datalist ------------------------------------------------------------------------------------


def test_the_benchmarks_abdomen(abdomen: Path, tmp_path: Path) -> None:
    made, split = make(abdomen, tmp_path, protocol=BENCH, regions=("abdomen",))
    protocol = load_protocol(BENCH)
    pools = {scan.patient for scan in made.noisy}, {scan.patient for scan in made.clean}
    assert pools[0] | pools[1] == {patient for patient in protocol.train if patient.startswith("L")}
    assert not pools[0] & pools[1]
    assert abs(len(pools[0]) - len(pools[1])) <= 1
    assert {pair.patient for pair in made.validation} == {name for name in protocol.validation if name.startswith("L")}
    assert {pair.patient for pair in made.test} == {"L006", "L107", "L220", "L221", "L241"}
    assert {scan.dose for scan in made.noisy} == {0.25}
    assert {(scan.dose, scan.kernel) for scan in made.clean} == {(1.0, "D30f")}
    assert split.counts()["abdomen"]["test"] == (5, 10)
    content = json.loads((tmp_path / "datalist.json").read_text())
    assert content["split_protocol"] == BENCH
    assert f"protocol={BENCH}" in content["description"].replace(",", " ").replace(";", " ").split()


def test_low_is_noisy_and_full_is_clean(abdomen: Path, tmp_path: Path) -> None:
    made, _ = make(abdomen, tmp_path, protocol=ISCL, regions=("abdomen",))
    assert all("Low Dose Images" in scan.image.name for scan in made.noisy)
    assert all("Full Dose Images" in scan.image.name for scan in made.clean)
    noisy, pair = made.noisy[0], made.test[0]
    assert noisy.reference is not None
    assert noisy.reference.parent == noisy.image.parent
    for low, full, patient in ((noisy.image, noisy.reference, noisy.patient), (pair.noisy, pair.clean, pair.patient)):
        series = read_series(low), read_series(full)
        assert [one.patient_id for one in series] == [patient, patient]
        np.testing.assert_array_equal(series[0].hu, Series(slots=range(2), seed=1).hu())
        np.testing.assert_array_equal(series[1].hu, Series(slots=range(2), seed=0).hu())


@pytest.mark.parametrize(("asked", "number"), [(None, 2), (0, 0), (5, 5)])
def test_validation_of_a_split_that_names_none(abdomen: Path, tmp_path: Path, asked: int | None, number: int) -> None:
    made, _ = make(abdomen, tmp_path, protocol=ISCL, regions=("abdomen",), validation_per_region=asked)
    held_out = {pair.patient for pair in made.validation}
    assert len(held_out) == number
    assert held_out < set(load_protocol(ISCL).train)
    assert len(made.noisy) + len(made.clean) == 20 - number


def test_the_seed_decides_and_nothing_else(abdomen: Path, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(abdomen, tmp_path / name, protocol=ISCL, regions=("abdomen",), seed=seed)
        texts.append((tmp_path / name / "datalist.json").read_text().replace("seed=1", "seed=0"))
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


# --- refusals ----------------------------------------------------------------------------------------


def small_tree(root: Path) -> Path:
    return write_tree(root, ["L004", "L014", "L019", "L033", "L125"])


def test_missing_patients_are_named_unless_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small_tree(tmp_path / "LDCT")
    low = next((root / "L033").glob("*/*Low Dose*"))
    shutil.rmtree(low)
    words = ["mayo", str(root), str(tmp_path / "D"), "--protocol", ISCL, "--region", "abdomen", "--validation", "1"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "lacks 26 of 30 patients" in said
    assert "L033: no Low Dose Images" in said
    assert "L006: no folder" in said
    assert not (tmp_path / "D").exists()

    assert main([*words, "--allow-missing"]) == 0
    said = capsys.readouterr().out
    assert "not the whole split; 26 patients are missing" in said
    made = Datalist.load(tmp_path / "D")
    assert [len(entries) for entries in (made.noisy, made.clean, made.validation, made.test)] == [1, 1, 1, 1]
    assert "without L006" in (tmp_path / "D" / "datalist.json").read_text()

    assert main([*words[:-1], "3", "--allow-missing"]) == 2
    assert "leaves no training patient" in capsys.readouterr().err


def second_folder(patient: Path) -> None:
    shutil.copytree(next(patient.glob("*/*Low Dose*")), patient / "other study" / "1.000000-Low Dose Images-5")


def slice_lost(patient: Path) -> None:
    next(patient.glob("*/*Low Dose*/slice001")).unlink()


def renamed(patient: Path) -> None:
    shutil.rmtree(patient)
    shutil.copytree(patient.with_name("L125"), patient)


def folder_of(patient: Path, dose: str) -> Path:
    return next(patient.glob(f"*/*{dose} Dose Images*"))


def low_is_a_link_to_full(patient: Path) -> None:
    low = folder_of(patient, "Low")
    shutil.rmtree(low)
    low.symlink_to(folder_of(patient, "Full"))


def low_is_a_copy_of_full(patient: Path) -> None:
    low = folder_of(patient, "Low")
    shutil.rmtree(low)
    shutil.copytree(folder_of(patient, "Full"), low)


def no_dicom(patient: Path) -> None:
    (folder_of(patient, "Full") / "slice000").write_text("x")


def no_dicom_at_the_end(patient: Path) -> None:
    (folder_of(patient, "Low") / "slice001").write_bytes(bytes(128) + b"DICM" + bytes(99))


def last_of_another(patient: Path) -> None:
    shutil.copy(folder_of(patient.with_name("L125"), "Low") / "slice001", folder_of(patient, "Low") / "slice001")


def last_of_another_series(patient: Path) -> None:
    (folder_of(patient, "Low") / "slice001").unlink()
    shutil.copy(folder_of(patient, "Full") / "slice001", folder_of(patient, "Low") / "slice001")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (low_is_a_link_to_full, "is the folder of Full Dose Images itself"),
        (low_is_a_copy_of_full, "is of the same series as"),
        (no_dicom, "slice000 is no DICOM file that can be read (InvalidDicomError)"),
        (no_dicom_at_the_end, "slice001 is "),
        (last_of_another, "slice001 is of PatientID 'L125', its folder of 'L004'"),
        (last_of_another_series, "slice001 is of another series or patient than"),
        (second_folder, "is one of 2 folders of Low Dose Images"),
        (slice_lost, "has 2 slices of full and 1 of low dose"),
        (renamed, "is of PatientID 'L125', its folder of 'L004'"),
    ],
)
def test_contradictions_are_refused_whatever_may_be_missing(tmp_path: Path, damage: Any, words: str) -> None:
    root = small_tree(tmp_path / "LDCT")
    damage(root / "L004")
    with pytest.raises(DatalistRefusal, match="L004") as caught:
        make(root, tmp_path / "D", protocol=ISCL, regions=("abdomen",), allow_missing=True)
    assert words in str(caught.value)


def test_an_empty_series_is_missing(tmp_path: Path) -> None:
    root = small_tree(tmp_path / "LDCT")
    for file in (root / "L004").glob("*/*Low Dose*/*"):
        file.rename(file.with_name(f".{file.name}"))
    with pytest.raises(DatalistRefusal, match="L004: no slices"):
        make(root, tmp_path / "D", protocol=ISCL, regions=("abdomen",))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"protocol": "bench"}, "protocol 'bench'"),
        ({"protocol": ISCL, "regions": ("neuro",)}, "allowed: abdomen, chest"),
        ({"protocol": BENCH, "validation_per_region": 2, "allow_missing": True}, "leave it out"),
        ({"protocol": ISCL, "validation_per_region": -1, "allow_missing": True}, "0 or more"),
        ({"protocol": BENCH, "trained_on": "nothing"}, "protocol 'nothing'"),
    ],
)
def test_a_request_that_makes_no_sense(tmp_path: Path, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigRefusal, match=words):
        make(write_tree(tmp_path, ["L004"]), tmp_path / "D", **request_)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatalistRefusal, match="is no folder"):
        make(tmp_path / "absent", tmp_path / "D", protocol=ISCL)


def test_weights_of_the_other_split(abdomen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mayo", str(abdomen), str(tmp_path), "--region", "abdomen", "--protocol"]
    assert main([*words, BENCH, "--trained-on", ISCL]) == 2
    assert "weights trained on iscl-tmi2021 have seen L006, L107" in capsys.readouterr().err
    assert main([*words, ISCL, "--trained-on", BENCH]) == 2
    assert not list(tmp_path.iterdir())
    assert main([*words, ISCL, "--trained-on", ISCL]) == 0
