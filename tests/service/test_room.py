"""A job is taken when there is room for what it makes; one without room holds up no other, and is not forgotten."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dicom.synthetic import setting
from service.hostile import EXPLICIT, bomb, frames
from service.rows import Place, rows_of, scan
from service.test_work import settle
from service.web.plant import Plant
from service.web.test_web_probes import numbers
from sqlalchemy import select

from iscl_monai.errors import OutputRefusal, StoreUnavailable
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.service.database.states import NO_ROOM_TRIES
from iscl_monai.service.database.tables import instances, jobs
from iscl_monai.service.receiving.decoded_size import decoded_bytes
from iscl_monai.service.working import queue
from iscl_monai.service.working.claim import OLDEST_EVERY, Claims
from iscl_monai.service.working.work import Work

MB = 2**20


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def with_jobs(place: Place, folder: Path, *needed_mb: int) -> None:
    """One job for each, which needs so much."""
    for number, _ in enumerate(needed_mb):
        place.take(scan(folder / str(number), 1))
    settle(place)
    with place.store.writing() as change:
        for number, needed in enumerate(needed_mb, start=1):
            change.execute(jobs.update().where(jobs.c.id == number).values(needed_bytes=needed * MB))


def free(monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    usual = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual._replace(free=int(megabytes * MB)))


def row(place: Place, number: int = 1) -> dict[str, Any]:
    return rows_of(place.store, select(jobs).where(jobs.c.id == number))[0]


def taken(claims: Claims) -> int | None:
    job = claims.next_job()
    return job.id if job else None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 512 * 512 * 2),
        ({"NumberOfFrames": "300"}, 512 * 512 * 2 * 300),
        ({"SamplesPerPixel": "3", "BitsAllocated": "8"}, 512 * 512 * 3),
        ({"BitsAllocated": "12"}, 512 * 512 * 2),
        ({"Columns": ""}, 0),
        ({"Columns": "many"}, 0),
        ({"NumberOfFrames": "-1"}, 0),
        ({"NumberOfFrames": "9" * 40}, 2**62),
    ],
)
def test_pixels_are_as_large_as_their_tags_say(changed: dict[str, str], expected: int) -> None:
    shape = {"Rows": "512", "Columns": "512", "BitsAllocated": "16", "SamplesPerPixel": "1", "NumberOfFrames": ""}
    assert decoded_bytes({**shape, **changed}, "1.2.840.10008.1.2.4.90", 2**60) == expected


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"]
)
def test_room_is_reckoned_from_what_is_not_compressed(syntax: str, place: Place, tmp_path: Path) -> None:
    """An empty image of 512x512 is some hundred bytes when it is compressed; what is made of it is not."""

    def empty(dataset: Any, _: int) -> None:
        dataset.PixelData = bytes(2 * 512 * 512)
        if syntax != EXPLICIT:
            dataset.compress(syntax) if not syntax.endswith("99") else None

    files = scan(tmp_path / "s", 2, rows=512, columns=512, change=empty)
    if syntax.endswith("99"):
        for file in files:
            import pydicom

            dataset = pydicom.dcmread(file)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.save_as(file, enforce_file_format=True)
    place.take(files)
    settle(place)
    sizes = rows_of(place.store, select(instances.c.size))
    assert sum(size["size"] for size in sizes) < MB // 4
    assert row(place)["needed_bytes"] == 2 * 2 * 512 * 512


@pytest.mark.parametrize(
    ("syntax", "times"),
    [("1.2.840.10008.1.2.1", 1), ("1.2.840.10008.1.2.4.90", 4096), ("1.2.840.10008.1.2.1.99", 4096)],
)
def test_tags_are_believed_as_far_as_the_file_allows(syntax: str, times: int) -> None:
    """Else a file of some bytes would wait for room that no disk has, and call a person."""
    shape = {
        "Rows": "65535",
        "Columns": "65535",
        "BitsAllocated": "16",
        "SamplesPerPixel": "",
        "NumberOfFrames": "9999",
    }
    assert decoded_bytes(shape, syntax, 1000) == 1000 * times


def test_a_job_that_exists_since_before_is_reckoned_by_its_files(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s", 2))
    with place.store.writing() as change:
        change.execute(instances.update().values(decoded_bytes=0))
    settle(place)
    assert row(place)["needed_bytes"] == sum(size["size"] for size in rows_of(place.store, select(instances.c.size)))


def test_a_job_without_room_holds_up_no_smaller_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_jobs(place, tmp_path, 5000, 5000, 1, 20)
    free(monkeypatch, 10)
    claims = Claims(place.store, place.space, place.clock)
    assert [taken(claims), taken(claims)] == [3, None]
    assert [row(place, number)["reason"].startswith("waits for room") for number in (1, 2, 4)] == [True] * 3
    free(monkeypatch, 6000)
    place.clock.now += 5
    assert [taken(claims), taken(claims)] == [1, 4], "the second has no room beside the first"
    assert row(place, 2)["state"] == "queued"


def test_what_a_running_job_will_write_is_not_given_to_another(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_jobs(place, tmp_path, 6, 6)
    free(monkeypatch, 10)
    claims = Claims(place.store, place.space, place.clock)
    assert [taken(claims), taken(claims)] == [1, None]
    folder = place.store.data / "jobs" / "1" / row(place)["claim"] / "derived"
    folder.mkdir(parents=True)
    (folder / "1.dcm").write_bytes(bytes(5 * MB))
    place.clock.now += 5
    assert taken(claims) == 2, "what it has written is counted once"


def test_a_job_without_room_waits_longer_each_time_and_then_needs_a_person(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_jobs(place, tmp_path, 50)
    free(monkeypatch, 10)
    claims = Claims(place.store, place.space, place.clock)
    tries = []
    for second in range(3000):
        place.clock.now = 1000.0 + second
        before = row(place)["room_tries"]
        if claims.backoff.is_due(1):
            claims.next_job()
        if row(place)["room_tries"] > before:
            tries.append(second)
        if len(tries) == NO_ROOM_TRIES:
            break
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == [5, 10, 20, 40, 80, 160, 300]
    assert row(place)["state"] == "queued", "it is not lost"
    assert "tried 8 times: make room" in row(place)["reason"]
    free(monkeypatch, 100)
    place.clock.now += 300
    assert taken(claims) == 1, "and goes on by itself when there is room"


@pytest.mark.parametrize(
    "refusal",
    [
        OutputRefusal("no space left", allowed="room", cure="make room"),
        StoreUnavailable("database or disk is full", allowed="room", cure="make room"),
    ],
)
def test_a_full_disk_puts_a_job_off_longer_each_time_and_never_fails_it(
    refusal: Exception, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_jobs(place, tmp_path, 1, 1)

    def full(*_: Any, **__: Any) -> Any:
        raise refusal

    monkeypatch.setattr(Work, "_run", full)
    runs = Work(
        place.store,
        place.space,
        lambda *_: None,  # type: ignore[arg-type, return-value]
        threads=1,
        stopping=lambda: False,
        training=TrainingRecord(),
    )
    runs.claims.backoff.clock = place.clock
    ran = []
    for _ in range(NO_ROOM_TRIES):
        for _ in range(3):
            runs.run_next()
        ran.append([row(place, number)["room_tries"] for number in (1, 2)])
        place.clock.now += 300
    assert ran == [[number, number] for number in range(1, NO_ROOM_TRIES + 1)], "one holds up no other"
    assert [row(place, number)["state"] for number in (1, 2)] == ["queued"] * 2
    assert row(place)["attempts"] == 0


def test_a_stream_of_urgent_series_starves_no_other(place: Place, tmp_path: Path) -> None:
    with_jobs(place, tmp_path, *[1] * 9)
    with place.store.writing() as change:
        change.execute(jobs.update().where(jobs.c.id > 1).values(priority=0))
        change.execute(jobs.update().where(jobs.c.id == 1).values(priority=2))
    claims = Claims(place.store, place.space, place.clock)
    order = [taken(claims) for _ in range(OLDEST_EVERY)]
    assert order == [2, 3, 4, 1]


def test_a_job_whose_row_cannot_be_read_fails_and_holds_up_no_other(place: Place, tmp_path: Path) -> None:
    with_jobs(place, tmp_path, 1, 1)
    with place.store.writing() as change:
        change.connection.exec_driver_sql("UPDATE jobs SET send_to = '{' WHERE id = 1")
    assert taken(Claims(place.store, place.space)) == 2
    assert place.store.values(select(jobs.c.state).where(jobs.c.id == 1)) == ["failed"]


@pytest.mark.parametrize("make", [lambda: bomb(64), lambda: frames("1000000000")])
def test_whatever_an_object_says_of_its_size_holds_up_no_other(make: Any, place: Place, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.dcm"
    hostile.write_bytes(make())
    place.take([hostile])
    place.take(scan(tmp_path / "s", 1, change=setting(Modality="CT")))
    settle(place)
    found = place.store.values(select(jobs.c.id))
    claims = Claims(place.store, place.space, place.clock)
    assert [taken(claims) for _ in found] == found, "each is looked at, and refused by the worker if need be"


def test_a_retry_begins_to_count_anew(place: Place, tmp_path: Path) -> None:
    with_jobs(place, tmp_path, 1)
    with place.store.writing() as change:
        change.move(jobs, 1, "running", room_tries=7)
        change.move(jobs, 1, "failed")
        queue.retry(change, 1, "anna")
    assert row(place)["room_tries"] == 0


def test_pages_and_metrics_show_a_job_that_somebody_has_to_make_room_for(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.add_people()
    job = plant.settled(plant.synthetic())
    for tries, shown in ((NO_ROOM_TRIES - 1, False), (NO_ROOM_TRIES, True)):
        with plant.store.writing() as change:
            change.execute(jobs.update().where(jobs.c.id == job).values(room_tries=tries, reason="waits for room"))
        page = plant.client("viewer").get("/?show=attention").text
        assert ("waits for room" in page) == shown
        assert numbers(plant)["iscl_jobs_without_room",] == shown
