"""What goes wrong in hospitals, with a real PACS and a real node: nothing is lost, nothing is twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from dicom.orthanc import Dicom, Orthanc, free_port, running
from dicom.synthetic import setting
from dicom.validators import tool
from service.rows import new_uid, scan
from service.whole import (
    NodeUnderTest,
    derived_sources,
    sent_uids,
    stopped_at_the_end,
    storescu,
    unmount,
    until,
)


def whole(node: NodeUnderTest, pacs: Orthanc, study: str, files: list[Path]) -> None:
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))


def test_the_pacs_is_down_and_comes_up(bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    (tmp_path / "pacs").mkdir()
    port, http = free_port(), free_port()
    with running(tmp_path / "pacs", Dicom(port=port), http_port=http) as server:
        node = NodeUnderTest(tmp_path / "node", bundle, server)
        node.start()
    with stopped_at_the_end(node):
        assert storescu(files, node.port)
        until(lambda: any(row["attempts"] > 1 for row in node.rows("SELECT attempts FROM deliveries")))
        (row,) = node.rows("SELECT DISTINCT reason FROM deliveries")
        assert row["reason"], "the page shows why it waits"
        with running(tmp_path / "pacs", Dicom(port=port), http_port=http) as server:
            server.introduce("ISCL", node.port)
            node.wait_done()
            whole(node, server, study, files)


def test_the_pacs_is_halted_in_the_middle_and_goes_on(bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 30, uids=(study, new_uid()))
    (tmp_path / "pacs").mkdir()
    with (
        running(tmp_path / "pacs", Dicom()) as server,
        stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, server)) as node,
    ):
        node.start()
        assert storescu(files, node.port)
        until(lambda: node.states("deliveries").get("sent", 0) > 2, lambda: node.log[-3000:])
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        assert node.process is not None
        node.kill()  # and the node dies while it waits
        os.kill(server.process.pid, signal.SIGCONT)
        node.start()
        node.wait_done()
        whole(node, server, study, files)


def test_slices_come_late_out_of_order_twice_and_from_two_senders(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 9, uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu(files[5:2:-1], node.port)
        node.wait_done()
        senders = [
            subprocess.Popen(
                ["/usr/bin/storescu", "-aet", ae, "-aec", "ISCL", "127.0.0.1", str(node.port), *map(str, chosen)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for ae, chosen in (("CT", files[::-1]), ("CT2", files), ("CT2", files[2:]))
        ]
        assert [sender.wait() for sender in senders] == [0, 0, 0]
        until(lambda: len(derived_sources(pacs, study)) == 9, lambda: node.log[-4000:])
        node.wait_done(jobs=2)
        whole(node, pacs, study, files)
        before = len(pacs.sop_instance_uids())
        assert storescu(files, node.port), "a second run adds nothing"
        node.wait_done(jobs=2)
        assert len(node.rows("SELECT id FROM jobs")) == 2
        assert len(pacs.sop_instance_uids()) == before
        assert node.stop() == 0


def test_two_series_of_one_study_stay_apart(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    first = scan(tmp_path / "a", uids=(study, new_uid()))
    second = scan(tmp_path / "b", uids=(study, new_uid()))
    mixed = [file for pair in zip(first, second, strict=True) for file in pair]
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu(mixed, node.port)
        node.wait_done(jobs=2)
        whole(node, pacs, study, mixed)


def test_one_bad_series_does_not_hold_up_the_others(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    bad = scan(tmp_path / "bad", change=setting(RescaleIntercept=None))
    good = scan(tmp_path / "good", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu([*bad, *good], node.port)
        node.wait_done()
        whole(node, pacs, study, good)
        until(lambda: node.states("jobs") == {"refused": 1, "done": 1}, lambda: str(node.states("jobs")))


@pytest.fixture(scope="module")
def jumping_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run([tool("gcc"), "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("days", [2, -2])
def test_the_clock_jumps(days: int, jumping_clock: Path, pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 6, uids=(study, new_uid()))
    jump_file = tmp_path / "jump"
    jump_file.write_text("0")
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs, quiet_s=3)) as node:
        node.environment = {"LD_PRELOAD": str(jumping_clock), "JUMP_FILE": str(jump_file)}
        node.start()
        assert storescu(files[:3], node.port)
        jump_file.write_text(str(days * 86400))
        assert storescu(files[3:], node.port)
        node.wait_done()
        whole(node, pacs, study, files)
        first, *_, last = node.rows("SELECT received_at FROM instances ORDER BY id")
        assert (last["received_at"] > first["received_at"]) == (days > 0), "the clock did jump"
        assert len(node.rows("SELECT id FROM jobs")) == 1, "the jump was not taken for quiet"
        assert node.stop() == 0


def test_the_database_is_locked_for_a_while(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        with closing(sqlite3.connect(node.data / "node.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert not storescu(files[:1], node.port), "no success without a row"
            other.execute("ROLLBACK")
        assert node.rows("SELECT id FROM instances") == []
        assert storescu(files, node.port)
        node.wait_done()
        whole(node, pacs, study, files)


def test_the_disk_is_full_and_then_it_is_not(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 8, uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.data.mkdir(parents=True)
        small = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(node.data)]
        if os.geteuid() != 0 or subprocess.run(small, capture_output=True, check=False).returncode:
            pytest.skip("a small file system cannot be mounted here")
        try:
            node.more = {"disk": {"reserve_mb": 6, "resume_mb": 7}}
            node.start()
            filler = node.data / "filler"
            filler.write_bytes(b"\0" * (6 * 2**20))
            assert not storescu(files, node.port)
            assert node.rows("SELECT id FROM instances") == []
            refused = until(lambda: node.rows("SELECT reason FROM refusals WHERE status = 'busy'"))
            assert "MB would be left" in refused[0]["reason"]
            filler.unlink()
            assert storescu(files, node.port)
            node.wait_done()
            whole(node, pacs, study, files)
            assert node.stop() == 0
        finally:
            if not node.ended():
                node.kill()
            unmount(node.data)


def test_stopped_in_the_middle_of_a_series_it_goes_on_after(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 60, uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu(files, node.port)
        until(lambda: node.states("jobs").get("running"), lambda: node.log[-3000:])
        assert node.stop() == 0
        assert '"node.stopped"' in node.log
        assert "running" not in node.states("jobs")
        node.start()
        node.wait_done()
        whole(node, pacs, study, files)


def test_two_nodes_cannot_share_a_folder(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        other = NodeUnderTest(tmp_path / "other", bundle, pacs)
        other.more = {"data": str(node.data)}
        with stopped_at_the_end(other):
            until(lambda: start_fails(other))
            assert "in use by another node" in other.log


def start_fails(node: NodeUnderTest) -> bool:
    node.start()
    return node.ended()


def test_the_worker_is_killed_and_comes_again(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", 60, uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu(files, node.port)
        until(lambda: node.states("jobs").get("running"), lambda: node.log[-3000:])
        assert node.process is not None
        listed = subprocess.run(["pgrep", "-P", str(node.process.pid)], capture_output=True, text=True, check=True)
        (worker,) = listed.stdout.split()
        os.kill(int(worker), signal.SIGKILL)
        node.wait_done()
        whole(node, pacs, study, files)
        assert not node.ended(), "the receiver was never away"
