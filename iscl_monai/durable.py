"""Files and folders that appear whole or not at all, and stay after the power has failed."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from iscl_monai.errors import OutputRefusal

PARTIAL = ".partial"


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """A folder to write into that takes the destination's name when the block ends well, and else is removed.

    Args:
        destination: absent, or an empty folder.

    Yields:
        A hidden folder beside the destination, on the same file system.

    Raises:
        OutputRefusal: when there is something at the destination, before or after.
    """
    with workshop(destination) as partial:
        yield partial
        with _refused_in_one_line(destination):
            partial.chmod(0o777 & ~_umask())  # it was made for its owner alone
            for folder, _, _ in os.walk(partial):
                sync_folder(Path(folder))
            partial.rename(destination)
            sync_folder(destination.parent)


@contextmanager
def workshop(destination: Path) -> Iterator[Path]:
    """A hidden folder beside a free destination, for as long as the block runs.

    What a killed run left there is removed by the next one.

    Raises:
        OutputRefusal: when there is something at the destination, or no folder can be made beside it.
    """
    check_free(destination)
    with _refused_in_one_line(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(destination)
        partial, lock = _locked_folder(destination)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already if it has become the destination
        os.close(lock)


@contextmanager
def resumable_folder(destination: Path, identity: str) -> Iterator[Path]:
    """As :func:`whole_folder`, but what an interrupted run left is found again by the next run of the same work.

    Args:
        destination: absent, or an empty folder.
        identity: letters and digits that tell this work from any other; what other work left is removed.

    Yields:
        A hidden folder beside the destination. Files in it must appear whole (:func:`finished_file`).

    Raises:
        OutputRefusal: when there is something at the destination, or another run is writing it.
    """
    check_free(destination)
    partial = destination.with_name(f".{destination.name}.{identity}{PARTIAL}")
    with _refused_in_one_line(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(destination, but=partial)
        partial.mkdir(exist_ok=True)
        try:
            lock = _lock(partial, wait=False)
        except BlockingIOError:
            raise OutputRefusal(
                f"{destination} is being made by another run", allowed="one run at a time", cure="wait for it"
            ) from None
    for unfinished in partial.glob(f"*{PARTIAL}"):
        unfinished.unlink()
    try:
        yield partial
        with _refused_in_one_line(destination):
            sync_folder(partial)
            partial.rename(destination)
            sync_folder(destination.parent)
    except BaseException:
        with suppress(OSError):  # nothing was finished, or it is worth keeping
            partial.rmdir()
        raise
    finally:
        os.close(lock)


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """Another name to write a file under, which gets its own when the block ends well."""
    unfinished = path.with_name(f"{path.name}{PARTIAL}")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def move_into_place(files: Mapping[Path, Path]) -> None:
    """Give finished files their names, the last one last; none of the names may be taken.

    Args:
        files: where each file is, and where it shall be; on one file system.

    Raises:
        OutputRefusal: a name is taken or cannot be made; files moved before are then removed again.
    """
    moved: list[Path] = []
    try:
        for source, destination in files.items():
            with _refused_in_one_line(destination):
                check_free(destination)
                source.rename(destination)
                moved.append(destination)
                sync_folder(destination.parent)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def whole_file(destination: Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces the destination when the block ends well, and else leaves it as it was.

    What a killed run left of the same file is removed by the next one.

    Yields:
        The open file, under a hidden name beside the destination.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftover_files(destination)
    temporary, lock = _locked_file(destination)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk the half file is what fills it
        raise
    finally:
        os.close(lock)
    sync_folder(destination.parent)


def check_free(destination: Path) -> None:
    """Refuse a destination that holds anything: nothing is ever overwritten.

    Raises:
        OutputRefusal: unless it is absent or an empty folder.
    """
    if destination.is_symlink() or (destination.exists() and not _is_empty_folder(destination)):
        raise OutputRefusal(
            f"{destination} exists",
            allowed="a name that is free, or an empty folder",
            cure="give another name, or remove it",
        )
    if os.path.ismount(destination):
        raise OutputRefusal(
            f"{destination} is a mount point, which cannot appear as a whole",
            allowed="a folder inside of it",
            cure=f"give e.g. {destination / 'denoised'}",
        )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a rename may be lost with the power."""
    if sys.platform == "win32":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextmanager
def _refused_in_one_line(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputRefusal(
            f"{destination} cannot be written ({error.strerror or error})",
            allowed="a place that can be written, with space left, and is still free at the end",
            cure="make room or give another place",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _locked_folder(destination: Path) -> tuple[Path, int]:
    while True:
        partial = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}.", suffix=PARTIAL))
        with suppress(FileNotFoundError):
            lock = _lock(partial)
            if partial.is_dir():
                return partial, lock
            os.close(lock)  # before it was locked, another run took it for a leftover


def _locked_file(destination: Path) -> tuple[Path, int]:
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}{PARTIAL}")
    while True:
        temporary.touch()
        with suppress(FileNotFoundError):
            lock = _lock(temporary)
            if temporary.exists():
                return temporary, lock
            os.close(lock)  # before it was locked, another run took it for a leftover


def _lock(path: Path, *, wait: bool = True) -> int:
    """Hold a lock for as long as this process lives: what is not locked is a leftover."""
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    import fcntl

    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    return handle


def remove_leftovers(destination: Path, *, but: Path | None = None) -> None:
    """Remove what killed runs left of a folder that never got its name; who still writes there keeps his.

    Args:
        destination: of :func:`whole_folder` or :func:`workshop`.
        but: what is not removed.
    """
    for leftover in destination.parent.glob(f".{glob.escape(destination.name)}.*{PARTIAL}"):
        if leftover != but and leftover.is_dir():
            _remove_unless_locked(leftover)


def _remove_leftover_files(destination: Path) -> None:
    for leftover in destination.parent.glob(f".{glob.escape(destination.name)}.*{PARTIAL}"):
        process = leftover.name[len(destination.name) + 2 : -len(PARTIAL)]
        if process.isdecimal() and leftover.is_file():  # else another destination's, with a longer name
            _remove_unless_locked(leftover)


def _remove_unless_locked(leftover: Path) -> None:
    if sys.platform == "win32":
        return
    # Gone meanwhile, another user's, or being written by another run.
    with suppress(FileNotFoundError, PermissionError, BlockingIOError):
        lock = _lock(leftover, wait=False)
        try:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()
        finally:
            os.close(lock)


def write_file(path: Path, write: Any) -> None:
    """Write a new file by ``write(file)`` and make its content durable; for files inside a :func:`whole_folder`.

    Args:
        path: the file; its folder exists.
        write: called with the open file.
    """
    with path.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
