"""The node is killed at every move between two states, before it is committed and after, and started again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dicom.orthanc import Orthanc
from dicom.synthetic import Series, setting
from service.rows import new_uid
from service.whole import NodeUnderTest, derived_sources, sent_uids, stopped_at_the_end, storescu, until

from iscl_monai.service.database.states import MACHINES
from iscl_monai.service.database.store import Store
from iscl_monai.service.working.queue import release

SLICES = 3

# Moves of a series that goes well, in their order; and what makes the others happen is in the tests below.
GOES_WELL = [
    "series:->receiving",
    "series:receiving->settled",
    "jobs:->queued",
    "jobs:queued->running",
    "jobs:running->sending",
    "deliveries:->waiting",
    "deliveries:waiting->sent",
    "deliveries:sent->asked",
    "deliveries:asked->confirmed",
    "jobs:sending->done",
]
LATE = ["series:settled->receiving", "jobs:sending->superseded", "jobs:running->superseded", "jobs:queued->superseded"]


def scan(folder: Path, slots: range = range(SLICES), uids: tuple[str, str] | None = None) -> list[Path]:
    study, series = uids or (new_uid(), new_uid())
    made = Series(slots=slots, rows=32, columns=32, study_uid=study, series_uid=series, prefix=f"s{slots.start}")
    return made.write(folder)


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("move", GOES_WELL)
def test_killed_at_a_move_nothing_is_lost_and_nothing_is_twice(
    move: str, phase: str, pacs: Orthanc, bundle: Path, tmp_path: Path
) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start(kill_at=f"{move}:{phase}")
        taken = storescu(files, node.port)
        until(node.ended, lambda: f"the move {move} was never made\n{node.log[-4000:]}")
        assert node.process is not None
        assert node.process.returncode == -9
        node.start()
        if not taken:  # what was not acknowledged is the sender's to repeat
            assert storescu(files, node.port)
        node.wait_done()
        check_whole(node, pacs, study, files)
        assert node.stop() == 0


def check_whole(node: NodeUnderTest, pacs: Orthanc, study: str, files: list[Path]) -> None:
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))
    assert set(node.states("deliveries")) == {"confirmed"}
    assert "failed" not in node.states("jobs")
    until(lambda: not leftovers(node), lambda: f"left over: {leftovers(node)}")  # the worker writes of its own, too
    known = {row["file"] for row in node.rows("SELECT file FROM instances")}
    on_disk = {str(path.relative_to(node.data)) for path in (node.data / "sources").rglob("*.dcm")}
    assert on_disk == known


def leftovers(node: NodeUnderTest) -> list[Path]:
    return [path for path in node.data.rglob("*") if path.name.endswith((".part", ".partial"))]


def test_every_way_of_the_table_is_killed_somewhere_or_named_here() -> None:
    """A new state cannot come without somebody asking what a crash does to it."""
    elsewhere = {
        "jobs:running->queued": "recovery itself: test_killed_while_it_recovers",
        "jobs:running->refused": "test_killed_when_a_series_is_refused",
        "jobs:running->held": "test_killed_when_a_series_is_held",
        "jobs:held->sending": "one row, by a person: test_killed_when_a_series_is_held",
        "jobs:held->cancelled": "one row, by a person",
        "jobs:held->superseded": "with series:receiving->settled, in one transaction",
        "jobs:running->failed": "no file but the row is changed: as refused",
        "jobs:running->cancelled": "one row, by a person",
        "jobs:queued->cancelled": "one row, by a person",
        "jobs:sending->cancelled": "one row, by a person",
        "jobs:sending->failed": "one row, see test_sender",
        "jobs:failed->queued": "one row, by a person",
        "jobs:failed->sending": "one row, by a person",
        "jobs:failed->cancelled": "one row, by a person",
        "jobs:failed->superseded": "with series:receiving->settled, in one transaction",
        "jobs:refused->queued": "one row, by a person",
        "jobs:refused->cancelled": "one row, by a person",
        "jobs:refused->superseded": "with series:receiving->settled, in one transaction",
        "jobs:cancelled->queued": "one row, by a person",
        "jobs:cancelled->superseded": "with series:receiving->settled, in one transaction",
        "jobs:queued->superseded": "with series:receiving->settled, in one transaction",
        "jobs:running->superseded": "test_killed_when_late_slices_come",
        "deliveries:waiting->failed": "one row, see test_sender",
        "deliveries:sent->confirmed": "one row, see test_confirmation",
        "deliveries:sent->waiting": "one row, see test_confirmation",
        "deliveries:asked->waiting": "one row, see test_confirmation",
        "deliveries:asked->sent": "one row, see test_confirmation",
        "deliveries:asked->failed": "one row, see test_confirmation",
        "deliveries:failed->waiting": "one row, by a person",
        "commitments:owed->reported": "test_commitment_reports",
        "commitments:owed->failed": "test_commitment_reports",
        "commitments:failed->owed": "test_commitment_reports",
    }
    ways = {
        f"{machine.name}:{before}->{after}"
        for machine in MACHINES.values()
        for before, following in machine.ways.items()
        for after in following
    }
    killed = set(GOES_WELL) | {"series:settled->receiving", "jobs:sending->superseded"}
    assert ways <= killed | set(elsewhere), ways - killed - set(elsewhere)
    assert set(elsewhere) <= ways, set(elsewhere) - ways


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("move", ["series:settled->receiving", "jobs:sending->superseded"])
def test_killed_when_late_slices_come(move: str, phase: str, pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    uids = (new_uid(), new_uid())
    first = scan(tmp_path / "first", range(3), uids)
    late = scan(tmp_path / "late", range(3, 5), uids)
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        silent = "superseded" in move  # then the first job must still be sending
        if silent:
            node.more = {"peers": [{**node.settings()["peers"][0], "port": 9}, *node.settings()["peers"][1:]]}
        node.start(kill_at=f"{move}:{phase}")
        assert storescu(first, node.port)
        until(lambda: node.states("jobs").get("sending" if silent else "done"), lambda: node.log[-4000:])
        storescu(late, node.port)
        until(node.ended, lambda: node.log[-4000:])
        node.more = {}
        node.start()
        storescu(late, node.port)
        until(lambda: len(derived_sources(pacs, uids[0])) == 5, lambda: node.log[-4000:])
        node.wait_done()
        check_whole_but_superseded(node, pacs, uids[0], [*first, *late])


def check_whole_but_superseded(node: NodeUnderTest, pacs: Orthanc, study: str, files: list[Path]) -> None:
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))
    jobs = node.rows("SELECT state, moment FROM jobs")
    assert {job["state"] for job in jobs} <= {"done", "superseded"}
    assert len({job["moment"] for job in jobs}) == 1, "one derived series has one time"
    last = node.rows("SELECT id FROM jobs ORDER BY id DESC LIMIT 1")[0]["id"]
    states = node.rows("SELECT DISTINCT state FROM deliveries WHERE job_id = ?", last)
    assert states == [{"state": "confirmed"}]


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_while_it_recovers(phase: str, pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start(kill_at="jobs:queued->running:after")
        assert storescu(files, node.port)
        until(node.ended, lambda: node.log[-4000:])
        node.start(kill_at=f"jobs:running->queued:{phase}")
        until(node.ended, lambda: node.log[-4000:])
        node.start()
        node.wait_done()
        check_whole(node, pacs, study, files)


def test_a_series_that_kills_the_worker_is_failed_and_the_next_one_goes_on(
    pacs: Orthanc, bundle: Path, tmp_path: Path
) -> None:
    first, second = (scan(tmp_path / name) for name in ("first", "second"))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.more = {"work": {"attempts": 2}}
        for _ in range(2):
            node.start(kill_at="jobs:queued->running:after")
            storescu(first, node.port)
            until(node.ended, lambda: node.log[-4000:])
        node.start()
        assert storescu(second, node.port)
        node.wait_done()
        assert node.states("jobs") == {"failed": 1, "done": 1}
        (failed,) = node.rows("SELECT reason FROM jobs WHERE state = 'failed'")
        assert "died 2 times" in failed["reason"]


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_when_a_series_is_refused(phase: str, pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    no_slope = setting(RescaleSlope=None)
    files = Series(slots=range(3), rows=32, columns=32, change=no_slope, study_uid=new_uid()).write(tmp_path / "s")
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start(kill_at=f"jobs:running->refused:{phase}")
        assert storescu(files, node.port)
        until(node.ended, lambda: node.log[-4000:])
        node.start()
        until(lambda: node.states("jobs") == {"refused": 1}, lambda: node.log[-4000:])
        (row,) = node.rows("SELECT reason FROM jobs")
        assert "RescaleSlope" in row["reason"]


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_when_a_series_is_held(phase: str, pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study, mine = new_uid(), tmp_path / "bundle"
    shutil.copytree(bundle, mine)
    (mine / "models" / "training.json").write_text(json.dumps({"noise": {"noise": [1.0, 2.0], "fineness": [0.1, 0.4]}}))
    files = Series(slots=range(SLICES), rows=64, columns=64, study_uid=study).write(tmp_path / "s")
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", mine, pacs)) as node:
        node.more = {"rules": [{**node.settings()["rules"][1], "hold_unlike": True}]}
        node.start(kill_at=f"jobs:running->held:{phase}")
        assert storescu(files, node.port)
        until(node.ended, lambda: node.log[-4000:])
        node.start()
        until(lambda: node.states("jobs") == {"held": 1}, lambda: node.log[-4000:])
        assert node.stop() == 0
        assert derived_sources(pacs, study) == [], "nothing was sent"
        (row,) = node.rows("SELECT reason FROM jobs")
        assert "times above all scans of the training" in row["reason"]
        assert row["reason"].removeprefix("held: unlike the training: ").partition(";")[0] in node.log
        store = Store(node.data)
        with store.writing() as change:
            release(change, 1, "anna")
        store.close()
        node.start()
        node.wait_done()
        check_whole(node, pacs, study, files)
