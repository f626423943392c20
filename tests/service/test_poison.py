"""One poisoned member (object, series, row, file) ends no loop: it is counted and shown, and the others go on."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from service.peers import Call, House, Pacs, http, peer, until
from service.rows import Clock, Place, rows_of, scan
from service.test_retention import after
from sqlalchemy import select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.states import JobState
from iscl_monai.service.database.store import DATABASE, now
from iscl_monai.service.database.tables import commitments, instances, jobs
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import COMING
from iscl_monai.service.receiving.source_folders import SOURCES
from iscl_monai.service.sending import carriers, commitment, outbox, stow
from iscl_monai.service.sending.commitment_reports import CommitmentReporter
from iscl_monai.service.sending.sender import Sender
from iscl_monai.service.working import resume, supervisor
from iscl_monai.service.working.completion import Completion
from iscl_monai.service.working.recovery import recover_files
from iscl_monai.service.working.retention import Retention
from iscl_monai.service.working.supervisor import Supervisor


def poison(place: Any, statement: str) -> None:
    """Write into the database what the node itself never writes."""
    with closing(sqlite3.connect(place.store.data / DATABASE)) as database, database:
        database.execute(statement)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", retention={"done_h": 24})


def test_a_fault_of_one_member_is_counted_and_shown_until_it_is_over() -> None:
    loop = Loop("any", lambda: 1.0)
    for _ in range(2):
        with loop.guard("series 7"):
            raise ValueError("Doe^John")
    assert loop.faults == 2
    assert loop.failing == {"series 7": "ValueError"}, "its text may name a patient"
    with loop.guard("series 7"):
        pass
    assert loop.failing == {}
    with pytest.raises(StoreUnavailable), loop.guard("series 7"):
        raise StoreUnavailable("locked", allowed="", cure="")
    assert loop.failing == {}, "that is about no single member"


@pytest.mark.parametrize("tags", ["'{'", "'5'", "'[]'"])
def test_completion_goes_on_after_a_series_that_cannot_be_read(tags: str, place: Place, tmp_path: Path) -> None:
    place.take([*scan(tmp_path / "a"), *scan(tmp_path / "b")])
    poison(place, f"UPDATE series SET tags = {tags} WHERE id = 1")
    completion = Completion(place.settings, place.store, place.arrivals, on_queued=lambda: None)
    for _ in range(2):
        place.clock.now += 20
        completion.step()
    assert rows_of(place.store, select(jobs.c.series_id)) == [{"series_id": 2}]
    assert list(completion.loop.failing) == ["series 1"]


def test_retention_goes_on_after_a_series_that_cannot_be_read(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.take([*scan(tmp_path / "a"), *scan(tmp_path / "b")])
    poison(place, "UPDATE series SET state = 'settled'")
    poison(place, "UPDATE series SET last_at = 'never' WHERE id = 1")
    after(25, monkeypatch)
    retention = Retention(place.settings, place.store)
    assert retention.step() > 0
    here = rows_of(place.store, select(instances.c.series_id).where(instances.c.file.is_not(None)).distinct())
    assert here == [{"series_id": 1}], "and the poisoned one loses nothing"
    assert list(retention.loop.failing) == ["series 1"]


def test_the_outbox_goes_on_after_a_job_that_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = House(tmp_path / "data", peer())
    first, second = home.job(1, to=("gone",)), home.job(1, to=("gone",))
    finish = outbox.finish_job

    def finish_job(change: Any, job_id: int) -> None:
        if job_id == first.id:
            raise RuntimeError
        finish(change, job_id)

    monkeypatch.setattr(outbox, "finish_job", finish_job)
    sender = Sender(home.settings, home.store)
    sender._close_orphans()
    assert second.row()["state"] == "failed"
    assert list(sender.loops[0].failing) == [f"job {first.id}"]


@pytest.mark.parametrize("error", [KeyError("tag"), AttributeError("file_meta"), NotImplementedError(), EOFError()])
def test_a_sender_goes_on_after_an_object_that_cannot_be_sent(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pacs = carriers._store, Pacs()
    home = House(tmp_path / "data", peer(port=pacs.port, confirm="status"), sending={"refused_tries": 2})
    bad, good = home.job(1), home.job(1)

    def damaged(association: Any, path: Path) -> Any:
        if path == home.settings.data / bad.rows()[0]["file"]:
            raise error
        return store(association, path)

    monkeypatch.setattr(carriers, "_store", damaged)
    with pacs.running(), home.sending():
        good.becomes("done")
        assert type(error).__name__ in bad.becomes("failed")["reason"], "it is seen, and can be retried"


def stow_answer(call: Call) -> tuple[int, bytes]:
    return 200, b"{}"


def test_stow_goes_on_after_an_object_that_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = stow._results
    with http(stow_answer) as (root, _):
        home = House(
            tmp_path / "data", {"name": "pacs", "url": root, "confirm": "status"}, sending={"refused_tries": 2}
        )
        bad, good = home.job(1), home.job(1)

        def poisoned(rows: Any, code: int, body: bytes) -> Any:
            if bad.id in {row.job_id for row in rows}:
                raise TypeError
            return results(rows, code, body)

        monkeypatch.setattr(stow, "_results", poisoned)
        with home.sending():
            good.becomes("done")
            bad.becomes("failed")


@pytest.mark.parametrize("answer", [(504, b""), (200, b"no JSON"), (200, b"[" * 100_000)])
def test_a_series_whose_query_fails_keeps_no_other_from_its_proof(answer: tuple[int, bytes], tmp_path: Path) -> None:
    found: dict[str, bytes] = {}

    def respond(call: Call) -> tuple[int, bytes]:
        if call.method == "POST":
            return stow_answer(call)
        return next((body for uid, body in found.items() if uid in call.path), None) or answer  # type: ignore[return-value]

    with http(respond) as (root, _):
        home = House(tmp_path / "data", {"name": "pacs", "url": root, "confirm": "query"})
        home.job(1)
        good = home.job(1)
        objects = "".join(f'{{"00080018": {{"Value": ["{uid}"]}}}}' for uid in good.uids)
        found[good.derived[0].series_uid] = (200, f"[{objects}]".encode())  # type: ignore[assignment]
        with home.sending():
            good.becomes("done")


def test_a_job_whose_request_for_commitment_cannot_be_made_keeps_no_other_from_its_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.peers import promise

    pacs = Pacs(commit=promise)
    home = House(tmp_path / "data", peer(port=pacs.port))
    bad, good = home.job(1), home.job(1)
    information = commitment.action_information

    def poisoned(uid: str, rows: Any) -> Any:
        if rows[0].job_id == bad.id:
            raise KeyError(uid)
        return information(uid, rows)

    monkeypatch.setattr(commitment, "action_information", poisoned)
    with pacs.running(), home.sending() as sender:
        good.becomes("done")
        assert sender.destinations["pacs"].trouble


@pytest.mark.parametrize("asked", ["'{'", "'[[\"1.2\"]]'", "'7'"])
def test_reports_of_commitment_go_on_after_a_request_that_cannot_be_read(asked: str, tmp_path: Path) -> None:
    home = House(tmp_path / "data", peer())
    with home.store.writing() as change:
        for uid in ("1.2.1", "1.2.2"):
            values = {"transaction_uid": uid, "peer": "pacs", "asked": [["1.2", "1.3"]], "created_at": now()}
            change.add(commitments, state="owed", **values)
    poison(home.place, f"UPDATE commitments SET asked = {asked} WHERE id = 1")
    reporter = CommitmentReporter(home.settings, home.store)
    sent: list[str] = []

    def send(to: Any, rows: Any) -> list[Any]:
        sent.extend(row.transaction_uid for row in rows)
        return []

    reporter._send = send  # type: ignore[method-assign]
    reporter.step()
    assert sent == ["1.2.2"]
    assert list(reporter.loop.failing) == ["request 1"]


def test_reports_of_commitment_go_on_after_a_peer_that_cannot_be_called(tmp_path: Path) -> None:
    home = House(tmp_path / "data", peer("odd"), peer("well"))
    with home.store.writing() as change:
        for name in ("odd", "well"):
            values = {"transaction_uid": "1.2.1", "peer": name, "asked": [["1.2", "1.3"]], "created_at": now()}
            change.add(commitments, state="owed", **values)
    reporter = CommitmentReporter(home.settings, home.store, Clock())
    sent: list[str] = []

    def send(to: Any, rows: Any) -> Any:
        sent.append(to.name)
        if to.name == "odd":
            raise OSError("certificate")
        return []

    reporter._send = send  # type: ignore[method-assign]
    reporter.step()
    assert sent == ["odd", "well"]


def test_a_start_goes_on_after_a_file_that_cannot_be_read_or_removed(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "s"))
    (place.store.data / SOURCES / "leads-nowhere").symlink_to(tmp_path / "nothing")
    stuck = place.store.data / COMING / "stuck.part"
    stuck.write_bytes(b"half")
    unlink = Path.unlink

    def denied(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", denied)
        found = recover_files(place.store, place.store.data)
    assert (found.unfinished, found.missing, found.damaged) == (1, 0, 0)


def test_a_start_goes_on_after_a_stray_file_among_the_jobs(place: Place) -> None:
    folder = place.store.data / resume.JOBS_FOLDER
    (folder / "7" / "attempt").mkdir(parents=True)
    (folder / ".DS_Store").write_bytes(b"")
    assert resume.clear_job_folders(place.store) == 1


def test_jobs_that_cannot_be_read_go_back_to_the_queue_with_the_others(place: Place, tmp_path: Path) -> None:
    place.take([*scan(tmp_path / "a"), *scan(tmp_path / "b")])
    completion = Completion(place.settings, place.store, place.arrivals, on_queued=lambda: None)
    for _ in range(2):
        place.clock.now += 20
        completion.step()
    poison(place, "UPDATE jobs SET state = 'running', attempts = 1")
    poison(place, "UPDATE jobs SET send_to = '{' WHERE id = 1")
    assert resume.recover_jobs(place.store, 3) == 2
    assert set(place.store.values(select(jobs.c.state))) == {JobState.QUEUED}


def test_the_supervisor_goes_on_after_a_line_that_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library may print anything; without a reader the worker would wait for ever with its next line."""
    code = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n'); print('{\"event\": \"worker.ready\"}')"
    start = subprocess.Popen
    monkeypatch.setattr(
        supervisor.subprocess, "Popen", lambda command, **more: start([sys.executable, "-c", code], **more)
    )
    home = House(tmp_path / "data", peer())
    lines: list[int] = []
    watched = Supervisor(home.settings, home.store, on_log_line=lambda: lines.append(1), on_model_refused=lambda: None)
    process = watched._start_process()
    until(lambda: len(lines) == 2)
    assert watched.ready
    assert process.wait(60) == 0
    for stream in (process.stdin, process.stdout):
        assert isinstance(stream, io.TextIOBase)
        stream.close()
