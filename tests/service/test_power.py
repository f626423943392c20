"""The power fails: what was never flushed is lost, and all that was acknowledged is there.

The data folder is an ext4 file system in a file. What that file holds is what has reached the "disk"; a copy of it,
taken while the node runs, is what a power failure would leave. The counter-test runs the same node with a library
that makes ``fsync`` do nothing: then acknowledged objects must be lost, or the test could not fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dicom.orthanc import Orthanc
from dicom.validators import absent
from service.rows import new_uid, scan
from service.whole import NodeUnderTest, derived_sources, sent_uids, stopped_at_the_end, storescu, unmount, until

WITHOUT_FSYNC = Path("/usr/lib/x86_64-linux-gnu/libeatmydata.so")
SLICES = 20


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    # Nothing is written back by itself while the test runs: what was not asked for stays in memory.
    done = subprocess.run(["mount", "-o", "loop,commit=600", image, place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        unmount(place)


def disk(folder: Path) -> Path:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("making a file system needs root and mkfs.ext4")
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    return image


def receive_and_fail(node: NodeUnderTest, image: Path, files: list[Path], failed: Path) -> int:
    """How many objects were acknowledged when the power failed."""
    node.start()
    acknowledged = sum(storescu([file], node.port) for file in files)
    shutil.copyfile(image, failed)
    node.kill()
    return acknowledged


def objects_on(node: NodeUnderTest) -> set[str]:
    """Those whose row and file are both whole."""
    found = node.rows("SELECT sop_instance_uid, file, size FROM instances")
    return {
        row["sop_instance_uid"]
        for row in found
        if (node.data / row["file"]).is_file() and (node.data / row["file"]).stat().st_size == row["size"]
    }


def test_what_was_acknowledged_survives_a_power_failure(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", SLICES, uids=(study, new_uid()))
    image, failed = disk(tmp_path), tmp_path / "failed"
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs, quiet_s=600)) as node:
        node.folder.mkdir()
        with mounted(image, node.data):
            assert receive_and_fail(node, image, files, failed) == SLICES
        with mounted(failed, node.data):
            node.quiet_s = 1.0
            node.start()
            assert objects_on(node) == sent_uids(files)
            node.wait_done()
            node.stop()
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))


def test_a_node_that_does_not_flush_loses_them(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    if not WITHOUT_FSYNC.exists():
        absent(f"{WITHOUT_FSYNC} does not exist; make tools installs eatmydata on Debian")
    files = scan(tmp_path / "scan", SLICES)
    image, failed = disk(tmp_path), tmp_path / "failed"
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs, quiet_s=600)) as node:
        node.folder.mkdir()
        node.environment = {"LD_PRELOAD": str(WITHOUT_FSYNC)}
        with mounted(image, node.data):
            assert receive_and_fail(node, image, files, failed) == SLICES
        with mounted(failed, node.data):
            there = objects_on(node) if (node.data / "node.sqlite").exists() and has_rows(node) else set()
            assert there < sent_uids(files)


def has_rows(node: NodeUnderTest) -> bool:
    import sqlite3

    try:
        return bool(node.rows("SELECT 1 FROM sqlite_master WHERE name = 'instances'"))
    except sqlite3.DatabaseError:
        return False


def test_derived_objects_and_their_states_survive_it_too(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    """Power fails when the work is done: nothing may be claimed that is not on the disk."""
    study = new_uid()
    files = scan(tmp_path / "scan", 4, uids=(study, new_uid()))
    image, failed = disk(tmp_path), tmp_path / "failed"
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.folder.mkdir()
        node.more = {"peers": [{**node.settings()["peers"][0], "port": 9}, *node.settings()["peers"][1:]]}
        with mounted(image, node.data):
            node.start()
            assert storescu(files, node.port)
            until(lambda: node.states("jobs").get("sending"), lambda: node.log[-4000:])
            shutil.copyfile(image, failed)
            node.kill()
        with mounted(failed, node.data):
            node.more = {}
            node.start()
            node.wait_done()
            node.stop()
    assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))
