"""After a crash the files are what the database says: no half ones, none that nobody acknowledged, none lost unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service.receiving import Door, opened, receiving, settings_of, slices
from service.rows import rows_of
from sqlalchemy import select, update

from iscl_monai.service.database.tables import audit, instances
from iscl_monai.service.working import recovery
from iscl_monai.service.working.recovery import FilesFound, recover_files


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Three objects were taken, and the node has ended."""
    (tmp_path / "node").mkdir()
    settings = settings_of(tmp_path / "node")
    with receiving(settings) as running:
        assert {answer.Status for answer in running.send(*slices(tmp_path / "sent", 3))} == {0}
    again = opened(settings)
    yield again
    again.store.close()


def files(door: Door) -> list[Path]:
    return [door.settings.data / row["file"] for row in door.rows()]


def recover(door: Door) -> FilesFound:
    return recover_files(door.store, door.settings.data)


def test_nothing_is_touched_when_all_is_well(door: Door) -> None:
    before = door.stored()
    assert recover(door) == FilesFound()
    assert door.stored() == before
    assert not door.rows(audit)


def test_what_had_not_come_in_whole_is_removed(door: Door) -> None:
    before = door.stored()
    coming = door.settings.data / "coming"
    (coming / "abc.part").write_bytes(b"half")
    (coming / "deeper").mkdir()
    (coming / "deeper" / "x").write_bytes(b"")
    assert recover(door) == FilesFound(unfinished=2)
    assert not door.leftovers()
    assert door.stored() == before


def test_what_nobody_acknowledged_is_removed(door: Door) -> None:
    before = door.stored()
    files(door)[0].with_name("other.dcm").write_bytes(b"renamed, and then the power failed")
    alone = door.settings.data / "sources" / "new" / "one.dcm"
    alone.parent.mkdir()
    alone.write_bytes(b"")
    assert recover(door) == FilesFound(unclaimed=2)
    assert door.stored() == before
    assert not door.leftovers()
    assert not alone.parent.exists()
    assert recover(door) == FilesFound()


def test_implausibly_many_are_left_alone_and_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the database is rather an older copy, and they may be all there is of what was acknowledged."""
    monkeypatch.setattr(recovery, "MOST_UNCLAIMED", 2)
    folder = files(door)[0].parent
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(b"")
    assert recover(door) == FilesFound(kept=3)
    assert len(door.leftovers()) == 3
    assert [row["action"] for row in door.rows(audit)] == ["files unclaimed"]


def test_lost_and_damaged_files_are_told(door: Door) -> None:
    first, second, _ = files(door)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    assert recover(door) == FilesFound(missing=1, damaged=1)
    values = {row["object"]: row["detail"].rpartition(" is ")[2] for row in door.rows(audit)}
    ids = [row["id"] for row in door.rows()]
    assert values == {f"instance {ids[0]}": "missing", f"instance {ids[1]}": "of another size"}
    assert len(door.rows()) == 3


def test_rows_whose_file_was_removed_on_purpose_are_no_loss(door: Door) -> None:
    from iscl_monai.service.database.tables import instances

    files(door)[0].unlink()
    with door.store.writing() as change:
        change.execute(instances.update().where(instances.c.id == 1).values(file=None))
    assert recover(door) == FilesFound()


def test_a_removal_that_was_interrupted_is_finished_however_large(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MOST_UNCLAIMED", 1)
    with door.store.writing() as change:
        change.execute(update(instances).values(file=None))
    assert recover(door) == FilesFound()
    assert not list((door.settings.data / "sources").rglob("*.dcm"))


def test_empty_folder_is_fine(tmp_path: Path) -> None:
    door = opened(settings_of(tmp_path))
    assert recover(door) == FilesFound()
    assert not rows_of(door.store, select(audit))
    door.store.close()
