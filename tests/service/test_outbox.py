"""The bookkeeping of deliveries: no way through it loses an object, sends one twice or calls an open job done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.peers import House, Job, peer
from service.rows import rows_of
from sqlalchemy import select, update

from iscl_monai.service.database.rows import DeliveryRow
from iscl_monai.service.database.states import OPEN_DELIVERIES
from iscl_monai.service.database.store import Change
from iscl_monai.service.database.tables import deliveries, jobs
from iscl_monai.service.sending import outbox
from iscl_monai.service.working.queue import supersede

LIMIT = 3


@pytest.fixture
def home(tmp_path: Path) -> House:
    return House(tmp_path / "data", peer("pacs"), peer("archive", 105))


def states(job: Job, to: str = "pacs") -> list[str]:
    return [row["state"] for row in job.rows() if row["destination"] == to]


def deliver(home: House, job: Job, to: str = "pacs") -> None:
    """As if everything of a job had arrived and been proven."""
    with home.store.writing() as change:
        for row in job.rows():
            if row["destination"] == to:
                change.move(deliveries, row["id"], "sent")
                outbox.confirm(change, [row["id"]], "QIDO-RS")


def test_every_object_is_enlisted_for_every_destination(home: House) -> None:
    job = home.job(3, ("pacs", "archive"))
    found = {(row["destination"], row["sop_instance_uid"]) for row in job.rows()}
    assert found == {(to, uid) for to in ("pacs", "archive") for uid in job.uids}
    assert job.states() == {"waiting"}


def test_what_an_earlier_job_delivered_is_not_sent_again(home: House) -> None:
    uids = home.made(5, ("2.25.1", "2.25.2"))
    first = home.job(0)
    early = home.again(first.series_id, uids[:3], ("pacs", "archive"))
    deliver(home, early)
    with home.store.writing() as change:
        supersede(change, first.series_id, "late objects")
    late = home.again(first.series_id, uids, ("pacs", "archive"))
    assert states(late) == ["confirmed"] * 3 + ["waiting"] * 2
    assert states(late, "archive") == ["waiting"] * 5
    assert {row["proof"] for row in late.rows()} == {f"delivered by job {early.id}", ""}


def test_a_job_all_of_which_was_delivered_is_done_at_once(home: House) -> None:
    job = home.job(2)
    deliver(home, job)
    again = home.again(job.series_id, job.derived)
    assert again.row()["state"] == "done"


@pytest.mark.parametrize("why", ["folder", "series", "state"])
def test_what_was_delivered_counts_only_for_its_series_and_while_its_files_are_here(home: House, why: str) -> None:
    job = home.job(2)
    if why != "state":
        deliver(home, job)
    if why == "folder":
        with home.store.writing() as change:
            change.execute(update(jobs).where(jobs.c.id == job.id).values(folder=None))
    series = home.job(0).series_id if why == "series" else job.series_id
    assert states(home.again(series, job.derived)) == ["waiting"] * 2


def test_a_job_that_runs_again_is_enlisted_again(home: House) -> None:
    """Somebody asked for it anew: what was confirmed stays, the rest starts, what it makes no more is forgotten."""
    job = home.job(4)
    rows = job.rows()
    with home.store.writing() as change:
        change.move(deliveries, rows[0]["id"], "sent")
        outbox.confirm(change, [rows[0]["id"]], "QIDO-RS")
        outbox.fail(change, DeliveryRow(**rows[1]), "its file is not there any more")
        change.move(deliveries, rows[2]["id"], "sent")
        outbox.add_deliveries(change, job.id, job.derived[:3], ["pacs"])
    assert states(job) == ["confirmed", "waiting", "waiting"]
    assert [row["reason"] for row in job.rows()] == ["", "", ""]


def test_two_answers_that_differ_end_in_what_was_proven(home: House) -> None:
    job = home.job(1)
    uid = outbox.new_transaction_uid()
    with home.store.writing() as change:
        change.move(deliveries, job.rows()[0]["id"], "sent")
        change.move(deliveries, job.rows()[0]["id"], "asked", transaction_uid=uid)
    (sop,) = job.uids
    assert outbox.record_report(home.store, uid, [], {sop: "0x0112 no such object instance"}) == 1
    assert states(job) == ["waiting"]
    assert outbox.record_report(home.store, uid, [sop], {}) == 0  # that was about what we have given up
    assert states(job) == ["waiting"]
    assert job.rows()[0]["refused"] == 1


def test_a_duplicate_transaction_says_nothing_about_the_object(home: House) -> None:
    job = home.job(1)
    uid = outbox.new_transaction_uid()
    with home.store.writing() as change:
        change.move(deliveries, job.rows()[0]["id"], "sent")
        change.move(deliveries, job.rows()[0]["id"], "asked", transaction_uid=uid)
    outbox.record_report(home.store, uid, [], {next(iter(job.uids)): "0x0131 duplicate transaction UID"})
    assert states(job) == ["sent"]


def test_one_peer_cannot_answer_for_another(home: House) -> None:
    job = home.job(1)
    uid = outbox.new_transaction_uid()
    with home.store.writing() as change:
        change.move(deliveries, job.rows()[0]["id"], "sent")
        change.move(deliveries, job.rows()[0]["id"], "asked", transaction_uid=uid)
    assert outbox.record_report(home.store, uid, job.uids, {}, by="somebody") == 0
    assert states(job) == ["asked"]
    assert outbox.record_report(home.store, uid, job.uids, {}, by=job.rows()[0]["destination"]) == 1
    assert states(job) == ["confirmed"]


@pytest.mark.parametrize("still", ["waiting", "sent", "asked"])
def test_a_job_waits_for_its_last_object(home: House, still: str) -> None:
    job = home.job(2)
    first, last = (row["id"] for row in job.rows())
    with home.store.writing() as change:
        for state in {"waiting": (), "sent": ("sent",), "asked": ("sent", "asked")}[still]:
            change.move(deliveries, last, state)
        change.move(deliveries, first, "sent")
        outbox.confirm(change, [first], "QIDO-RS")
    assert job.row()["state"] == "sending"


def test_transactions_are_uids_and_tell_what_they_repeat() -> None:
    first = outbox.new_transaction_uid()
    again = outbox.new_transaction_uid(outbox.new_transaction_uid(first))
    assert again.rpartition(".")[0] == first.rpartition(".")[0] != outbox.new_transaction_uid().rpartition(".")[0]
    assert again.endswith(".3")
    assert len(again) <= 64


# Anything may happen to a job, in any order

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "refused", "lost", "gone", "ask", "kept", "not kept", "silence", "again", "give up"]),
        st.integers(0, 1),
    ),
    max_size=30,
)


def happen(home: House, change: Change, row: dict[str, Any], what: str) -> None:
    """One event, as the sender and the receiver would write it down."""
    if what == "sent":
        outbox.move_if(change, row["id"], ("waiting",), "sent")
    elif what == "refused" and row["state"] in ("waiting", "sent"):
        outbox.record_refusal(change, DeliveryRow(**row), "0xC000", limit=LIMIT)
    elif what == "lost":
        outbox.record_unreachable(change, [row["id"]], "no connection", limit=LIMIT)
    elif what == "gone" and row["state"] in ("waiting", "sent"):
        outbox.fail(change, DeliveryRow(**row), "gone")
    elif what == "ask":
        uid = outbox.new_transaction_uid(row["transaction_uid"])
        outbox.move_if(change, row["id"], ("sent",), "asked", transaction_uid=uid)
    elif what == "silence" and row["state"] in ("sent", "asked"):
        outbox.record_unproven(change, [DeliveryRow(**row)], "silence", limit=LIMIT)
    elif what == "give up":
        outbox.fail_often_refused(change, "pacs", limit=LIMIT)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_no_order_of_events_loses_an_object_or_ends_a_job_too_early(home: House, events: list[tuple[str, int]]) -> None:
    job = home.job(2)
    proven: set[str] = set()
    for what, index in events:
        row = job.rows()[index]
        if what in ("kept", "not kept"):
            uid, sop = row["transaction_uid"], row["sop_instance_uid"]
            known = outbox.record_report(
                home.store, uid, [sop] if what == "kept" else [], {} if what == "kept" else {sop: "0x0112"}
            )
            if known and what == "kept" and row["state"] in ("sent", "asked"):
                proven.add(sop)
        elif what == "again":
            with home.store.writing() as change:
                if job.row()["state"] == "sending":
                    outbox.add_deliveries(change, job.id, job.derived, ["pacs"])
        else:
            with home.store.writing() as change:
                happen(home, change, row, what)
        rows, state = job.rows(), job.row()["state"]
        assert {row["sop_instance_uid"] for row in rows} == job.uids
        assert {row["sop_instance_uid"] for row in rows if row["state"] == "confirmed"} == proven
        assert all(row["reason"] for row in rows if row["state"] == "failed")
        is_open = any(row["state"] in OPEN_DELIVERIES for row in rows)
        assert state == ("sending" if is_open else "done" if proven == job.uids else "failed")


def test_what_a_person_asks_for_again_is_sent_again(home: House) -> None:
    first = home.job(2)
    with home.store.writing() as change:
        for row in first.rows():
            change.move(deliveries, row["id"], "sent")
            change.move(deliveries, row["id"], "confirmed")
        (made,) = change.execute(select(jobs).where(jobs.c.id == first.rows()[0]["job_id"])).mappings().all()
        values = {name: value for name, value in made.items() if name not in ("id", "state", "again")}
        again = change.add(jobs, state="sending", again=1, **values)
        late = change.add(jobs, state="sending", again=0, **values)
        names = ("sop_instance_uid", "sop_class_uid", "series_uid", "study_uid", "file")
        derived = [outbox.DerivedObject(**{name: row[name] for name in names}) for row in first.rows()]
        for job_id in (again, late):
            outbox.add_deliveries(change, job_id, derived, [first.rows()[0]["destination"]])
    states_of = {
        job_id: {row["state"] for row in rows_of(home.store, select(deliveries).where(deliveries.c.job_id == job_id))}
        for job_id in (again, late)
    }
    assert states_of == {again: {"waiting"}, late: {"confirmed"}}


def test_another_proof_is_wanted_than_was_asked_for(home: House) -> None:
    job = home.job(1)
    with home.store.writing() as change:
        change.move(deliveries, job.rows()[0]["id"], "sent")
        change.move(deliveries, job.rows()[0]["id"], "asked", transaction_uid=outbox.new_transaction_uid())
        outbox.forget_commitment_requests(change, "somebody else")
    assert states(job) == ["asked"]
    with home.store.writing() as change:
        outbox.forget_commitment_requests(change, job.rows()[0]["destination"])
    assert states(job) == ["sent"]
