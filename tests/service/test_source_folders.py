"""A new folder's own name is durable before anything in it is acknowledged, also if it was removed and made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from service.receiving import receiving, settings_of, slices

from iscl_monai.service.receiving import source_folders
from iscl_monai.service.receiving.examination import examine, flush_and_digest
from iscl_monai.service.receiving.source_folders import SourceFolders

SERIES = ("1.2.3", "1.2.3.4")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders whose names were made durable, in order."""
    found: list[Path] = []
    monkeypatch.setattr(source_folders, "sync_folder", found.append)
    return found


def move_in(folders: SourceFolders, tmp_path: Path, number: int) -> Path:
    part = tmp_path / f"{number}.part"
    part.write_bytes(b"object")
    return folders.move_in(part, SERIES, f"1.2.3.4.{number}")


def test_the_root_is_made_durable_once_for_each_new_folder(synced: list[Path], tmp_path: Path) -> None:
    folders = SourceFolders(tmp_path)
    assert synced == [folders.root], "what a killed process had made may not be durable"
    synced.clear()
    for number in range(2):
        folders.sync(move_in(folders, tmp_path, number).parent)
    (folder,) = folders.root.iterdir()
    assert synced == [folder, folders.root, folder]


def test_a_folder_that_was_removed_is_made_durable_again(synced: list[Path], tmp_path: Path) -> None:
    folders = SourceFolders(tmp_path)
    path = move_in(folders, tmp_path, 1)
    folders.sync(path.parent)
    path.unlink()
    path.parent.rmdir()  # as retention does
    synced.clear()
    folders.sync(move_in(folders, tmp_path, 2).parent)
    assert synced == [path.parent, folders.root]


def test_a_folder_made_again_while_its_name_is_flushed_is_not_taken_for_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    folders = SourceFolders(tmp_path)
    path = move_in(folders, tmp_path, 1)

    def sync(folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 2:  # the root, for the first folder
            path.unlink()
            path.parent.rmdir()
            move_in(folders, tmp_path, 2)

    monkeypatch.setattr(source_folders, "sync_folder", sync)
    folders.sync(path.parent)
    folders.sync(path.parent)
    assert synced.count(folders.root) == 2


def test_an_object_has_one_digest_whatever_way_it_comes(tmp_path: Path) -> None:
    """By C-STORE it is made while the object comes in, else of the file."""
    (file,) = slices(tmp_path / "scan", 1, rows=64, columns=64)
    (tmp_path / "data").mkdir()
    with receiving(settings_of(tmp_path / "data")) as door:
        (status,) = door.send(file)
        assert status.Status == 0x0000
        part = door.intake.new_part()
        part.write_bytes(file.read_bytes())
        (row,) = door.rows()
        assert row["sha256"] == flush_and_digest(part, examine(part, None, None, 2**20))
