"""A database that cannot be written, a worker without a model, a peer without an answer: it is seen, and counted."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from service.peers import House, Pacs, peer, until
from service.receiving import free_port
from service.rows import Place, scan, settings_for
from service.web.plant import Plant
from service.web.test_web_probes import numbers
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from iscl_monai.errors import Refusal, StoreUnavailable
from iscl_monai.service.database import store as store_module
from iscl_monai.service.database.store import DATABASE, Store
from iscl_monai.service.database.write_check import WriteCheck
from iscl_monai.service.node import Node
from iscl_monai.service.receiving.intake import Verdict
from iscl_monai.service.receiving.receiver import Receiver
from iscl_monai.service.settings import Settings
from iscl_monai.service.working import supervisor
from iscl_monai.service.working.protocol import MODEL_FAULT, MODEL_REFUSED


def make_read_only(data: Path) -> None:
    """For everybody, whoever owns the file: a write version that SQLite does not know (file format, offset 18)."""
    with closing(sqlite3.connect(data / DATABASE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (data / DATABASE).open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")


@contextmanager
def read_only(store: Store) -> Iterator[None]:
    store.close()
    make_read_only(store.data)
    yield


@contextmanager
def locked(store: Store) -> Iterator[None]:
    with closing(sqlite3.connect(store.data / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(store: Store) -> Iterator[None]:
    """A transaction that changes a row fails at its commit; one that changes none writes nothing, and does not fail."""
    store._writer.dispose()
    changed: dict[int, int] = {}

    def total(connection: Connection) -> tuple[int, int]:
        dbapi: Any = connection.connection.dbapi_connection
        return id(dbapi), dbapi.total_changes

    def begin(connection: Connection) -> None:
        key, changes = total(connection)
        changed[key] = changes

    def commit(connection: Connection) -> None:
        key, changes = total(connection)
        if changes != changed[key]:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    event.listen(store._writer, "begin", begin)
    event.listen(store._writer, "commit", commit)
    yield


@contextmanager
def damaged(store: Store) -> Iterator[None]:
    store.close()
    for leftover in store.data.glob(f"{DATABASE}-*"):
        leftover.unlink()
    (store.data / DATABASE).write_bytes(b"no database" * 1000)
    yield


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


BROKEN = pytest.mark.parametrize("broken", [read_only, locked, full, damaged])
Broken = Callable[[Store], Any]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WAIT_MS", 20)


@BROKEN
def test_a_database_that_cannot_be_written_is_not_ready(broken: Broken, plant: Plant) -> None:
    readiness = plant.app.state.readiness
    assert readiness() == []
    readiness.clock = lambda: 10**9
    with broken(plant.store):
        answer = plant.client().get("/readyz")
        assert (answer.status_code, answer.json()["lacking"]) == (503, ["database"])


@BROKEN
def test_refusals_are_counted_whatever_becomes_of_the_database(broken: Broken, plant: Plant) -> None:
    plant.intake.record_refusal("CT", Verdict("busy", "full"))
    with broken(plant.store):
        for _ in range(3):
            plant.intake.record_refusal("CT", Verdict("busy", "full"))
        (path,) = scan(plant.folder / "scan", 1)
        part = plant.intake.new_part()
        shutil.copyfile(path, part)
        assert plant.intake.accept(part, "CT").kind == "busy"
        found = numbers(plant)
    assert found["iscl_refusals_total", "busy"] == 5
    assert found["iscl_refusals_unlisted_total",] == 4


def test_the_page_tells_of_refusals_that_are_not_listed(plant: Plant) -> None:
    plant.add_people()
    assert "could not be listed" not in plant.client("viewer").get("/refusals").text
    plant.intake.refusals.count_unlisted(Verdict("busy", "full"))
    assert "1 more" in plant.client("viewer").get("/refusals").text


def test_refusals_of_earlier_starts_are_counted_once(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    place.intake.record_refusal("CT", Verdict("busy", "full"))
    again = Place(tmp_path / "data")
    again.intake.record_refusal("CT", Verdict("unsuitable", "no CT"))
    assert again.intake.refusals.counts == {"busy": 1, "unsuitable": 1}


def test_degraded_parts_are_named_by_their_kind_and_need_no_restart(plant: Plant) -> None:
    for name in ("database", "sweep hospital", "destination hospital", "loop completion"):
        plant.parts[name] = (False, "series 7: ValueError")
    answer = plant.client().get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "degraded",
        "failing": [],
        "degraded": ["database", "destination", "loop", "sweep"],
    }
    assert numbers(plant)["iscl_part_ok", "sweep hospital"] == 0


def test_a_database_is_proved_by_one_thread_at_a_time_and_not_all_the_time() -> None:
    moment, proved = 0.0, []

    def prove() -> None:
        proved.append(moment)
        assert check.failure() == ("" if len(proved) > 1 else "it is being checked for the first time")

    check = WriteCheck(prove, 5.0, lambda: moment)
    for moment in (0.0, 4.9, 5.0, 9.0):  # noqa: B007 - the clock reads it
        assert check.failure() == ""
    assert proved == [0.0, 5.0]


def test_a_destination_without_an_answer_is_shown_until_it_answers(tmp_path: Path) -> None:
    pacs = Pacs()
    home = House(tmp_path / "data", peer(port=pacs.port, confirm="status"))
    job = home.job(1)
    with home.sending() as sender:
        until(lambda: "no connection" in sender.destinations["pacs"].trouble)
        with pacs.running():
            job.becomes("done")
            assert sender.destinations["pacs"].trouble == ""


def test_a_destination_that_has_no_room_is_shown(tmp_path: Path) -> None:
    pacs = Pacs(status=lambda uid, association: 0xA700)
    home = House(tmp_path / "data", peer(port=pacs.port, confirm="status"))
    home.job(1)
    with pacs.running(), home.sending() as sender:
        until(lambda: "no room" in sender.destinations["pacs"].trouble)


def test_a_destination_that_never_reports_is_shown(tmp_path: Path) -> None:
    pacs = Pacs(commit=lambda information, association, pacs: 0)
    home = House(tmp_path / "data", peer(port=pacs.port, commitment_timeout_s=0.05))
    home.job(1)
    with pacs.running(), home.sending() as sender:
        until(lambda: "not answered" in sender.destinations["pacs"].trouble)


# A start that cannot serve refuses before it listens


def node_settings(data: Path, **more: Any) -> Settings:
    ports = {"node": {"port": free_port(), "host": "127.0.0.1"}, "web": {"port": free_port()}}
    return settings_for(data, **ports, **more)


def worker_that_ends(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    start = supervisor.subprocess.Popen
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda _, **more: start(command, **more))
    monkeypatch.setattr(supervisor, "RESTARTS_AFTER_S", 0.01)


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has begun to listen."""
    begun: list[str] = []
    start = Receiver.start
    monkeypatch.setattr(Receiver, "start", lambda self: begun.append("receiver") or start(self))
    return begun


@pytest.mark.parametrize(
    "code",
    [
        f"raise SystemExit({MODEL_REFUSED})",
        f"raise SystemExit({MODEL_FAULT})",
        "raise MemoryError",
        "import os; os.kill(os.getpid(), 9)",
    ],
)
def test_a_node_without_a_model_never_listens(
    code: str, listened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that_ends(monkeypatch, code)
    with pytest.raises(Refusal, match="the worker refused"):
        Node(node_settings(tmp_path / "data")).run()
    assert listened == []


def test_a_node_that_is_stopped_while_it_loads_its_model_ends(
    listened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that_ends(monkeypatch, "import sys; sys.stdin.readline(); sys.stdin.readline()")
    answers: dict[signal.Signals, Callable[[], object]] = {}

    @contextmanager
    def recorded(given: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
        answers.update(given)
        yield

    monkeypatch.setattr("iscl_monai.service.node.answering", recorded)  # signals come to main threads alone
    node = Node(node_settings(tmp_path / "data"))
    running = threading.Thread(target=node.run)
    running.start()
    until(lambda: answers and node.supervisor.pid)
    answers[signal.SIGTERM]()
    running.join(60)
    assert not running.is_alive()
    assert listened == []


def test_a_worker_that_dies_later_is_started_again_and_counted(
    listened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that_ends(monkeypatch, 'print(\'{"event": "worker.ready"}\', flush=True); raise SystemExit(4)')
    node = Node(node_settings(tmp_path / "data"))
    node.start()
    try:
        until(lambda: node.counts().worker_deaths > 2)
        _, text = node.health()["worker"]
        assert "died" in text
        assert listened == ["receiver"]
    finally:
        node.stop()


@pytest.mark.parametrize("broken", [read_only, locked, damaged])
def test_a_start_on_a_database_that_cannot_be_written_is_refused(broken: Broken, tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    with broken(place.store), pytest.raises(StoreUnavailable) as refusal:
        Node(node_settings(tmp_path / "data"))
    assert "\n" not in str(refusal.value)
