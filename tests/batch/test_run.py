"""An archive with one worker in this process: what is done, kept, refused, and done again."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from batch.archives import UID, Place, check_as_denoised, check_whole, contents, small
from batch.inline import InlinePool, denoised, ends_in_a_fork
from dicom.multiframe import Enhanced
from dicom.synthetic import setting
from inference.tiny import make_bundle

from iscl_monai.batch.ledger import Ledger
from iscl_monai.batch.pool import Answer, Call
from iscl_monai.batch.ray_pool import RemoteWorker
from iscl_monai.batch.worker import Worker
from iscl_monai.dicom.value_statistics import sample_indices
from iscl_monai.errors import ConfigRefusal, DatalistRefusal, DicomRefusal, MemoryRefusal, OutputRefusal, Refusal
from iscl_monai.inference.plan import ClassicSeries, plan

ALL = {0, 1, 2, 3}


def break_in_the_middle(files: list[Path]) -> None:
    """A slice that no plan decodes: its pixels are looked at when it is denoised."""
    path = files[next(index for index in range(14) if index not in sample_indices(14))]
    before, item, after = path.read_bytes().rpartition(b"\xfe\xff\x00\xe0")
    path.write_bytes(before + item + after[:4] + bytes(64) + after[68:])


def of_series(number: int) -> Callable[[Call], bool]:
    return lambda call: call.method == "denoise" and call.subject.series_uid == f"{UID}.{number}"


# --- what is done ------------------------------------------------------------------------------------


def test_every_series_becomes_what_denoise_makes_of_it(place: Place, tmp_path: Path) -> None:
    place = replace(place, settings=replace(place.settings, strength=0.7, save_residual=True))
    summary, _ = place.run()
    check_whole(place, ALL, set())
    assert (summary.series, summary.done, summary.slices, len(summary.refused)) == (4, 4, 8, 0)
    for number in ALL:
        check_as_denoised(place, number, place.source / f"patient{number}", tmp_path / f"alone{number}")


def test_a_second_run_hands_out_nothing(place: Place) -> None:
    place.run()
    before = contents(place.out / "series")
    summary, pool = place.run()
    assert {call.method for call in pool.calls} == {"look"}
    assert summary.done == 4
    assert contents(place.out / "series") == before


def test_new_series_are_added(place: Place) -> None:
    place.run()
    small(4).write(place.source / "patient4")
    _, pool = place.run()
    assert denoised(pool) == [f"{UID}.4"]
    check_whole(place, ALL | {4}, set())


def test_a_series_in_two_folders_is_one(place: Place, tmp_path: Path) -> None:
    files = small(7, slots=range(6)).write(place.source / "seven" / "a")
    (place.source / "seven" / "b").mkdir()
    for path in files[2:]:
        path.rename(place.source / "seven" / "b" / path.name)
    place.run()
    check_whole(place, ALL | {7}, set())
    assert len(list(place.result(7).iterdir())) == 6
    check_as_denoised(place, 7, place.source / "seven", tmp_path / "alone")


def test_a_multi_frame_image_and_a_series_without_uid(place: Place, tmp_path: Path) -> None:
    (place.source / "enhanced").mkdir()
    Enhanced(rows=24, columns=20).write(place.source / "enhanced" / "image")
    small(8, change=setting(SeriesInstanceUID=None)).write(place.source / "nameless")
    summary, _ = place.run()
    assert (summary.done, len(summary.refused)) == (6, 0)
    (nameless,) = place.rows("SELECT result FROM series WHERE series_uid = ''")
    assert pydicom.dcmread(place.out / "series" / nameless[0].decode() / "00001.dcm").PatientID == "P1"


def test_what_is_refused_does_not_hold_up_the_others(place: Place) -> None:
    small(5, rows=15).write(place.source / "narrow")
    break_in_the_middle(small(6, slots=range(14), rle=True).write(place.source / "broken"))
    (place.source / "patient0" / "notes.txt").write_text("not a slice")
    summary, _ = place.run()
    check_whole(place, ALL, {5, 6})
    assert summary.skipped_files == {"not a DICOM file": 1}
    reasons = {one.series_uid[-1]: one.reason for one in summary.refused}
    assert "Rows is 15; allowed: 16 to 4096" in reasons["5"]
    assert "PixelData is not decodable" in reasons["6"]
    assert denoised(place.run()[1]) == []
    assert denoised(place.run(retry_refused=True)[1]) == [f"{UID}.6"]


def test_a_damaged_file_is_told(place: Place) -> None:
    (place.source / "patient1" / "slice000").write_bytes(b"")
    (place.source / "alone").mkdir()
    (place.source / "alone" / "slice.dcm").write_bytes(bytes(200))
    summary, _ = place.run()
    check_whole(place, ALL - {1}, {1})
    assert {Path(path).name for path in summary.damaged_files} == {"slice000", "slice.dcm"}


def test_units_are_decided_as_the_whole_archive_is(place: Place) -> None:
    """By ``plan``, which ``denoise`` asks for all folders at once: the same series, the same words."""
    files = small(4, slots=range(4)).write(place.source / "four" / "a")
    (place.source / "four" / "b").mkdir()
    files[3].rename(place.source / "four" / "b" / "last")
    (place.source / "four" / "b" / "slice.dcm").write_bytes(bytes(200))
    (place.source / "patient1" / "slice000").write_bytes(b"")
    small(5, rows=15).write(place.source / "narrow")
    small(6, change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])).write(place.source / "derived")
    (place.source / "patient0" / "notes.txt").write_text("not a slice")
    small(2, prefix="copy").write(place.source / "patient0")
    decided = plan(place.source)
    summary, _ = place.run()
    numbers = {int(one.headers[0].series_uid[-1]) for one in decided.series if isinstance(one, ClassicSeries)}
    assert {int(number) for number, state in place.states().items() if state == "done"} == numbers
    refused = {one.reason for one in summary.refused} | set(summary.damaged_files.values())
    assert refused == {str(one) for one in decided.refused}
    whole = Counter(one.reason for one in decided.skipped if not one.damaged)
    assert summary.skipped_files == whole


def test_derived_series_are_left_alone(place: Place) -> None:
    small(6, change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])).write(place.source / "derived")
    summary, _ = place.run()
    check_whole(place, ALL, set())
    assert [count for reason, count in summary.skipped_files.items() if reason.startswith("DERIVED")] == [2]


def test_what_is_unlike_the_training_is_told(place: Place, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(place.settings.bundle, tmp_path / "bundle"))
    (bundle / "models" / "training.json").write_text(json.dumps({"pixel_mm": [2.0, 3.0]}))
    place = replace(place, settings=replace(place.settings, bundle=bundle))
    summary, _ = place.run()
    assert set(summary.unlike) == {f"{UID}.{number}" for number in ALL}
    assert "Unlike the training" in (place.out / "index.html").read_text()
    assert "Unlike the training" in pydicom.dcmread(place.result(0) / "00001.dcm").DerivationDescription
    check_as_denoised(place, 0, place.source / "patient0", tmp_path / "alone")


# --- a table -----------------------------------------------------------------------------------------


def table(path: Path, rows: list[tuple[Path, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "series_uid", "verdict"), *((str(folder), uid, "fit") for folder, uid in rows)])
    return path


def test_of_a_table_only_its_rows_are_done(place: Place, tmp_path: Path) -> None:
    small(8, prefix="other").write(place.source / "patient0")
    rows = [(place.source / "patient0", f"{UID}.0"), (place.source / "patient2", f"{UID}.2")]
    listed = table(tmp_path / "series.csv", rows)
    place.run(listed)
    check_whole(place, {0, 2}, set())
    derived = small(6, change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])).write(place.source / "derived")
    rows += [(place.source / "patient0", f"{UID}.8"), (derived[0].parent, f"{UID}.6")]
    table(listed, [*rows, (place.source / "patient3", f"{UID}.99")])
    summary, pool = place.run(listed)
    assert denoised(pool) == [f"{UID}.8"]
    check_whole(place, {0, 2, 8}, {6, 99})
    reasons = {one.series_uid.rpartition(".")[2]: one.reason for one in summary.refused}
    assert f"{UID}.6: DERIVED, not an original series" in reasons["6"]
    assert f"no original axial CT series {UID}.99 lies there" in reasons["99"]


def test_a_table_that_scan_wrote(place: Place, tmp_path: Path) -> None:
    from data_prep.archive.scan import scan_archive

    small(6, change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])).write(place.source / "derived")
    scan_archive(place.source, tmp_path / "scanned", pixels=False)
    place.run(tmp_path / "scanned" / "series.parquet")
    states = place.states()
    assert {states[str(number)] for number in ALL} == {"done"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,verdict\n/tmp,fit\n", "without the column series_uid"),
        ("path,series_uid\n", "no row"),
        ("path,series_uid\n/no/such/folder,1.2\n", "/no/such/folder is no folder"),
        ("path,series_uid\n,1.2\n", "row 1 has path=''"),
    ],
)
def test_a_table_of_something_else_is_refused(place: Place, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "series.csv").write_text(text)
    with pytest.raises(DatalistRefusal, match=words):
        place.run(tmp_path / "series.csv")
    assert not place.out.exists()


def test_a_parquet_of_something_else_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "series.parquet").write_bytes(b"no")
    with pytest.raises(DatalistRefusal, match=r"series\.parquet"):
        place.run(tmp_path / "series.parquet")


# --- what is refused at once ---------------------------------------------------------------------------


def test_other_settings_in_the_same_folder_are_refused(place: Place, tmp_path: Path) -> None:
    place.run()
    before = contents(place.out / "series")
    with pytest.raises(ConfigRefusal, match=r"strength 0.5 in .*allowed: .*strength 1; do: give these again"):
        place.run(settings=replace(place.settings, strength=0.5))
    other = make_bundle(tmp_path / "other", seed=1)
    with pytest.raises(ConfigRefusal, match="weights sha256"):
        place.run(settings=replace(place.settings, bundle=other))
    with pytest.raises(ConfigRefusal, match="SOURCE"):
        place.run(place.source / "patient1")
    assert contents(place.out / "series") == before


def test_places_that_are_wrong_are_refused(place: Place, tmp_path: Path) -> None:
    with pytest.raises(OutputRefusal, match="lies inside"):
        replace(place, out=place.source / "out").run()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OutputRefusal, match="taken exists"):
        replace(place, out=tmp_path / "taken").run()
    with pytest.raises(Refusal, match="is no folder and no table"):
        place.run(place.source / "patient0" / "slice000")
    with pytest.raises(Refusal, match=r"models/model.pt does not exist"):
        place.run(settings=replace(place.settings, bundle=tmp_path))
    assert not place.out.exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DicomRefusal, match="no original axial CT series"):
        place.run(tmp_path / "empty")


def test_a_machine_that_does_not_see_the_folders_is_refused(place: Place, tmp_path: Path) -> None:
    for root, out in ((tmp_path / "elsewhere", tmp_path), (tmp_path, tmp_path / "elsewhere")):
        with pytest.raises(ConfigRefusal, match=r"elsewhere is not seen from .*; allowed: SOURCE and OUT"):
            Worker(place.settings, root, out)


def test_an_actor_is_a_worker_that_is_made_when_it_gets_ready(place: Place) -> None:
    place.out.mkdir()
    actor = RemoteWorker(place.settings, place.source, place.out)
    assert actor.prepare().process == os.getpid()
    assert actor.do("look", (place.source / "patient0", None)).series_uids == (f"{UID}.0",)


def test_two_runs_at_once_are_refused(place: Place) -> None:
    place.out.mkdir()
    ledger = Ledger(place.out)
    with pytest.raises(OutputRefusal, match="open in another run"):
        place.run()
    ledger.close()
    (place.out / "ledger.sqlite").write_text("no database" * 100)
    with pytest.raises(OutputRefusal, match="cannot be written"):
        place.run()


def test_a_folder_that_cannot_be_opened_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "patient2":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DicomRefusal, match="patient2: folder is cannot be opened"):
        place.run()
    monkeypatch.undo()
    place.run()
    check_whole(place, ALL, set())


# --- sources that change -------------------------------------------------------------------------------


def test_a_changed_source_is_never_taken_as_done(place: Place) -> None:
    """Size and time of change are as they were."""
    place.run()
    before = contents(place.result(1))
    path = place.source / "patient1" / "slice001"
    state = path.stat()
    path.write_bytes(path.read_bytes()[:-2] + b"\1\0")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    for _ in range(2):
        summary, pool = place.run()
        assert f"{UID}.1" not in denoised(pool)
        assert place.states()["1"] == "refused"
        assert "are others than those that were denoised" in summary.refused[0].reason
        assert contents(place.result(1)) == before
        small(9, prefix="other").write(place.source / "patient1")  # so that the folder is planned again
    shutil.rmtree(place.result(1))
    _, pool = place.run()
    assert f"{UID}.1" in denoised(pool)
    assert place.states()["1"] == "done"
    assert contents(place.result(1)) != before


def test_the_same_bytes_copied_anew_are_done(place: Place, tmp_path: Path) -> None:
    place.run()
    shutil.copytree(place.source / "patient1", tmp_path / "copy")
    shutil.rmtree(place.source / "patient1")
    shutil.copytree(tmp_path / "copy", place.source / "patient1")
    _, pool = place.run()
    assert denoised(pool) == []
    check_whole(place, ALL, set())


def test_what_changes_while_it_is_denoised_is_refused(place: Place) -> None:
    def change(call: Call) -> None:
        if of_series(2)(call):
            path = place.source / "patient2" / "slice000"
            path.write_bytes(path.read_bytes()[:-2] + b"\1\0")

    summary, _ = place.run(before=change)
    check_whole(place, ALL - {2}, {2})
    assert "files that were changed since they were planned" in summary.refused[0].reason
    place.run()
    check_whole(place, ALL, set())


def test_a_late_slice_is_told(place: Place) -> None:
    place.run()
    small(0, slots=[5], prefix="late").write(place.source / "patient0")
    summary, _ = place.run()
    assert place.states()["0"] == "refused"
    assert "others than those that were denoised" in summary.refused[0].reason


def test_results_that_were_removed_are_made_anew(place: Place) -> None:
    place.run()
    shutil.rmtree(place.result(3))
    _, pool = place.run()
    assert denoised(pool) == [f"{UID}.3"]
    assert set(place.states().values()) == {"done"}


def test_series_that_are_gone_are_told_once(place: Place) -> None:
    """One that waited is told; one that had been refused is no more."""
    small(5, rows=15).write(place.source / "narrow")
    with pytest.raises(OutputRefusal):
        place.run(before=lambda call: full_disk(call) if of_series(3)(call) else None)
    assert place.states() == {"0": "done", "1": "done", "2": "done", "3": "waiting", "5": "refused"}
    for name in ("narrow", "patient3"):
        shutil.rmtree(place.source / name)
    summary, _ = place.run()
    assert [one.series_uid for one in summary.refused] == [f"{UID}.3"]
    assert "its files are gone from" in summary.refused[0].reason
    check_whole(place, {0, 1, 2}, {3})
    summary, _ = place.run()
    assert (summary.series, summary.done) == (3, 3)
    small(3).write(place.source / "patient3")
    place.run()
    check_whole(place, ALL, set())


# --- failures that pass --------------------------------------------------------------------------------


def full_disk(call: Call) -> Answer | None:
    """Files of a kilobyte are all that the disk takes: what it holds of a series is removed again."""
    if call.method != "denoise":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        return Answer(call, FullDisk.worker.denoise(*call.arguments))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk:
    """The worker that meets it."""

    worker: Worker


@pytest.fixture(autouse=True)
def worker_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    start = InlinePool.start

    def started(self: InlinePool) -> Any:
        described = start(self)
        FullDisk.worker = self.worker
        return described

    monkeypatch.setattr(InlinePool, "start", started)


def test_a_full_disk_stops_the_run_and_loses_nothing(place: Place) -> None:
    done: list[Call] = []

    def fills_up(call: Call) -> Answer | None:
        if call.method == "denoise":
            done.append(call)
        return full_disk(call) if len(done) > 2 else None

    with pytest.raises(OutputRefusal, match=r"no room for the next series .*File too large.*same command again"):
        place.run(before=fills_up)
    assert sorted(place.states().values()).count("done") == 2
    assert json.loads((place.out / "summary.json").read_text())["run"]["stopped"]
    assert not list(place.out.rglob("*.partial"))
    _, pool = place.run()
    assert len(denoised(pool)) == 2
    check_whole(place, ALL, set())
    assert place.rows("SELECT max(tries) FROM series") == [(1,)], "a full disk is not the fault of a series"


def test_nothing_is_handed_out_that_would_not_fit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(place.source)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=256 * 2**20 + 30_000))
        with pytest.raises(OutputRefusal, match="256 MiB free, 256 of them kept in reserve"):
            place.run()
    assert not list(place.out.rglob("*.dcm"))
    assert not place.rows("SELECT * FROM attempts")
    place.run()
    check_whole(place, ALL, set())


def test_a_poisoned_series_ends_as_refused_and_does_not_hold_up_the_others(place: Place) -> None:
    def die(call: Call) -> Answer | None:
        return Answer(call, failure="the worker died (poison)", died=True) if of_series(0)(call) else None

    summary, pool = place.run(before=die, tries=2)
    check_whole(place, ALL - {0}, {0})
    assert denoised(pool) == [f"{UID}.{number}" for number in (0, 1, 2, 3, 0)]
    assert "given up after 2 tries, the last: worker died: the worker died (poison)" in summary.refused[0].reason
    assert (summary.attempts, summary.failed_attempts, summary.run.deaths) == (5, 2, 2)
    assert denoised(place.run()[1]) == []
    place.run(retry_refused=True)
    check_whole(place, ALL, set())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "no memory: MemoryError"),
        (MemoryRefusal("slices", allowed="few", cure="wait"), "no memory: slices"),
        (ZeroDivisionError("by zero"), "a fault of ours: ZeroDivisionError: by zero"),
    ],
)
def test_what_may_pass_is_tried_again_with_the_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    failures = [error]
    inner = Worker._denoise

    def fail_once(self: Worker, *given: Any) -> Any:
        if failures:
            raise failures.pop()
        return inner(self, *given)

    monkeypatch.setattr(Worker, "_denoise", fail_once)
    told: list[str] = []
    summary, _ = place.run(watch=lambda event: told.append(event.reason) if event.kind == "failed" else None)
    check_whole(place, ALL, set())
    assert summary.failed_attempts == 1
    assert [reason.startswith(kind) for reason in told] == [True]


def test_a_folder_that_ends_workers_is_refused(place: Place) -> None:
    def die(method: str) -> Callable[[Call], Answer | None]:
        def before(call: Call) -> Answer | None:
            folder = call.subject if call.method == "look" else getattr(call.subject, "folders", [None])[0]
            poisoned = call.method == method and folder == place.source / "patient1"
            return Answer(call, failure="died", died=True) if poisoned else None

        return before

    with pytest.raises(Refusal, match="patient1: its files could not be looked at in 3 tries"):
        place.run(before=die("look"))
    summary, _ = place.run(before=die("plan"))
    check_whole(place, ALL - {1}, {1})
    assert "could not be planned in 3 tries (died)" in summary.refused[0].reason


def test_a_worker_that_dies_after_its_work_has_done_it(place: Place) -> None:
    def die_late(call: Call) -> Answer | None:
        if not of_series(1)(call):
            return None
        FullDisk.worker.denoise(*call.arguments)
        return Answer(call, failure="died", died=True)

    _, pool = place.run(before=die_late)
    assert len(denoised(pool)) == 4
    check_whole(place, ALL, set())


def test_what_others_put_at_its_place_is_not_taken_for_a_result(place: Place) -> None:
    place.run()
    taken = place.result(2)
    shutil.rmtree(place.out)
    taken.mkdir(parents=True)
    (taken / "00001.dcm").write_bytes(b"somebody's")
    shutil.move(place.out, place.out.with_name("kept"))
    with pytest.raises(OutputRefusal):
        place.run(before=full_disk)
    shutil.rmtree(place.out / "series")
    shutil.move(place.out.with_name("kept") / "series", place.out / "series")
    summary, _ = place.run()
    assert [one.series_uid for one in summary.refused] == [f"{UID}.2"]
    assert "exists; allowed: a name that is free" in summary.refused[0].reason
    assert (taken / "00001.dcm").read_bytes() == b"somebody's"


# --- a killed driver -----------------------------------------------------------------------------------

MOVES = [(name, when) for name in ("keep_plan", "begin", "end") for when in ("before", "after")]


@pytest.mark.parametrize(("name", "when"), MOVES)
def test_killed_at_a_move_of_the_ledger_nothing_is_lost_and_nothing_is_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    """The second move of its kind, so that something was finished before."""
    move, made = getattr(Ledger, name), []

    def killed(self: Ledger, *given: Any, **more: Any) -> None:
        made.append(given)
        if len(made) == 2 and when == "before":
            os._exit(9)
        move(self, *given, **more)
        if len(made) == 2:
            os._exit(9)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, name, killed)
        assert ends_in_a_fork(place.run) == 9
    there = {path.name for path in (place.out / "series").glob("*/*")}
    _, pool = place.run()
    check_whole(place, ALL, set())
    again = {place.result(int(uid[-1])).name for uid in denoised(pool)}
    assert not there & again, "what has its name is whole, and not done again"
    assert len(there) + len(again) == 4
    assert place.rows("SELECT max(tries) FROM series") == [(1,)], "the end of a run is not the fault of a series"


def test_killed_while_a_series_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from iscl_monai.dicom.write import SeriesWriter

    write, written = SeriesWriter.write, []

    def killed(self: SeriesWriter, *given: Any) -> Path:
        written.append(given)
        if len(written) == 4:
            os._exit(9)
        return write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(SeriesWriter, "write", killed)
        assert ends_in_a_fork(place.run) == 9
    assert list(place.out.rglob("*.partial"))
    _, pool = place.run()
    assert len(denoised(pool)) == 3
    check_whole(place, ALL, set())


# --- what is told --------------------------------------------------------------------------------------


def test_page_and_numbers_say_the_same(place: Place) -> None:
    small(5, rows=15, description="<b>narrow</b>").write(place.source / "narrow")
    summary, _ = place.run()
    content = json.loads((place.out / "summary.json").read_text())
    page = (place.out / "index.html").read_text()
    assert content["numbers"] == dict(summary.rows())
    for name, value in summary.rows():
        assert f'<th scope="row">{name}</th><td>{value}</td>' in page
    assert content["series"] == content["done"] + len(content["refused"]) == 5
    assert "Rows is 15" in page
    assert content["settings"]["weights sha256"] in page
    assert "<b>narrow" not in page
