"""A job is taken, run, and handed over; or given back, with a reason, and nothing half made stays."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom.synthetic import only, setting
from service.rows import Place, new_uid, rows_of, scan
from sqlalchemy import select

from iscl_monai.errors import MemoryRefusal, OutputRefusal, StoreUnavailable
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.service.database.tables import deliveries, instances, jobs
from iscl_monai.service.working import queue, resume, work
from iscl_monai.service.working import result as result_module
from iscl_monai.service.working.claim import Claims
from iscl_monai.service.working.completion import Completion
from iscl_monai.service.working.work import Work


@pytest.fixture(scope="module")
def denoiser(bundle: Path) -> Denoiser:
    return Denoiser.from_bundle(bundle, device="cpu")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def settle(place: Place) -> None:
    place.clock.now += 1000
    completion = Completion(place.settings, place.store, place.arrivals, on_queued=lambda: None)
    completion.step()
    place.clock.now += 1000
    completion.step()


def working(place: Place, denoiser: Denoiser, *, stopping: Any = lambda: False, noise: Any = None) -> Work:
    return Work(
        place.store,
        place.space,
        lambda strength, device: denoiser.at_strength(strength),
        threads=1,
        stopping=stopping,
        training=TrainingRecord(noise=noise or {}),
    )


def job(place: Place, number: int = 1) -> dict[str, Any]:
    (row,) = rows_of(place.store, select(jobs).where(jobs.c.id == number))
    return dict(row)


def left(place: Place) -> list[str]:
    """Folders of attempts, with or without a row."""
    return sorted(str(path.relative_to(place.store.data)) for path in place.store.data.glob("jobs/*/*"))


def test_a_job_becomes_one_delivery_for_each_object(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    files = scan(tmp_path / "s")
    place.take(files)
    settle(place)
    assert working(place, denoiser).run_next()
    row = job(place)
    assert row["state"] == "sending"
    assert row["result"]["slices"] == 3
    assert row["result"]["weights_digest"] == denoiser.identity.weights_digest
    rows = rows_of(place.store, select(deliveries))
    assert [one["state"] for one in rows] == ["waiting"] * 3
    derived = [pydicom.dcmread(place.store.data / one["file"]) for one in rows]
    assert {one.SOPInstanceUID for one in derived} == {one["sop_instance_uid"] for one in rows}
    sources = {one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in derived}
    assert sources == {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert left(place) == [str(Path(row["folder"]).parent)]
    assert not working(place, denoiser).run_next()


HOLDING = [{"name": "all", "send_to": ["pacs"], "quiet_s": 10, "hold_unlike": True}]
SENDING = [{**HOLDING[0], "hold_unlike": False}]
FINENESS = {"fineness": [0.01, 0.7]}
LOUDER, LIKE = {"noise": [1.0, 2.0], **FINENESS}, {"noise": [1.0, 200.0], **FINENESS}


def noisy(background_hu: int, noise_hu: float = 20.0) -> Any:
    """Every slice is noise around one value."""

    def change(dataset: pydicom.Dataset, index: int) -> None:
        noise = noise_hu * np.random.default_rng(index).standard_normal((64, 64))
        dataset.PixelData = (1024 + background_hu + noise).astype(np.uint16).tobytes()

    return change


@pytest.mark.parametrize(
    ("rules", "noise", "background_hu", "state", "reason"),
    [
        (HOLDING, LOUDER, 40, "held", "held: unlike the training: noise of"),
        (HOLDING, LIKE, 40, "sending", ""),
        (HOLDING, LIKE, -800, "held", "held: its noise cannot be measured, so nobody knows whether it is like"),
        (HOLDING, None, 40, "held", "held: the weights do not say"),
        (HOLDING, FINENESS, 40, "held", "held: the weights do not say"),
        (HOLDING, {"noise": LIKE["noise"]}, 40, "held", "held: the weights do not say"),
        (SENDING, LOUDER, 40, "sending", ""),
        (SENDING, LIKE, -800, "sending", ""),
        (SENDING, None, 40, "sending", ""),
    ],
)
def test_what_is_unlike_the_training_is_held_if_the_rule_wants_that(
    rules: Any, noise: Any, background_hu: int, state: str, reason: str, denoiser: Denoiser, tmp_path: Path
) -> None:
    place = Place(tmp_path / "data", rules=rules)
    place.take(scan(tmp_path / "s", rows=64, columns=64, change=noisy(background_hu)))
    settle(place)
    assert working(place, denoiser, noise=noise).run_next()
    row = job(place)
    assert row["state"] == state
    assert row["reason"].startswith(reason)
    assert bool(row["reason"]) == bool(reason)
    made = rows_of(place.store, select(deliveries))
    assert [one["state"] for one in made] == ["waiting"] * 3, "held or not, it is all there"
    said = [pydicom.dcmread(place.store.data / one["file"]).DerivationDescription for one in made]
    unlike = noise == LOUDER
    assert ["Unlike the training: noise" in text for text in said] == [unlike] * 3, "held or not, images say it"
    assert bool(row["result"]["unfamiliar"]) == unlike
    resume.recover_jobs(place.store, 1)
    resume.clear_job_folders(place.store)
    assert job(place)["state"] == state, "a start after a crash changes nothing about it"
    assert all((place.store.data / one["file"]).is_file() for one in made)


def test_late_slices_get_the_time_and_series_of_the_first(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    uids = (new_uid(), new_uid())
    place.take(scan(tmp_path / "a", uids=uids))
    settle(place)
    working(place, denoiser).run_next()
    before = {row["sop_instance_uid"]: content(place, row) for row in rows_of(place.store, select(deliveries))}
    place.take(scan(tmp_path / "b", 2, first=3, uids=uids))
    settle(place)
    working(place, denoiser).run_next()
    after = rows_of(place.store, select(deliveries).where(deliveries.c.job_id == 2))
    made = {row["sop_instance_uid"]: content(place, row) for row in after}
    assert len(made) == 5
    assert {uid: made[uid] for uid in before} == before, "the same work gives the same bytes"
    headers = [pydicom.dcmread(place.store.data / row["file"]) for row in after]
    assert len({one.SeriesInstanceUID for one in headers}) == 1
    assert len({one.SeriesTime for one in headers}) == 1


def content(place: Place, row: Any) -> bytes:
    return (place.store.data / row["file"]).read_bytes()


def test_another_strength_is_another_series(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    working(place, denoiser).run_next()
    (full,) = {row["series_uid"] for row in rows_of(place.store, select(deliveries))}
    with place.store.writing() as change:
        change.execute(jobs.update().values(strength="0.5"))
        change.move(jobs, 1, "failed", folder=None)
        queue.retry(change, 1, "anna")
    working(place, denoiser).run_next()
    (half,) = {row["series_uid"] for row in rows_of(place.store, select(deliveries))}
    assert half != full


def test_a_refused_series_says_why_and_leaves_nothing(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s", change=setting(RescaleSlope=None)))
    settle(place)
    assert working(place, denoiser).run_next()
    row = job(place)
    assert row["state"] == "refused"
    assert "RescaleSlope" in row["reason"]
    assert str(place.store.data) not in row["reason"], "a name that nobody else knows"
    assert any(f"object {one['sop_instance_uid']}" in row["reason"] for one in rows_of(place.store, select(instances)))
    assert left(place) == []


def test_a_reason_never_tells_who_the_patient_is(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s", change=only(1, setting(PatientID="SECRET^NAME"))))
    settle(place)
    working(place, denoiser).run_next()
    row = job(place)
    assert row["state"] == "refused"
    assert row["reason"].startswith("PatientID differs")
    assert "SECRET" not in row["reason"]
    assert b"SECRET" not in (place.store.data / "node.sqlite").read_bytes()
    assert b"SECRET" not in (place.store.data / "node.sqlite-wal").read_bytes()


def test_the_most_urgent_and_oldest_comes_first(place: Place, tmp_path: Path) -> None:
    for number in range(3):
        place.take(scan(tmp_path / f"s{number}", 1))
    settle(place)
    with place.store.writing() as change:
        change.execute(jobs.update().where(jobs.c.id == 3).values(priority=0))
    claims = Claims(place.store, place.space)
    taken = [claims.next_job() for _ in range(4)]
    assert [row and row.id for row in taken] == [3, 1, 2, None]


def test_cancelled_while_it_runs(place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(result_module, "CHECKS_EVERY_S", -1.0)
    place.take(scan(tmp_path / "s"))
    settle(place)
    changed = denoiser.change_hu

    def cancelling(slice_hu: Any) -> Any:
        with place.store.writing() as change:
            if change.execute(select(jobs.c.state)).scalar() == "running":
                queue.cancel(change, 1, "anna")
        return changed(slice_hu)

    monkeypatch.setattr(Denoiser, "change_hu", lambda self, slice_hu: cancelling(slice_hu))
    assert working(place, denoiser).run_next()
    assert job(place)["state"] == "cancelled"
    assert left(place) == []
    assert rows_of(place.store, select(deliveries)) == []


def test_a_stop_gives_the_job_back_and_does_not_count(
    place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(result_module, "CHECKS_EVERY_S", -1.0)
    place.take(scan(tmp_path / "s"))
    settle(place)
    working(place, denoiser, stopping=lambda: True).run_next()
    row = job(place)
    assert (row["state"], row["attempts"], row["reason"]) == ("queued", 0, "the node was stopped")
    assert left(place) == []


def test_a_worker_that_was_given_up_cannot_finish(
    place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any
) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)

    def meanwhile(*_: Any) -> Any:
        resume.recover_jobs(place.store, 3)
        assert Claims(place.store, place.space).next_job()
        return real(*_)

    real = work.result_of
    monkeypatch.setattr(work, "result_of", meanwhile)
    working(place, denoiser).run_next()
    assert job(place)["state"] == "running"
    assert rows_of(place.store, select(deliveries)) == []


def test_too_little_gpu_memory_falls_back_to_the_cpu_and_says_so(
    place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any
) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    asked: list[str] = []

    class Small:
        identity, parameters = denoiser.identity, denoiser.parameters
        device = type("Device", (), {"type": "cuda"})()

        def change_hu(self, slice_hu: Any) -> Any:
            raise MemoryRefusal("a slice", allowed="less", cure="the CPU")

    def for_job(strength: float, device: str) -> Any:
        asked.append(device)
        return denoiser if device == "cpu" else Small()

    runs = Work(place.store, place.space, for_job, threads=1, stopping=lambda: False, training=TrainingRecord())
    runs.run_next()
    row = job(place)
    assert (row["state"], row["device"]) == ("queued", "cpu")
    runs.run_next()
    row = job(place)
    assert (row["state"], row["device"]) == ("sending", "cpu")
    assert "GPU had too little memory" in row["note"]
    assert asked[-1] == "cpu"


def test_a_full_disk_gives_the_job_back(place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)

    def full(*_: Any, **__: Any) -> Any:
        raise OutputRefusal("out cannot be written (No space left on device)", allowed="room", cure="make room")

    monkeypatch.setattr(work, "denoise_series", full)
    assert not working(place, denoiser).run_next()
    row = job(place)
    assert (row["state"], row["attempts"]) == ("queued", 0)
    assert "No space left" in row["reason"]
    monkeypatch.undo()
    assert working(place, denoiser).run_next()
    assert job(place)["state"] == "sending"


def test_a_database_that_cannot_be_written_when_the_work_is_done_leaves_no_job_running(
    place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any
) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    real, full = place.store.writing, [False]

    @contextmanager
    def writing() -> Any:
        if full[0]:
            raise StoreUnavailable("node.sqlite: disk is full", allowed="room", cure="make room")
        with real() as change:
            yield change

    def last(*arguments: Any) -> Any:
        full[0] = True
        return counted(*arguments)

    counted = work.result_of
    monkeypatch.setattr(place.store, "writing", writing)
    monkeypatch.setattr(work, "result_of", last)
    runs = working(place, denoiser)
    runs.claims = Claims(place.store, place.space, place.clock)
    assert not runs.run_next()
    assert job(place)["state"] == "running", "nobody could write otherwise"
    with pytest.raises(StoreUnavailable):
        runs.run_next()
    full[0] = False
    monkeypatch.setattr(work, "result_of", counted)
    assert not runs.run_next(), "it is put off for a while"
    place.clock.now += 5
    assert runs.run_next()
    assert (job(place)["state"], job(place)["attempts"]) == ("sending", 1)


def test_a_job_waits_for_room(place: Place, tmp_path: Path, monkeypatch: Any) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    usual = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=2**18))
    claims = Claims(place.store, place.space, place.clock)
    assert claims.next_job() is None
    assert job(place)["reason"].startswith("waits for room")
    monkeypatch.undo()
    place.clock.now += 5
    assert claims.next_job()
    assert job(place)["reason"] == ""


def test_a_fault_of_ours_is_failed_with_its_name_only(
    place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any
) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)

    def fault(*_: Any, **__: Any) -> Any:
        raise KeyError("Doe^John")

    monkeypatch.setattr(work, "denoise_series", fault)
    working(place, denoiser).run_next()
    row = job(place)
    assert row["state"] == "failed"
    assert "KeyError" in row["reason"]
    assert "Doe" not in row["reason"]


def test_a_slice_that_gets_lost_is_a_fault(place: Place, denoiser: Denoiser, tmp_path: Path, monkeypatch: Any) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    real = work.denoise_series

    def losing(source: Path, destination: Path, **more: Any) -> Any:
        outcome = real(source, destination, **more)
        next(destination.rglob("*.dcm")).unlink()
        return outcome

    monkeypatch.setattr(work, "denoise_series", losing)
    working(place, denoiser).run_next()
    assert job(place)["state"] == "failed"
    assert rows_of(place.store, select(deliveries)) == []


def test_sources_removed_meanwhile_are_refused(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settle(place)
    with place.store.writing() as change:
        change.execute(instances.update().values(file=None))
    working(place, denoiser).run_next()
    assert "removed by retention" in job(place)["reason"]


def test_what_interrupted_jobs_left_is_removed_and_nothing_else(
    place: Place, denoiser: Denoiser, tmp_path: Path
) -> None:
    for number in range(2):
        place.take(scan(tmp_path / f"s{number}"))
    settle(place)
    working(place, denoiser).run_next()
    kept = left(place)
    taken = Claims(place.store, place.space).next_job()
    assert taken
    (place.store.data / "jobs" / "2" / taken.claim / "source").mkdir(parents=True)
    assert resume.recover_jobs(place.store, 3) == 1
    assert resume.clear_job_folders(place.store) == 1
    assert left(place) == kept
    assert (job(place, 2)["state"], job(place, 2)["attempts"]) == ("queued", 1)
