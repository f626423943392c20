"""By what a changed file is known: cheaply by what the file system says of it, and surely by its bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

BLOCK = 2**20


def fingerprint_of(paths: Iterable[Path]) -> str:
    """Names, sizes, times of change and inodes, as SHA-256: equal means unchanged, another one means "look again".

    The time of the inode's change is among them, which no program can set back; the device is not, as each machine of a
    cluster has a number of its own for the same disk.

    Args:
        paths: in any order; one that cannot be asked counts as gone.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(os.fsencode(path) + b"\0" + _state(path).encode() + b"\0")
    return digest.hexdigest()


def _state(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return "gone"
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of the SHA-256 of each file, in the order of their names; where they lie does not count.

    Args:
        paths: in any order.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda one: (one.name, one)):
        content = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                content.update(block)
        digest.update(os.fsencode(path.name) + b"\0" + content.digest())
    return digest.hexdigest()
