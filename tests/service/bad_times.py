"""What goes wrong around a node: disks that are full or read-only, a locked database, an archive that says nothing."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from dicom.orthanc import Orthanc
from service.whole import NodeUnderTest, unmount

DISK_MB = 192


@contextlib.contextmanager
def small_disk(place: Path, image: Path) -> Iterator[None]:
    """A file system of its own, which may be filled without harm to anybody else.

    Raises:
        OSError: none can be mounted here.
    """
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(DISK_MB * 2**20)
    for command in (["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())
    try:
        yield
    finally:
        unmount(place)


@contextlib.contextmanager
def full_disk(node: NodeUnderTest, _: Orthanc) -> Iterator[None]:
    """Not a byte is left."""
    ballast = node.data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    try:
        yield
    finally:
        ballast.unlink()


def _immutable(*paths: Path) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    for path in paths:
        if path.exists():
            subprocess.run(["chattr", "+i", str(path)], check=True)
            stack.callback(subprocess.run, ["chattr", "-i", str(path)], check=False)
    return stack


@contextlib.contextmanager
def read_only_database(node: NodeUnderTest, _: Orthanc) -> Iterator[None]:
    """Not a row can be written, though the disk has room."""
    with _immutable(*(node.data / f"node.sqlite{end}" for end in ("", "-wal", "-shm"))):
        yield


@contextlib.contextmanager
def read_only_folder(node: NodeUnderTest, _: Orthanc) -> Iterator[None]:
    """No file can be made where objects come in."""
    with _immutable(node.data / "coming", node.data / "sources"):
        yield


@contextlib.contextmanager
def locked_database(node: NodeUnderTest, _: Orthanc) -> Iterator[None]:
    """Another process holds the lock."""
    with contextlib.closing(sqlite3.connect(node.data / "node.sqlite", timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def slow_pacs(_: NodeUnderTest, pacs: Orthanc) -> Iterator[None]:
    """It takes connections, and says nothing."""
    assert pacs.process is not None
    pacs.process.send_signal(19)  # SIGSTOP
    try:
        yield
    finally:
        pacs.process.send_signal(18)  # SIGCONT


Episode = Callable[[NodeUnderTest, Orthanc], contextlib.AbstractContextManager[None]]
EPISODES: dict[str, Episode] = {
    "full disk": full_disk,
    "read-only database": read_only_database,
    "read-only data folder": read_only_folder,
    "locked database": locked_database,
    "silent PACS": slow_pacs,
}
