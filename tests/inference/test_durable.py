"""Files and folders are whole or absent, whatever happens while they are made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iscl_monai import durable
from iscl_monai.durable import PARTIAL, check_free, move_into_place, whole_file, whole_folder, workshop, write_file
from iscl_monai.errors import OutputRefusal


class PulledPlugError(BaseException):
    """What no ``except Exception`` catches."""


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def broken(error: type[BaseException], words: str | None = None) -> Iterator[None]:
    with pytest.raises(error, match=words):
        yield


# --- a whole folder ---------------------------------------------------------------------------------


def test_a_folder_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "new" / "place" / "out"
    with whole_folder(target) as folder:
        assert folder.parent == target.parent
        assert folder.name.startswith(".out.")
        (folder / "below").mkdir()
        write_file(folder / "below" / "file", lambda file: file.write(b"content"))
        assert not target.exists()
    assert content(tmp_path) == {"new/place/out/below/file": b"content"}
    assert os.listdir(target.parent) == ["out"]


def test_a_folder_gets_the_rights_that_any_new_folder_has(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out"):
        pass
    (tmp_path / "other").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), PulledPlugError()])
def test_a_folder_that_was_not_finished_is_gone(tmp_path: Path, error: BaseException) -> None:
    with broken(type(error)), whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
        raise error
    assert os.listdir(tmp_path) == []


TAKEN: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.write_bytes(b"mine"),
    "a folder with something in it": lambda path: (path / "below").mkdir(parents=True),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to an empty folder": lambda path: path.symlink_to(path.parent / "empty"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_place_that_is_taken_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    TAKEN[kind](tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputRefusal, match="exists; allowed: a name that is free"), whole_folder(tmp_path / "out"):
        pytest.fail("nothing may be begun")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["a file", "a folder with something in it"])
def test_a_place_that_is_taken_meanwhile_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    with broken(OutputRefusal, "cannot be written"), whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
        TAKEN[kind](tmp_path / "out")
        before = sorted((tmp_path / "out").rglob("*"))
    assert os.listdir(tmp_path) == ["out"]
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_an_empty_folder_is_a_free_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert content(tmp_path) == {"out/file": b""}


def test_a_mount_point_is_no_free_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(OutputRefusal, match="mount point"):
        check_free(tmp_path / "out")


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputRefusal, match="file/out"), whole_folder(tmp_path / "file" / "out"):
        pytest.fail("nothing may be begun")


# --- what a kill leaves -----------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from iscl_monai.durable import workshop
with workshop(Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(destination: Path, work: str = HOLD) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in the middle of its work, and the folder or file it works in."""
    command = [sys.executable, "-c", work, str(destination)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_the_next_run_removes_what_a_kill_left_and_nothing_that_lives(tmp_path: Path) -> None:
    target = tmp_path / "out [1]*"
    with another_run(target) as (process, left):
        assert (left / "file").exists()
        with workshop(target) as folder:
            assert folder != left
            assert (left / "file").exists()  # its run lives
        assert (left / "file").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (left / "file").exists()
        # Another name, to which only a pattern that is not taken literally would belong.
        with workshop(tmp_path / "out 1"):
            assert (left / "file").exists()
        with workshop(target):
            assert not left.exists()
    assert os.listdir(tmp_path) == []


def test_what_another_run_takes_for_a_leftover_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of a folder and its lock another run may look for leftovers."""
    taken: list[Path] = []
    lock = durable._lock

    def late(folder: Path) -> int:
        if len(taken) < 2:
            taken.append(folder)
            if len(taken) == 1:
                folder.rmdir()  # before it is opened
                return lock(folder)
            handle = lock(folder)
            folder.rmdir()  # before it is locked
            return handle
        return lock(folder)

    monkeypatch.setattr(durable, "_lock", late)
    with whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert content(tmp_path) == {"out/file": b""}
    assert len(taken) == 2


def test_what_another_user_left_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, opened = tmp_path / f".out.theirs{PARTIAL}", os.open
    left.mkdir()

    def guarded(path: Path, flags: int) -> int:
        if path == left:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", guarded)
    with whole_folder(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == [left.name, "out"]


def test_other_things_with_such_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f".out.1{PARTIAL}").write_bytes(b"a file")
    (tmp_path / ".out.1").mkdir()
    with workshop(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".out.1", f".out.1{PARTIAL}"]


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "new" / "file"
    with whole_file(target) as file:
        file.write(b"first")
    with broken(type(error)), whole_file(target) as file:
        file.write(b"half of the sec")
        raise error
    assert content(tmp_path) == {"new/file": b"first"}
    with whole_file(target) as file:
        file.write(b"second")
    assert content(tmp_path) == {"new/file": b"second"}


HOLD_FILE = """
import sys
from pathlib import Path
from iscl_monai.durable import whole_file
with whole_file(Path(sys.argv[1])) as file:
    print(file.name, flush=True)
    sys.stdin.read()
"""


def test_the_next_writer_removes_what_a_kill_left_of_a_file_and_nothing_that_lives(tmp_path: Path) -> None:
    target = tmp_path / "model [1]*.json"
    resumable = tmp_path / f".{target.name}.page.0123{PARTIAL}"  # of another destination, with a longer name
    resumable.mkdir()
    with another_run(target, HOLD_FILE) as (process, left):
        with whole_file(target) as file:
            file.write(b"first")
        assert left.exists()  # its run lives
        process.send_signal(signal.SIGKILL)
        process.wait()
        with whole_file(tmp_path / "model 1.json"):
            assert left.exists()
        with whole_file(target) as file:
            assert not left.exists()
            file.write(b"second")
    assert content(tmp_path) == {target.name: b"second", "model 1.json": b""}
    assert resumable.exists()


def test_a_file_that_another_run_takes_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    lock = durable._lock

    def late(path: Path) -> int:
        if not taken:
            taken.append(path)
            handle = lock(path)
            path.unlink()
            return handle
        return lock(path)

    monkeypatch.setattr(durable, "_lock", late)
    with whole_file(tmp_path / "file") as file:
        file.write(b"content")
    assert content(tmp_path) == {"file": b"content"}
    assert len(taken) == 1


def test_a_new_file_overwrites_nothing(tmp_path: Path) -> None:
    write_file(tmp_path / "file", lambda file: file.write(b"first"))
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "file", lambda file: file.write(b"second"))
    assert content(tmp_path) == {"file": b"first"}


@pytest.mark.parametrize("taken", ["a", "b", "c"])
def test_files_get_their_names_all_or_none(tmp_path: Path, taken: str) -> None:
    for name in "abc":
        (tmp_path / f"made {name}").write_bytes(name.encode())
    (tmp_path / taken).write_bytes(b"mine")
    with pytest.raises(OutputRefusal, match=f"{taken} exists"):
        move_into_place({tmp_path / f"made {name}": tmp_path / name for name in "abc"})
    visible = {name: found for name, found in content(tmp_path).items() if not name.startswith("made")}
    assert visible == {taken: b"mine"}
    (tmp_path / taken).unlink()
    left = [name for name in "abc" if (tmp_path / f"made {name}").exists()]
    move_into_place({tmp_path / f"made {name}": tmp_path / name for name in left})
    assert content(tmp_path) == {name: name.encode() for name in left}


def test_an_empty_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "made").touch()
    (tmp_path / "file").mkdir()
    with pytest.raises(OutputRefusal, match="cannot be written"):
        move_into_place({tmp_path / "made": tmp_path / "file"})
    assert (tmp_path / "file").is_dir()


# --- a disk that takes no more ----------------------------------------------------------------------

FILL = """
import resource, sys
from pathlib import Path
from iscl_monai.durable import whole_folder, write_file
from iscl_monai.errors import OutputRefusal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with whole_folder(Path(sys.argv[1])) as folder:
    for index in range(10):
        write_file(folder / str(index), lambda file: file.write(bytes(300 * index)))
"""


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    # Coverage would want to write its own file under the limit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", FILL, str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith("OSError: [Errno 27] File too large")
    assert os.listdir(tmp_path) == []
