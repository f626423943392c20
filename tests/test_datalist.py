"""What the entries of a datalist become, and what its refusals allow and advise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iscl_monai.data import Datalist, PoolScan, ScanPair, check_leaks
from iscl_monai.domain import MICROGRAPH
from iscl_monai.errors import DatalistRefusal, LeakRefusal

SECTIONS = "noisy, clean, validation, test, description, split_protocol"
SCAN = "image, patient, dose, kernel, reconstruction, z_range_mm, series_uid, reference, reference_series_uid"
PAIR = (
    "noisy, clean, patient, z_range_mm, noisy_series_uid, clean_series_uid, dose, truth, truth_protocol, "
    "truth_series_uid"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("n", "c", "v", "w"):
        (tmp_path / name).write_text(f"volume {name}")
    return tmp_path


def good(**sections: Any) -> dict[str, Any]:
    pools = {"noisy": [{"image": "n", "patient": "A"}], "clean": [{"image": "c", "patient": "B"}]}
    return {**pools, **sections}


def refusal_of(folder: Path, content: Any) -> DatalistRefusal:
    (folder / "datalist.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DatalistRefusal) as caught:
        Datalist.load(folder)
    return caught.value


def test_a_scan_as_the_transforms_want_it() -> None:
    scan = PoolScan(image=Path("/a"), patient="P", dose=0.25, kernel="soft", z_range_mm=(1.0, 2.0), series_uid="1.2")
    assert scan.item() == {"image": "/a", "image_path": "/a", "z_range_mm": (1.0, 2.0), "series_uid": "1.2"}
    assert PoolScan(image=Path("/a"), patient="P").item() == {"image": "/a", "image_path": "/a"}


def test_a_pair_as_the_transforms_want_it() -> None:
    pair = ScanPair(
        noisy=Path("/a"),
        clean=Path("/b"),
        patient="P",
        z_range_mm=(1.0, 2.0),
        noisy_series_uid="1.2",
        clean_series_uid="1.3",
    )
    assert pair.item() == {
        "noisy": "/a",
        "clean": "/b",
        "patient": "P",
        "z_range_mm": (1.0, 2.0),
        "noisy_series_uid": "1.2",
        "clean_series_uid": "1.3",
    }
    assert ScanPair(noisy=Path("/a"), clean=Path("/b"), patient="P").item().keys() == {"noisy", "clean", "patient"}


def test_what_a_datalist_holds(folder: Path) -> None:
    pair = {"noisy": "v", "clean": "w", "patient": "V", "noisy_series_uid": "1.2", "clean_series_uid": None}
    (folder / "datalist.json").write_text(json.dumps(good(description="é", validation=[pair], test=[])), "utf-8")
    datalist = Datalist.load(str(folder))
    assert datalist.noisy == (PoolScan(image=folder / "n", patient="A"),)
    assert datalist.clean == (PoolScan(image=folder / "c", patient="B"),)
    assert datalist.validation == (
        ScanPair(noisy=folder / "v", clean=folder / "w", patient="V", noisy_series_uid="1.2"),
    )
    assert (datalist.test, datalist.split_protocol, datalist.folder) == ((), "", folder)


@pytest.mark.parametrize(
    ("word", "allowed", "cure"),
    [
        ("nosy", SECTIONS, "did you mean 'noisy'?"),
        ("test_series", SECTIONS, "did you mean 'test'?"),  # 4 letters of 15 twice: just above a half
        ("xyz", SECTIONS, "leave it out"),
    ],
)
def test_an_unknown_section(folder: Path, word: str, allowed: str, cure: str) -> None:
    refusal = refusal_of(folder, good(**{word: []}))
    assert refusal.came == f"{folder / 'datalist.json'}: section {word!r}"
    assert (refusal.allowed, refusal.cure) == (allowed, cure)


def test_unknown_keys(folder: Path) -> None:
    scan = {"image": "n", "patient": "A", "patiend": "B"}
    refusal = refusal_of(folder, good(noisy=[{"image": "n", "patient": "A"}, scan]))
    assert refusal.came == f"{folder / 'datalist.json'}: noisy[1] has 'patiend'"
    assert (refusal.allowed, refusal.cure) == (SCAN, "did you mean 'patient'?")
    refusal = refusal_of(folder, good(test=[{"noisy": "v", "clean": "w", "patient": "V", "image": "n"}]))
    assert refusal.came.endswith("test[0] has 'image'")
    assert refusal.allowed == PAIR


@pytest.mark.parametrize("value", [None, "", 7])
def test_what_an_entry_needs(folder: Path, value: object) -> None:
    path = folder / "datalist.json"
    for key in ("image", "patient"):
        refusal = refusal_of(folder, good(noisy=[{"image": "n", "patient": "A", key: value}]))
        assert refusal.came == f"{path}: noisy[0] has {key}={value!r}"
        assert (refusal.allowed, refusal.cure) == ("a non-empty string", f"give its {key}")
    for key in ("noisy", "clean", "patient"):
        pair = {"noisy": "v", "clean": "w", "patient": "V", key: value}
        assert refusal_of(folder, good(validation=[pair])).came == f"{path}: validation[0] has {key}={value!r}"


def test_files_that_do_not_exist(folder: Path) -> None:
    pair = {"noisy": "v", "clean": "w", "patient": "V"}
    for content, key in (
        (good(noisy=[{"image": "lost", "patient": "A"}]), "noisy[0] image"),
        (good(noisy=[{"image": "n", "patient": "A", "reference": "lost"}]), "noisy[0] reference"),
        (good(test=[{**pair, "noisy": "lost"}]), "test[0] noisy"),
        (good(test=[{**pair, "clean": "lost"}]), "test[0] clean"),
    ):
        refusal = refusal_of(folder, content)
        assert refusal.came == f"{folder / 'datalist.json'}: {key}='lost' does not exist"
        assert refusal.allowed == "a path that exists, relative to the datalist"
        assert refusal.cure == f"look for it at {folder / 'lost'}"


@pytest.mark.parametrize("value", [[4, 0], [1], [1, 2, 3], ["a", "b"], [1, "b"], "12", {"lowest": 1}])
def test_ranges_that_are_none(folder: Path, value: object) -> None:
    refusal = refusal_of(folder, good(clean=[{"image": "c", "patient": "B", "z_range_mm": value}]))
    assert refusal.came == f"{folder / 'datalist.json'}: clean[0] z_range_mm={value!r}"
    assert (refusal.allowed, refusal.cure) == ("[lowest, highest] in mm", "order the two")


def test_what_is_no_datalist_at_all(folder: Path) -> None:
    path = folder / "datalist.json"
    refusal = refusal_of(folder, "[]")
    assert (refusal.came, refusal.allowed, refusal.cure) == (f"{path} holds a list", "an object", "see docs")
    refusal = refusal_of(folder, good(noisy={"image": "n"}))
    assert refusal.came == f"{path}: noisy is {{'image': 'n'}}"
    assert (refusal.allowed, refusal.cure) == ("a list of scans", "put it in brackets")
    refusal = refusal_of(folder, "{")
    assert refusal.came.startswith(f"{path}: Expecting")
    assert (refusal.allowed, refusal.cure) == ("JSON", "mend the file at that place")
    path.write_bytes(b'{"description": "\xff"}')
    with pytest.raises(DatalistRefusal, match="codec can't decode"):
        Datalist.load(path)
    path.unlink()
    with pytest.raises(DatalistRefusal) as caught:
        Datalist.load(folder / "datalist.json")
    assert caught.value.came == f"{path} does not exist"
    assert "docs/datalist.md" in caught.value.allowed
    assert "--dataset_dir" in caught.value.cure


@pytest.mark.parametrize("pool", ["noisy", "clean"])
@pytest.mark.parametrize("absent", [True, False])
def test_a_pool_without_scans(folder: Path, pool: str, absent: bool) -> None:
    content = good(**{pool: []})
    if absent:
        del content[pool]
    refusal = refusal_of(folder, content)
    assert refusal.came == f"{folder / 'datalist.json'}: no scan in {pool!r}"
    assert refusal.allowed == "at least one scan in each of 'noisy' and 'clean'"
    assert "add scans of other patients" in refusal.cure


def test_an_unknown_split(folder: Path) -> None:
    refusal = refusal_of(folder, good(split_protocol="ldct-bensch"))
    assert refusal.came == f"{folder / 'datalist.json'}: split_protocol 'ldct-bensch'"
    assert {"ldct-bench", "iscl-tmi2021"} <= set(refusal.allowed.split(", "))
    assert refusal.cure == "did you mean 'ldct-bench'?"
    assert refusal_of(folder, good(split_protocol=None)).came.endswith("split_protocol None")


def leak(other: str, a: tuple[float, float] | None, b: tuple[float, float] | None) -> LeakRefusal:
    scan = PoolScan(image=Path("x"), patient="P", z_range_mm=a)
    pair = ScanPair(noisy=Path("y"), clean=Path("z"), patient="P", z_range_mm=b)
    with pytest.raises(LeakRefusal) as caught:
        check_leaks(Datalist(noisy=(scan,), clean=(), **{other: (pair,)}))
    return caught.value


def test_a_leak_names_both_places() -> None:
    refusal = leak("validation", (0, 12.5), (20, 30))
    assert refusal.came == "patient 'P' is in 'noisy' (z 0 to 12.5 mm) and in 'validation' (z 20 to 30 mm)"
    assert refusal.allowed == "other patients, or z-ranges at least 15 mm apart"
    assert "give both entries a z_range_mm" in refusal.cure
    refusal = leak("validation", None, (20, 30))
    assert refusal.came == "patient 'P' is in 'noisy' (z everything) and in 'validation' (z 20 to 30 mm)"


def test_a_leak_into_the_test_is_one_at_any_distance() -> None:
    refusal = leak("test", (0, 10), (500, 600))
    assert refusal.came == "test patient 'P' is also in 'noisy'"
    assert refusal.allowed == "test patients that nothing else has seen"
    assert refusal.cure == "take 'P' out of one of the two"


def test_a_truth_is_found_beside_the_datalist_and_is_no_scan_of_another_side(folder: Path) -> None:
    (folder / "t").write_text("a volume")
    pair = {"noisy": "v", "clean": "w", "patient": "C", "dose": 0.25, "truth": "t"}
    named = {**pair, "truth_protocol": "truth-real-anatomy"}
    (folder / "datalist.json").write_text(json.dumps(good(test=[named])))
    loaded = Datalist.load(folder).test[0]
    assert (loaded.truth, loaded.truth_protocol, loaded.dose) == (folder / "t", "truth-real-anatomy", 0.25)
    assert "truth" not in loaded.item()  # training sees none
    (folder / "datalist.json").write_text(json.dumps(good(test=[{**named, "truth": "c"}])))
    with pytest.raises(LeakRefusal, match=r"/c is the truth of 'C' in 'test' and a scan of 'B' in 'clean'"):
        Datalist.load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truth": "t"}, "truth='t' and truth_protocol=None"),
        ({"truth_protocol": "truth-real-anatomy"}, "truth=None and truth_protocol='truth-real-anatomy'"),
        ({"truth": "t", "truth_protocol": "hu-body"}, "truth_protocol='hu-body'"),
        ({"truth": "gone", "truth_protocol": "truth-real-anatomy"}, "truth='gone' does not exist"),
        ({"dose": 1.0}, "dose=1.0"),
        ({"dose": "quarter"}, "dose='quarter'"),
    ],
)
def test_a_truth_without_its_protocol_and_a_dose_that_is_none_are_refused(
    folder: Path, change: dict[str, Any], words: str
) -> None:
    (folder / "t").write_text("a volume")
    refusal = refusal_of(folder, good(test=[{"noisy": "v", "clean": "w", "patient": "C", **change}]))
    assert words in str(refusal)


# --- sections of micrographs -------------------------------------------------------------------------------------


def sections_of(**roles: list[int]) -> dict[str, Any]:
    """One specimen in several roles, by the numbers of its sections."""
    content: dict[str, Any] = {"number_nm": 10, "least_gap_nm": 480}
    for name, numbers in roles.items():
        files = {"image": "n"} if name in ("noisy", "clean") else {"noisy": "n", "clean": "c"}
        content[name] = [{**files, "patient": "fly", "sections": numbers}]
    return content


def load_sections(folder: Path, content: dict[str, Any]) -> Datalist:
    (folder / "datalist.json").write_text(json.dumps(content))
    return Datalist.load(folder, MICROGRAPH)


def test_sections_of_one_specimen_may_have_all_roles(folder: Path) -> None:
    datalist = load_sections(folder, sections_of(noisy=[0, 8], clean=[56, 64], validation=[112], test=[160]))
    assert datalist.noisy[0].item()["sections"] == (0, 8)
    assert datalist.test[0].item()["sections"] == (160,)
    assert datalist.number_nm == 10
    assert "sections" in datalist.identity["noisy"][0]


@pytest.mark.parametrize("other", ["clean", "validation", "test"])
def test_sections_nearer_than_the_gap_are_a_leak(folder: Path, other: str) -> None:
    roles = {"noisy": [0, 8], "clean": [200], other: [55]}
    with pytest.raises(LeakRefusal, match=r"2 sections, 0 to 8.*1 sections, 55 to 55.*at least 480 nm apart"):
        load_sections(folder, sections_of(**roles))


def test_without_a_gap_of_its_own_that_of_the_domain_counts(folder: Path) -> None:
    content = sections_of(noisy=[0], clean=[30])
    del content["least_gap_nm"]
    with pytest.raises(LeakRefusal, match="480 nm"):
        load_sections(folder, content)
    assert load_sections(folder, {**content, "least_gap_nm": 300}).least_gap_nm == 300
    with pytest.raises(DatalistRefusal, match="no number_nm"):
        load_sections(folder, {name: value for name, value in content.items() if name != "number_nm"})


@pytest.mark.parametrize("numbers", [[], ["1"], 3, [1.5]])
def test_sections_that_are_no_numbers(folder: Path, numbers: Any) -> None:
    with pytest.raises(DatalistRefusal, match="a list of numbers of sections"):
        load_sections(folder, sections_of(noisy=numbers, clean=[200]))


def test_ct_takes_no_sections(folder: Path) -> None:
    refusal = refusal_of(folder, sections_of(noisy=[0], clean=[200]))
    assert refusal.allowed == "a datalist of CT in Hounsfield units"
    assert "--domain micrograph" in refusal.cure


def test_the_identity_of_ct_knows_nothing_of_sections(folder: Path) -> None:
    (folder / "datalist.json").write_text(json.dumps(good()))
    assert not {"sections", "grey_range"} & Datalist.load(folder).identity["noisy"][0].keys()
