"""What becomes of a table: who feeds which section, what is refused, what is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from split_tables import archive, below, original, simulated

from data_prep.__main__ import main
from data_prep.split.make import Split, split_rows
from data_prep.split.request import SplitRequest
from data_prep.table import SeriesRow, write_table
from iscl_monai.data import Datalist, references
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal, OutputRefusal, Refusal


def split(rows: Sequence[SeriesRow], **request: Any) -> Split:
    return split_rows(rows, SplitRequest(**request))


def patients(made: Split, section: str) -> set[str]:
    return {patient for patient, option in made.options.items() if section in option}


def images(made: Split, section: str) -> list[str]:
    return [part.row.path for option in made.options.values() for part in option.get(section, ())]


# --- by patient --------------------------------------------------------------------------------------


def test_many_patients_stay_whole() -> None:
    made = split(archive(20))
    sizes = {name: len(patients(made, name)) for name in ("noisy", "clean", "validation", "test")}
    assert made.plan.by == "patient"
    assert sizes == {"noisy": 7, "clean": 7, "validation": 2, "test": 4}
    assert all(len(option) == 1 for option in made.options.values())
    assert not made.warnings
    assert not made.notes


def test_every_kernel_and_scanner_is_in_both_pools() -> None:
    kernels, models, parts = ("B30f", "B70f"), ("One", "Two"), ("CHEST", "ABDOMEN")
    scans = [
        original(
            f"p{number:02d}", kernel=kernels[number % 2], model=models[number // 2 % 2], body_part=parts[number // 20]
        )
        for number in range(40)
    ]
    made = split([*scans, *map(simulated, scans)])
    assert not made.warnings
    for feature in ("kernel", "scanner", "body part"):
        for row in made.balance[feature].values():
            assert row["noisy"]["slices"] == row["clean"]["slices"]
            assert row["test"]["slices"] in {180, 240, 300}


def test_what_only_one_pool_has_is_told() -> None:
    rows = [original("a"), original("b", kernel="B70f", dose_class="low"), original("c", dose_class="low")]
    made = split(rows)
    assert made.warnings == ("kernel B70f is only in noisy: the network can learn kernel instead of noise",)
    assert len(made.notes) == 2, "no pairs for validation and test"


def test_all_series_of_a_patient_stand_on_one_side() -> None:
    rows = archive(8)
    more = [replace(row, path=row.path + "b", series_uid=row.series_uid + "b", kernel="B70f") for row in rows]
    more = [replace(row, simulated_from=row.simulated_from + "b") if row.simulated_from else row for row in more]
    made = split([*rows, *more])
    for option in made.options.values():
        (parts,) = option.values()
        assert {part.row.kernel for part in parts} == {"B30f", "B70f"}


# --- along z -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_patients_are_cut(number: int) -> None:
    made = split(archive(number))
    assert made.plan.by == "z"
    assert len(patients(made, "test")) == (number == 3)
    assert len(patients(made, "noisy") & patients(made, "clean") & patients(made, "validation")) == min(number, 2)
    assert bool(made.warnings) == (number == 1), "one patient: the pools differ in body level"


def test_body_levels_change_sides() -> None:
    made = split(archive(2), validation=0)
    one, other = made.options.values()
    assert one["noisy"][0].z_range_mm == other["clean"][0].z_range_mm == (-100.0, -21.0)
    assert one["clean"][0].z_range_mm == other["noisy"][0].z_range_mm == (-3.0, 77.0)


def test_body_levels_change_sides_whatever_the_body_part_is_called() -> None:
    scans = [original("a", body_part="LUNG"), original("b")]
    one, other = split([*scans, *map(simulated, scans)], validation=0).options.values()
    assert one["noisy"][0].z_range_mm == other["clean"][0].z_range_mm


def test_a_wider_gap() -> None:
    (option,) = split(archive(1), validation=0, gap_mm=30.5).options.values()
    low, high = sorted(option[name][0].z_range_mm or (0.0, 0.0) for name in ("noisy", "clean"))
    assert high[0] - low[1] == 34, "the slices on both sides are 3 mm thick"


@pytest.mark.parametrize(("thickness", "step"), [(20.0, 20.0), (None, 20.0), (20.0, 5.0)])
def test_no_tissue_of_one_part_is_nearer_to_another_than_the_gap(thickness: float | None, step: float) -> None:
    scan = original("p", slices=40, step_mm=step, slice_thickness_mm=thickness)
    (option,) = split([scan, replace(simulated(scan), slice_thickness_mm=thickness)], validation=0).options.values()
    low, high = sorted(option[name][0].z_range_mm or (0.0, 0.0) for name in ("noisy", "clean"))
    assert high[0] - low[1] - 20 >= 15


def test_a_short_scan_stays_whole() -> None:
    rows = [*archive(2), short := original("short", slices=8), simulated(short)]
    option = split(rows).options["short"]
    (section,) = option
    assert section in {"noisy", "clean"}
    assert option[section][0].z_range_mm is None


def test_scans_that_cannot_be_compared_are_not_cut() -> None:
    first, again = original("p", name="a"), original("p", name="b")
    rows = [first, again, simulated(first), simulated(again)]
    with pytest.raises(DatalistRefusal, match="nothing is left for 'clean'"):
        split(rows)
    with pytest.raises(DatalistRefusal, match="none of them can be cut"):
        split(rows, by="z")
    one_study = [replace(row, study_uid="2.a") for row in rows]
    with pytest.raises(DatalistRefusal, match="nothing is left for 'clean'"):
        split(one_study)  # inspiration and expiration: organs move
    made = split([*one_study, *archive(2)], by="z")
    assert len(made.options["p"]) == 1
    assert len(made.options["p00"]) > 1


def test_uneven_scans_are_not_cut() -> None:
    made = split(
        [
            *archive(2),
            *(
                replace(
                    row,
                    geometry="uneven",
                    patient="u",
                    study_uid="2.u",
                    path=f"/u{row.path}",
                    series_uid=f"9{row.series_uid}",
                    simulated_from=row.simulated_from and f"9{row.simulated_from}",
                )
                for row in archive(1)
            ),
        ]
    )
    assert len(made.options["u"]) == 1
    assert len(made.options["p00"]) == 3


# --- what is noisy, what is clean --------------------------------------------------------------------


def test_the_average_stands_for_its_original() -> None:
    scan = original("p", slices=200, step_mm=1.0)
    rows = [scan, clean := simulated(scan, average=3, fraction=1), noisy := simulated(scan, average=3)]
    made = split(rows)
    assert images(made, "noisy") == [noisy.path]
    assert images(made, "clean") == [clean.path]
    (pair,) = made.options["p"]["validation"]
    assert (pair.row, pair.clean) == (noisy, clean)


def test_real_scans_are_sorted_by_noise_when_asked() -> None:
    real = [original(f"s{noise}", noise_hu=float(noise), dose_class="unknown") for noise in (8, 15, 30)]
    rows = [*archive(2, noise_hu=22.0), *real, original("unmeasured", noise_hu=None, dose_class="unknown")]
    made = split(rows, noisy_above_hu=20, clean_below_hu=10)
    assert "s30" in patients(made, "noisy") - patients(made, "clean")
    assert "s8" in patients(made, "clean") - patients(made, "noisy")
    assert made.left_out == {"noise on neither side of the limits": 1, "noise not measured": 1}
    assert patients(made, "clean") >= {"p00", "p01"}, "simulated from: clean, whatever its noise"
    assert split(rows).left_out == {"dose unknown (sort by noise: --noisy-above, --clean-below)": 4}


def test_one_limit_leaves_the_other_side_to_the_headers() -> None:
    rows = [
        original("low", dose_class="low", noise_hu=5.0),
        original("full", noise_hu=30.0),
        original("quiet", noise_hu=6.0),
    ]
    made = split(rows, clean_below_hu=10)
    assert (patients(made, "noisy"), patients(made, "clean")) == ({"low"}, {"quiet"})
    made = split(rows, noisy_above_hu=20)
    assert (patients(made, "noisy"), patients(made, "clean")) == ({"full"}, {"quiet"})


def test_a_simulation_of_another_grid_is_no_pair() -> None:
    scans = [original(f"p{number}") for number in range(8)]
    rows = [*scans, *(replace(simulated(scan), slices=50) for scan in scans)]
    made = split(rows)
    assert not patients(made, "validation") | patients(made, "test")
    assert len(made.notes) == 2


def test_left_out_and_counted() -> None:
    extra = [
        original("x1", verdict="gap: 1 slice missing at 3 mm"),
        original("x2", verdict="gap: 2 slices missing"),
        original("x3", body_part="HEAD"),
        original("x4", series_uid="", path="/archive/p00"),
        original("x5", dose_fraction=0.5),
    ]
    rows = archive(8)
    made = split([*rows, *extra, replace(rows[0], path="/copy")], body_parts=("chest",), exclude_patients=("p01",))
    assert made.left_out == {
        "gap": 2,
        "body part HEAD": 1,
        "without SeriesInstanceUID in a folder with other series": 1,
        "simulated, but the table does not say from which series": 1,
        "excluded patient": 2,
        "listed twice": 1,
    }
    assert "p01" not in made.options


# --- who it is ---------------------------------------------------------------------------------------


def nameless(rows: Sequence[SeriesRow]) -> list[SeriesRow]:
    return [replace(row, patient="") for row in rows]


def test_what_the_refusal_of_a_nameless_series_advises_works() -> None:
    rows = [*archive(8), replace(original("x"), patient=""), replace(original("y"), patient="", series_uid="")]
    excluded: list[str] = []
    for _ in range(2):
        with pytest.raises(DatalistRefusal, match="have no patient") as refusal:
            split(rows, exclude_series=tuple(excluded))
        excluded += re.findall(r"--exclude-series ([^ )]+)", refusal.value.cure)
    assert excluded == ["1.x", "/archive/y/y"]
    made = split(rows, exclude_series=tuple(excluded))
    assert made.left_out["excluded series"] == 2
    assert set(made.options) == set(split(archive(8)).options)


def test_an_excluded_series_takes_what_was_simulated_from_it_along() -> None:
    made = split(archive(8), exclude_series=("1.p01",))
    assert made.left_out["excluded series"] == 2
    assert "p01" not in made.options
    for series, cure in (("1.p0", "did you mean '1.p0"), ("zzz", "look at these columns")):
        with pytest.raises(ConfigRefusal, match=f"to exclude is not in the table.*{cure}"):
            split(archive(8), exclude_series=(series,))


def test_nobody_is_refused_unless_something_stands_for_the_name() -> None:
    rows = nameless(archive(8))
    with pytest.raises(DatalistRefusal, match=r"16 of 16 fit series have no patient.*--patient-from study"):
        split(rows)
    without_study = [replace(row, study_uid="") for row in rows]
    with pytest.raises(DatalistRefusal, match="even with --patient-from study") as refusal:
        split(without_study, patient_from="study")
    assert "--patient-from folder" in refusal.value.cure
    assert "--patient-from study" not in refusal.value.cure
    made = split(rows, patient_from="study")
    assert set(made.options) == {f"study 2.p{number:02d}" for number in range(8)}
    assert "8 patients are guessed" in made.notes[0]
    assert set(split(rows, patient_from="folder").options) == {f"folder p{number:02d}" for number in range(8)}
    assert not split(archive(8), patient_from="folder").notes


def test_a_simulated_series_is_of_its_originals_patient() -> None:
    rows = archive(8)
    assert split([*rows[:8], *nameless(rows[8:])]).options.keys() == split(rows).options.keys()


@pytest.mark.parametrize("field", ["study_uid", "series_uid", "simulated_from"])
def test_two_names_for_one_scan_are_a_leak(field: str) -> None:
    rows = archive(8)
    wrong = replace(original("other"), **{field: getattr(rows[-1], field)})
    with pytest.raises(LeakRefusal, match="is of patient"):
        split([*rows, wrong])


def people(*, nameless_in: str = "A") -> list[SeriesRow]:
    """Seven patients; the second scan of one of them, of another study, lies there without a name."""
    again = original("", name="again", path=f"/archive/{nameless_in}/again")
    return [*archive(6), known := original("A"), simulated(known), again, replace(simulated(again), patient="")]


def test_nameless_rows_in_a_known_patients_folder_are_that_patient() -> None:
    made = split(people(), patient_from="folder")
    assert "folder A" not in made.options
    assert sum(len(parts) for parts in made.options["A"].values()) == 2
    assert not made.notes
    assert "folder B" in split(people(nameless_in="B"), patient_from="folder").options
    in_study = [row if row.patient else replace(row, study_uid="2.A") for row in people(nameless_in="B")]
    assert "study 2.A" not in split(in_study, patient_from="study").options


def test_nameless_rows_beside_two_patients_are_refused() -> None:
    with pytest.raises(LeakRefusal, match="share folder A with patient 'A' and with patient 'other'"):
        split([*people(), original("other", path="/archive/A/other")], patient_from="folder")


def test_folders_of_series_are_no_patients() -> None:
    rows = [original("", name=f"s{number}", path=f"/archive/somebody/s{number}") for number in range(6)]
    with pytest.raises(
        DatalistRefusal, match=r"lie directly in /archive/somebody, which may be one person's"
    ) as caught:
        split([*rows, *(replace(simulated(row), patient="") for row in rows)], patient_from="folder")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["P00", "p00 ", "\uff5000"])
def test_names_that_differ_in_case_or_spaces_alone_are_refused(other: str) -> None:
    with pytest.raises(LeakRefusal, match="differ in nothing but case or spaces"):
        split([*archive(8), original(other, name="another")])


def test_one_folder_under_two_paths_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "x" / "s").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "x")
    blank = original("a", path=str(tmp_path / "x" / "s"), series_uid="", study_uid="")
    for path in (f"{tmp_path}/x/../x/s", f"{tmp_path}/link/s"):
        with pytest.raises(LeakRefusal, match=r"folder .*/x/s is of patient '[ab]' and of patient '[ab]'"):
            split([*archive(8), blank, replace(blank, patient="b", path=path)])
        again = split([*archive(8), blank, replace(blank, path=path)])
        assert again.left_out == {"without SeriesInstanceUID in a folder with other series": 2}


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "request_", "words"),
    [
        ([], {}, "the table is empty"),
        ([original("a", verdict="not axial")], {}, "1 not axial"),
        ([original("a")], {}, "python -m data_prep dose TABLE LOW --fraction 0.25"),
        ([original("a", dose_class="low")], {}, "none of 1 fit series is full dose.*--clean-below"),
        ([original("a", dose_class="unknown")], {}, "left out: 1 dose unknown.*dose TABLE LOW.*--noisy-above HU"),
        (archive(1), {"by": "patient"}, "leave --by out"),
        (archive(1, slices=8), {}, "nothing is left"),
        (archive(2), {"exclude_patients": ("p1",)}, "did you mean 'p01'"),
        (archive(2), {"exclude_patients": ("zzz",)}, "look at the column"),
    ],
)
def test_refused(rows: list[SeriesRow], request_: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        split(rows, **request_)


@pytest.mark.parametrize(
    "request_",
    [
        {"validation": -0.1},
        {"validation": 0.5, "test": 0.5},
        {"test": float("nan")},
        {"gap_mm": 14.0},
        {"gap_mm": float("nan")},
        {"gap_mm": float("inf")},
        {"noisy_above_hu": float("nan")},
        {"noisy_above_hu": -1.0},
        {"clean_below_hu": float("inf")},
        {"by": "slice"},
        {"patient_from": "name"},
        {"noisy_above_hu": 10.0, "clean_below_hu": 20.0},
    ],
)
def test_a_request_that_makes_no_sense(request_: dict[str, Any]) -> None:
    with pytest.raises(ConfigRefusal):
        SplitRequest(**request_)


# --- the files ---------------------------------------------------------------------------------------


def run(*words: object) -> int:
    return main(["split", *map(str, words)])


def test_the_datalist_loads_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = below(tmp_path / "data", archive(2))
    write_table(rows, tmp_path / "LOW" / "series")
    destination = tmp_path / "D"
    assert run(tmp_path / "LOW", destination) == 0
    said = capsys.readouterr().out
    assert "by z-range: 2 cut" in said
    assert "No test pairs" in said
    assert str(destination / "datalist.json") in said.replace("\n", "")
    made = Datalist.load(destination)
    assert {scan.reference for scan in made.noisy} <= {Path(row.path) for row in rows}
    assert [scan.dose for scan in (*made.noisy, *made.clean)] == [0.25, 0.25, 1, 1]
    assert [pair.dose for pair in made.validation] == [0.25, 0.25], "a fine-tuning is judged by it"
    content = (destination / "datalist.json").read_bytes()
    assert json.loads(content)["noisy"][0]["image"].startswith("../data/")
    assert json.loads((destination / "balance.json").read_text())["entries"] == {
        "noisy": 2,
        "clean": 2,
        "validation": 2,
        "test": 0,
    }
    assert sorted(path.name for path in destination.iterdir()) == ["balance.json", "datalist.json"]

    assert run(tmp_path / "LOW", destination) == 0, "the same again"
    assert run(tmp_path / "LOW", destination, "--validation", "0") == 2
    assert "exists and says otherwise" in capsys.readouterr().err
    assert (destination / "datalist.json").read_bytes() == content


def test_folders_with_several_series_are_told_apart(tmp_path: Path) -> None:
    rows = [replace(row, path="/archive/all" if row.simulated_from else row.path) for row in archive(8)]
    write_table(below(tmp_path, rows), tmp_path / "series")
    assert run(tmp_path / "series.csv", tmp_path) == 0
    made = Datalist.load(tmp_path)
    assert all(scan.series_uid and scan.series_uid.endswith(".1.25") for scan in made.noisy)
    assert all(scan.series_uid is None and scan.reference is None for scan in made.clean)
    assert all(scan.reference for scan in made.noisy)
    assert all(pair.noisy_series_uid and not pair.clean_series_uid for pair in made.test)


def test_a_series_below_another_ones_folder_is_named(tmp_path: Path) -> None:
    above = original("x", path="/archive/x", name="spread")  # in /archive/x/1 and /archive/x/2
    under = original("x", path="/archive/x/1", name="beside")
    write_table(below(tmp_path, [*archive(8), above, under]), tmp_path / "series")
    assert run(tmp_path, tmp_path) == 0
    made = Datalist.load(tmp_path)
    assert {scan.series_uid for scan in made.clean if scan.patient == "x"} == {"1.spread", "1.beside"}


def test_a_reference_among_other_series_is_named(tmp_path: Path) -> None:
    rows = [replace(row, path="/low" if row.simulated_from else "/low/full") for row in archive(8)]
    write_table(below(tmp_path, rows), tmp_path / "series")
    assert run(tmp_path, tmp_path) == 0
    noisy = Datalist.load(tmp_path).noisy
    assert all(scan.reference and scan.series_uid for scan in noisy)
    stood_in = references(noisy)
    originals = {row.series_uid: row.simulated_from for row in rows}
    assert [scan.series_uid for scan in stood_in] == [originals[scan.series_uid or ""] for scan in noisy]


def test_a_scan_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = below(tmp_path, archive(2))
    Path(rows[0].path).rmdir()
    write_table(rows, tmp_path / "series")
    assert run(tmp_path, tmp_path / "D") == 2
    assert "is gone" in capsys.readouterr().err
    assert not (tmp_path / "D").exists()


def test_warnings_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*archive(8), original("x", kernel="[bold]B70f", dose_class="low")]
    write_table(below(tmp_path, rows), tmp_path / "series")
    assert run(tmp_path, tmp_path) == 0
    assert "WARNING: kernel [bold]B70f is only in noisy" in capsys.readouterr().out


def test_no_place_to_write(tmp_path: Path) -> None:
    from data_prep.split.write import write_datalist

    (tmp_path / "file").write_text("")
    with pytest.raises(OutputRefusal):
        write_datalist({"noisy": [], "clean": []}, tmp_path / "file")
    with pytest.raises(DatalistRefusal, match="no scan in 'noisy'"):
        write_datalist({"noisy": [], "clean": []}, tmp_path)
    assert not list(tmp_path.glob(".*")), "the draft is removed"


def test_iterative_reconstructions_beside_others_are_refused() -> None:
    rows = archive(8)
    mixed = [replace(row, reconstruction="ASiR 50") if row.patient == "p03" else row for row in rows]
    with pytest.raises(DatalistRefusal, match=r"2 of 16 .*2 ASiR 50.*--accept-iterative"):
        split_rows(mixed, SplitRequest())
    taken = split_rows(mixed, SplitRequest(accept_iterative=True))
    assert any("reconstruction ASiR 50 is only in" in warning for warning in taken.warnings)
    assert not any("reconstruction" in warning for warning in split_rows(rows, SplitRequest()).warnings)
    # A table of one kind is one kind.
    alike = [replace(row, reconstruction="ASiR 50") for row in rows]
    assert split_rows(alike, SplitRequest()).entries() == split_rows(rows, SplitRequest()).entries()
