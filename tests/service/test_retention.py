"""Files go when their work is done for long enough; never before, and what comes again is recognised."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom.synthetic import setting
from pydicom.uid import ImplicitVRLittleEndian
from service.rows import Place, new_uid, rows_of, scan
from service.test_work import settle
from sqlalchemy import insert, select, update

from iscl_monai.service.database.store import Change, now
from iscl_monai.service.database.tables import commitments, instances, jobs, refusals, series
from iscl_monai.service.working import retention as module
from iscl_monai.service.working.retention import Retention


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", retention={"done_h": 24})


def after(hours: float, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(timezone.utc) + timedelta(hours=hours)

    monkeypatch.setattr(module, "datetime", Later)


def files(place: Place) -> list[Path]:
    return [path for name in ("sources", "jobs") for path in (place.store.data / name).rglob("*.dcm")]


def with_job(place: Place, folder: Path, state: str) -> list[Path]:
    """A series whose job is in a state, with one derived file."""
    sent = scan(folder)
    place.take(sent)
    settle(place)
    ways = {"queued": [], "running": ["running"], "sending": ["running", "sending"]}
    steps = ways.get(state, ["running", "sending", "done"] if state == "done" else ["running", state])
    made = place.store.data / "jobs" / "1" / "x" / "derived"
    made.mkdir(parents=True)
    (made / "1.dcm").write_bytes(b"derived")
    with place.store.writing() as change:
        for step in steps:
            change.move(jobs, 1, step, folder="jobs/1/x/derived")
    return sent


def test_done_series_go_after_their_time_and_not_before(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_job(place, tmp_path / "s", "done")
    after(23.9, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 4
    after(24.1, monkeypatch)
    Retention(place.settings, place.store).step()
    assert files(place) == []
    assert {row["file"] for row in rows_of(place.store, select(instances))} == {None}
    assert rows_of(place.store, select(jobs.c.folder, jobs.c.state)) == [{"folder": None, "state": "done"}]


@pytest.mark.parametrize("state", ["queued", "running", "held", "sending", "failed", "refused", "cancelled"])
def test_what_is_not_done_stays(state: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(place, tmp_path / "s", state)
    after(100_000, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 4


def test_failed_ones_go_if_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "data", retention={"unfinished_h": 1})
    with_job(place, tmp_path / "s", "failed")
    after(2, monkeypatch)
    Retention(place.settings, place.store).step()
    assert files(place) == []


def test_what_is_held_waits_for_a_person_for_however_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "data", retention={"unfinished_h": 1, "done_h": 1})
    with_job(place, tmp_path / "s", "held")
    after(100_000, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 4


def test_what_was_left_alone_goes_too(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.take(scan(tmp_path / "s", change=setting(ImageType=["DERIVED", "SECONDARY", "AXIAL"])))
    after(100, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 3, "still coming in"
    settle(place)
    Retention(place.settings, place.store).step()
    assert files(place) == []


def test_what_we_owe_a_promise_for_stays(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(place, tmp_path / "s", "done")
    uid = rows_of(place.store, select(instances.c.sop_instance_uid))[0]["sop_instance_uid"]
    with place.store.writing() as change:
        change.add(commitments, transaction_uid="1.2", peer="ct", asked=[["1.2", uid]], state="owed", created_at="")
    after(100, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 4


@pytest.mark.parametrize(("hours", "left"), [(719, 4), (721, 0)])
def test_what_was_promised_stays_for_as_long_as_is_said(
    hours: float, left: int, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_job(place, tmp_path / "s", "done")
    uid = rows_of(place.store, select(instances.c.sop_instance_uid))[0]["sop_instance_uid"]
    with place.store.writing() as change:
        asked = [["1.2", uid]]
        change.add(commitments, transaction_uid="1.2", peer="ct", asked=asked, state="reported", created_at=now())
    after(hours, monkeypatch)
    Retention(place.settings, place.store).step()
    assert len(files(place)) == left


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_an_object_whose_file_was_lost_is_no_duplicate(damage: str, place: Place, tmp_path: Path) -> None:
    sent = scan(tmp_path / "s")
    place.take(sent)
    settle(place)
    file = place.store.data / rows_of(place.store, select(instances.c.file))[1]["file"]
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    assert place.take(sent) == ["duplicate", "stored", "duplicate"]
    rows = rows_of(place.store, select(instances))
    assert all((place.store.data / row["file"]).stat().st_size == row["size"] for row in rows)
    settle(place)
    assert [row["state"] for row in rows_of(place.store, select(jobs).order_by(jobs.c.id))] == ["superseded", "queued"]


@pytest.mark.parametrize("encoded", ["as before", "in another way"])
def test_a_repeat_that_was_acknowledged_stays_as_long_as_a_new_object(
    encoded: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else files go the moment after success was answered for them, and the rest of the series is done alone."""
    sent = with_job(place, tmp_path / "s", "done")
    with place.store.writing() as long_ago:
        long_ago.execute(update(series).values(last_at="2020-01-01T00:00:00.000+00:00"))
        long_ago.execute(update(jobs).values(updated_at="2020-01-01T00:00:00.000+00:00"))
    for path in sent if encoded == "in another way" else ():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert place.take(sent) == ["duplicate"] * 3
    Retention(place.settings, place.store).step()
    assert len(files(place)) == 4
    assert rows_of(place.store, select(series.c.state)) == [{"state": "settled"}], "nothing is done again"
    after(24.1, monkeypatch)
    Retention(place.settings, place.store).step()
    assert files(place) == []


def test_what_comes_again_after_that_is_done_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = with_job(place, tmp_path / "s", "done")
    after(25, monkeypatch)
    Retention(place.settings, place.store).step()
    assert place.take(sent) == ["stored"] * 3
    settle(place)
    assert [row["state"] for row in rows_of(place.store, select(jobs).order_by(jobs.c.id))] == ["done", "queued"]
    assert len(rows_of(place.store, select(instances))) == 3


def test_a_late_slice_after_that_is_done_alone(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = (new_uid(), new_uid())
    place.take(scan(tmp_path / "a", uids=uids))
    settle(place)
    with place.store.writing() as change:
        for step in ("running", "sending", "done"):
            change.move(jobs, 1, step)
    after(25, monkeypatch)
    Retention(place.settings, place.store).step()
    place.take(scan(tmp_path / "b", 1, first=3, uids=uids))
    settle(place)
    assert [row["state"] for row in rows_of(place.store, select(jobs).order_by(jobs.c.id))] == ["done", "queued"]


def test_the_newest_refusals_are_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REFUSALS", 3)
    monkeypatch.setattr(module, "REFUSALS_AT_ONCE", 2)
    deleted: list[int] = []
    execute = Change.execute

    def counted(change: Change, statement: Any) -> Any:
        result = execute(change, statement)
        if statement.is_delete and statement.table is refusals:
            deleted.append(result.rowcount)
        return result

    monkeypatch.setattr(Change, "execute", counted)
    row = {"at": now(), "sender": "CT", "sop_class_uid": "", "sop_instance_uid": "", "status": "busy"}
    retention = Retention(place.settings, place.store)
    for made, kept in (
        (0, []),
        (2, ["0", "1"]),
        (3, ["2", "3", "4"]),
        (8, ["10", "11", "12"]),
        (0, ["10", "11", "12"]),
    ):
        with place.store.writing() as change:
            listed = change.execute(select(refusals.c.id)).scalars().all()
            first = max(listed, default=0)
            for number in range(first, first + made):
                change.execute(insert(refusals).values(**row, reason=str(number)))
        retention.step()
        assert place.store.values(select(refusals.c.reason).order_by(refusals.c.id)) == kept
    assert max(deleted) == 2  # nobody else can write meanwhile
