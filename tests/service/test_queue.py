"""What becomes of a complete series, and what a person may do about a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom.synthetic import setting
from service.rows import Place, new_uid, rows_of, scan
from sqlalchemy import select

from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.database.tables import audit, deliveries, job_sources, jobs, series
from iscl_monai.service.working import queue
from iscl_monai.service.working.completion import Completion


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def settled(place: Place, wait_s: float = 10.0) -> list[Any]:
    completion = Completion(place.settings, place.store, place.arrivals, on_queued=lambda: None)
    place.clock.now += wait_s
    completion.step()
    return rows_of(place.store, select(jobs).order_by(jobs.c.id))


def test_a_series_is_complete_after_its_quiet_time_and_not_before(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    assert settled(place, 9.9) == []
    (job,) = settled(place, 0.1)
    assert (job["state"], job["rule"], job["send_to"]) == ("queued", "all", ["pacs"])
    assert len(rows_of(place.store, select(job_sources))) == 3
    assert settled(place, 1000) == [job]


def test_every_slice_begins_the_quiet_time_anew(place: Place, tmp_path: Path) -> None:
    for file in scan(tmp_path / "s"):
        place.take([file])
        assert settled(place, 9) == []
    assert len(settled(place, 1)) == 1


def test_after_a_start_the_whole_quiet_time_is_waited_again(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    place.clock.now += 1000
    again = Place(tmp_path / "data")
    assert settled(again, 0) == []
    assert len(settled(again, 10)) == 1


def test_late_slices_make_a_job_of_all_and_supersede_the_first(place: Place, tmp_path: Path) -> None:
    uids = (new_uid(), new_uid())
    place.take(scan(tmp_path / "a", uids=uids))
    settled(place)
    place.take(scan(tmp_path / "b", 2, first=3, uids=uids))
    first, second = settled(place)
    assert (first["state"], second["state"]) == ("superseded", "queued")
    sources = rows_of(place.store, select(job_sources).where(job_sources.c.job_id == second["id"]))
    assert len(sources) == 5


def test_duplicates_reopen_nothing(place: Place, tmp_path: Path) -> None:
    files = scan(tmp_path / "s")
    place.take(files)
    settled(place)
    assert place.take(files, sender="OTHER") == ["duplicate"] * 3
    assert len(settled(place, 100)) == 1


def test_what_no_rule_fits_is_left_with_the_reason(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "d", change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])))
    place.take(scan(tmp_path / "m", change=setting(Modality="OT")))
    assert settled(place, 60) == []
    reasons = {row["reason"] for row in rows_of(place.store, select(series))}
    assert reasons == {"rule derived leaves it alone", "no rule fits"}


def test_late_slices_that_no_rule_fits_are_told_and_stop_the_job_before(place: Place, tmp_path: Path) -> None:
    uids = (new_uid(), new_uid())
    place.take(scan(tmp_path / "a", uids=uids))
    settled(place)
    place.settings = place.settings.model_copy(update={"rules": place.settings.rules[:1]})
    place.take(scan(tmp_path / "b", 1, first=3, uids=uids))
    (job,) = settled(place, 60)
    assert (job["state"], job["reason"]) == ("superseded", "no rule fits")
    assert [row["reason"] for row in rows_of(place.store, select(series))] == ["no rule fits"]


def test_somebody_may_name_the_rule(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "m", change=setting(Modality="OT")))
    settled(place, 60)
    with place.store.writing() as change:
        queue.process_again(change, 1, "all", "anna")
    (job,) = settled(place)
    assert job["rule"] == "all"
    (line,) = rows_of(place.store, select(audit))
    assert (line["who"], line["action"], line["detail"]) == ("anna", "process", "all")


def test_a_series_that_is_still_coming_in_cannot_be_asked_for(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    with pytest.raises(NotAllowedNow), place.store.writing() as change:
        queue.process_again(change, 1, None, "anna")


@pytest.mark.parametrize("state", ["failed", "refused", "cancelled"])
def test_retry_from_the_start(state: str, place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settled(place)
    with place.store.writing() as change:
        change.move(jobs, 1, "running", attempts=3)
        change.move(jobs, 1, state, reason="because")
    with place.store.writing() as change:
        queue.retry(change, 1, "anna")
    (job,) = rows_of(place.store, select(jobs))
    assert (job["state"], job["attempts"], job["reason"]) == ("queued", 0, "")


def test_retry_of_a_failed_delivery_does_not_denoise_again(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settled(place)
    with place.store.writing() as change:
        change.move(jobs, 1, "running")
        change.move(jobs, 1, "sending", folder="jobs/1/x/derived")
        for number, state in enumerate(("confirmed", "failed")):
            uid = f"2.25.{number}"
            named = {"sop_instance_uid": uid, "sop_class_uid": "1.2", "series_uid": "1.3", "study_uid": "1.4"}
            change.add(
                deliveries, job_id=1, destination="pacs", file="f", state=state, attempts=5, updated_at="", **named
            )
        change.move(jobs, 1, "failed")
    with place.store.writing() as change:
        queue.retry(change, 1, "anna")
    assert rows_of(place.store, select(jobs.c.state)) == [{"state": "sending"}]
    assert [row["state"] for row in rows_of(place.store, select(deliveries))] == ["confirmed", "waiting"]


def test_one_destination_failed_while_another_is_still_tried(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settled(place)
    with place.store.writing() as change:
        change.move(jobs, 1, "running")
        change.move(jobs, 1, "sending", folder="jobs/1/x/derived")
        named = {"sop_instance_uid": "2.25.1", "sop_class_uid": "1.2", "series_uid": "1.3", "study_uid": "1.4"}
        for destination, state in (("pacs", "failed"), ("archive", "waiting")):
            change.add(deliveries, job_id=1, destination=destination, file="f", state=state, updated_at="", **named)
    with place.store.writing() as change:
        queue.retry(change, 1, "anna")
    assert {row["state"] for row in rows_of(place.store, select(deliveries))} == {"waiting"}
    with pytest.raises(NotAllowedNow, match="sending"), place.store.writing() as change:
        queue.retry(change, 1, "anna")


@pytest.mark.parametrize("state", ["queued", "running", "absent"])
def test_what_goes_on_cannot_be_retried(state: str, place: Place, tmp_path: Path) -> None:
    if state != "absent":
        place.take(scan(tmp_path / "s"))
        settled(place)
    if state == "running":
        with place.store.writing() as change:
            change.move(jobs, 1, "running")
    with pytest.raises(NotAllowedNow, match=state), place.store.writing() as change:
        queue.retry(change, 1, "anna")


def held(place: Place, folder: Path) -> None:
    place.take(scan(folder))
    settled(place)
    with place.store.writing() as change:
        change.move(jobs, 1, "running")
        change.move(jobs, 1, "held", reason="held: unlike the training: loud", folder="jobs/1/x/derived")


def test_what_is_held_is_sent_when_it_is_released_and_the_reason_stays(place: Place, tmp_path: Path) -> None:
    held(place, tmp_path / "s")
    with place.store.writing() as change:
        queue.release(change, 1, "anna")
    (row,) = rows_of(place.store, select(jobs))
    assert (row["state"], row["reason"]) == ("sending", "")
    assert row["note"] == "held: unlike the training: loud; released by anna"
    (line,) = rows_of(place.store, select(audit))
    assert (line["who"], line["action"], line["object"]) == ("anna", "release", "job 1")
    with pytest.raises(NotAllowedNow, match="sending"), place.store.writing() as change:
        queue.release(change, 1, "anna")
    with pytest.raises(NotAllowedNow, match="absent"), place.store.writing() as change:
        queue.release(change, 2, "anna")


def test_what_is_held_goes_to_nobody_by_a_retry(place: Place, tmp_path: Path) -> None:
    held(place, tmp_path / "s")
    with pytest.raises(NotAllowedNow, match="held"), place.store.writing() as change:
        queue.retry(change, 1, "anna")
    with place.store.writing() as change:
        queue.cancel(change, 1, "anna")
        queue.retry(change, 1, "anna")
    assert rows_of(place.store, select(jobs.c.state)) == [{"state": "queued"}], "it is judged again"


CAREFUL_AND_FREE = [
    {"name": "careful", "when": {"Modality": "CT"}, "send_to": ["pacs"], "quiet_s": 10, "hold_unlike": True},
    {"name": "free", "when": {"Modality": "OT"}, "send_to": ["pacs"], "quiet_s": 10},
]


def ended(place: Place, state: str) -> None:
    """The first job, which was to be held, has come so far."""
    ways = {"queued": (), "held": ("running", "held"), "cancelled": ("running", "held", "cancelled")}
    with place.store.writing() as change:
        for step in ways[state]:
            change.move(jobs, 1, step)


@pytest.mark.parametrize("state", ["queued", "held", "cancelled"])
def test_nobody_evades_a_hold_by_processing_again(state: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "data", rules=CAREFUL_AND_FREE)
    uids = (new_uid(), new_uid())
    place.take(scan(tmp_path / "a", uids=uids))
    settled(place)
    ended(place, state)
    with place.store.writing() as change:
        queue.process_again(change, 1, "free", "otto")
    first, second = settled(place)
    assert (first["state"], first["reason"]) == ("superseded", "processed again by rule free")
    assert (second["rule"], second["hold_unlike"], second["state"]) == ("free", 1, "queued")
    assert second["note"] == "to be held if unlike the training, as an earlier job was"
    with place.store.writing() as change:
        queue.process_again(change, 1, "free", "otto")
    assert [job["hold_unlike"] for job in settled(place)] == [1, 1, 1], "twice is no way either"
    place.take(scan(tmp_path / "b", 2, first=3, uids=uids))
    *_, third, late = settled(place)
    assert (late["rule"], late["hold_unlike"]) == ("free", 1)
    assert (third["state"], third["reason"]) == ("superseded", "more objects of the series came")


def test_a_series_without_a_hold_gets_that_of_its_rule(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", rules=CAREFUL_AND_FREE)
    place.take(scan(tmp_path / "s", change=setting(Modality="OT")))
    assert [(job["rule"], job["hold_unlike"]) for job in settled(place)] == [("free", 0)]
    with place.store.writing() as change:
        queue.process_again(change, 1, None, "otto")
    assert [(job["hold_unlike"], job["note"]) for job in settled(place)] == [(0, "")] * 2
    with place.store.writing() as change:
        queue.process_again(change, 1, "careful", "otto")
    assert [(job["hold_unlike"], job["note"]) for job in settled(place)] == [(0, ""), (0, ""), (1, "")]


def test_a_refused_job_can_be_put_away(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settled(place)
    with place.store.writing() as change:
        change.move(jobs, 1, "running")
        change.move(jobs, 1, "refused")
    with place.store.writing() as change:
        queue.cancel(change, 1, "anna")
    assert rows_of(place.store, select(jobs.c.state)) == [{"state": "cancelled"}]


def test_a_cancelled_job_can_be_retried_and_a_done_one_not_cancelled(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    settled(place)
    with place.store.writing() as change:
        queue.cancel(change, 1, "anna")
    with place.store.writing() as change:
        queue.retry(change, 1, "anna")
    with place.store.writing() as change:
        for state in ("running", "sending", "done"):
            change.move(jobs, 1, state)
    with pytest.raises(NotAllowedNow), place.store.writing() as change:
        queue.cancel(change, 1, "anna")
