"""Between two slices a worker does what is more urgent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service.rows import Clock, Place, scan
from service.test_work import job, settle

from iscl_monai.errors import StoreUnavailable
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.service.database.rows import JobRow
from iscl_monai.service.database.store import Move
from iscl_monai.service.working import result
from iscl_monai.service.working.preemption import Preemption
from iscl_monai.service.working.work import Work

RULES = [
    {"name": "urgent", "when": {"SeriesDescription": "now"}, "priority": "urgent", "send_to": ["pacs"], "quiet_s": 10},
    {"name": "all", "when": {"Modality": "CT"}, "send_to": ["pacs"], "quiet_s": 10},
]
MANY = 12


@pytest.fixture(scope="module")
def denoiser(bundle: Path) -> Denoiser:
    return Denoiser.from_bundle(bundle, device="cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(result, "CHECKS_EVERY_S", -1.0)  # between any two slices
    return Place(tmp_path / "data", rules=RULES)


class Interrupted:
    """A denoiser that does something else before its third slice."""

    def __init__(self, denoiser: Denoiser, meanwhile: Callable[[], None]) -> None:
        self.denoiser = denoiser
        self.meanwhile = meanwhile
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.denoiser, name)

    def change_hu(self, slice_hu: Any) -> np.ndarray:
        self.count += 1
        if self.count == 3:
            self.meanwhile()
        return self.denoiser.change_hu(slice_hu)


def working(place: Place, denoiser: Any, stopping: Callable[[], bool] = lambda: False) -> Work:
    training = TrainingRecord(noise={})
    return Work(place.store, place.space, lambda *_: denoiser, threads=1, stopping=stopping, training=training)


def begin(place: Place, tmp_path: Path) -> None:
    place.take(scan(tmp_path / "long", MANY))
    settle(place)


def comes(place: Place, tmp_path: Path, description: str) -> Callable[[], None]:
    def arrive() -> None:
        place.take(scan(tmp_path / "short", 3, description=description))
        settle(place)

    return arrive


def states_of(place: Place) -> list[tuple[int, str]]:
    moves: list[tuple[int, str]] = []

    def observe(move: Move, committed: bool) -> None:
        if committed and move.table == "jobs" and move.after in ("running", "sending"):
            moves.append((move.row, str(move.after)))

    place.store.observe(observe)
    return moves


def test_three_urgent_slices_do_not_wait_behind_many(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    begin(place, tmp_path)
    moves = states_of(place)
    seen: list[Any] = []
    meanwhile = comes(place, tmp_path, "now")
    work = working(place, Interrupted(denoiser, meanwhile))
    run = work._run

    def run_and_look(row: JobRow) -> None:
        if row.id == 2:
            seen.append((job(place)["progress"], job(place)["attempts"]))
        run(row)

    work._run = run_and_look  # type: ignore[method-assign]
    assert work.run_next()
    assert moves == [(1, "running"), (2, "running"), (2, "sending"), (1, "sending")]
    assert [job(place, number)["result"]["slices"] for number in (1, 2)] == [MANY, 3]
    assert seen == [({"waits_for": 2}, 0)], "it is shown, and a dead worker is not blamed on it"
    assert job(place)["attempts"] == 1
    assert job(place)["progress"]["of"] == MANY


def test_what_is_no_more_urgent_waits(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    begin(place, tmp_path)
    moves = states_of(place)
    assert working(place, Interrupted(denoiser, comes(place, tmp_path, "later"))).run_next()
    assert moves == [(1, "running"), (1, "sending")]
    assert job(place, 2)["state"] == "queued"


def test_a_stop_during_the_urgent_one_puts_both_back(place: Place, denoiser: Denoiser, tmp_path: Path) -> None:
    begin(place, tmp_path)
    work = working(place, Interrupted(denoiser, comes(place, tmp_path, "now")), lambda: stopping)
    stopping, run = False, work._run

    def stop_at_the_second(row: JobRow) -> None:
        nonlocal stopping
        stopping = row.id == 2
        run(row)

    work._run = stop_at_the_second  # type: ignore[method-assign]
    work.run_next()
    assert [(job(place, number)["state"], job(place, number)["attempts"]) for number in (1, 2)] == [("queued", 0)] * 2


class Taking:
    """Gives jobs that never end."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def next_job(self, more_urgent_than: int) -> Any:
        if self.fault is not None:
            raise self.fault
        return job_row(2, 0)


def job_row(number: int, priority: int) -> Any:
    class Row:
        id, claim, attempts = number, "", 1

    Row.priority = priority  # type: ignore[attr-defined]
    return Row()


def test_a_stream_of_urgent_ones_starves_nobody(place: Place, tmp_path: Path) -> None:
    comes(place, tmp_path, "now")()
    clock = Clock()

    def run(_: Any) -> None:
        clock.now += 30

    preemption = Preemption(job_row(1, 1), place.store, Taking(), run, clock)  # type: ignore[arg-type]
    assert preemption.let_pass()
    for seconds, passes in ((9.9, False), (0.2, True), (9.9, False)):
        clock.now += seconds
        assert preemption.let_pass() is passes
    assert preemption.spent_s == 60


def test_a_database_that_fails_ends_no_work(place: Place, tmp_path: Path) -> None:
    comes(place, tmp_path, "now")()
    claims: Any = Taking(StoreUnavailable("locked", allowed="", cure=""))
    assert not Preemption(job_row(1, 1), place.store, claims, lambda _: None).let_pass()
