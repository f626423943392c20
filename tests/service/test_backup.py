"""``iscl-monai node backup``, ``restore`` and ``status``."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from service.peers import House, peer
from service.receiving import free_port
from service.rows import Place, rows_of
from sqlalchemy import select
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.errors import OutputRefusal, Refusal, StoreUnavailable
from iscl_monai.service.backup import COPIED, MANIFEST, SETTINGS, back_up, restore
from iscl_monai.service.database.migrate import migrate, revision_of
from iscl_monai.service.database.store import DATABASE, Store
from iscl_monai.service.database.tables import audit
from iscl_monai.service.node import Node
from iscl_monai.service.sending import pausing
from iscl_monai.service.settings_file import read_settings
from iscl_monai.service.status import status_of
from iscl_monai.service.web.sessions import KEY_FILE, session_key


def settings_file(folder: Path, data: Path) -> Path:
    path = folder / "node.toml"
    peers = f'[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    rules = '[[rules]]\nname = "all"\nsend_to = ["pacs"]\n'
    text = f'data = "{data}"\nbundle = "{folder}"\n{peers}{rules}[disk]\nreserve_mb = 1\nresume_mb = 1\n'
    web = f"[web]\nport = {free_port()}\n[node]\nport = {free_port()}\n"
    path.write_text(text + web, encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "data")
    session_key(place.settings.data)
    with place.store.writing() as change:
        change.note("anna", "before", "")
    return place


@pytest.fixture
def settings(tmp_path: Path, place: Place) -> Path:
    return settings_file(tmp_path, tmp_path / "data")


def notes(data: Path) -> list[str]:
    store = Store(data)
    try:
        return [row["action"] for row in rows_of(store, select(audit))]
    finally:
        store.close()


def moved(settings: Path, data: Path) -> Path:
    """The same settings with another data folder."""
    other = settings.with_name("other.toml")
    text = settings.read_text().replace(f'data = "{read_settings(settings).data}"', f'data = "{data}"')
    other.write_text(text)
    return other


def test_a_database_that_is_written_meanwhile_is_copied_whole(place: Place, settings: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with place.store.writing() as change:
                change.note("writer", "during", "")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = back_up(place.settings.data, settings, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    data = restore(tmp_path / "copy", moved(settings, tmp_path / "new"))
    assert notes(data)[0] == "before"
    assert (data / KEY_FILE).read_bytes() == (place.settings.data / KEY_FILE).read_bytes()
    assert revision_of(data / DATABASE) == made.revision == migrate(data)
    assert not {path.name for path in (tmp_path / "copy").iterdir()} - {*COPIED, SETTINGS, MANIFEST}
    for path in (*(tmp_path / "copy").iterdir(), *data.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_settings_come_back_where_there_are_none(place: Place, settings: Path, tmp_path: Path) -> None:
    back_up(place.settings.data, settings, tmp_path / "copy")
    place.store.close()
    place.settings.data.rename(tmp_path / "lost")
    text = settings.read_text()
    settings.unlink()
    assert restore(tmp_path / "copy", settings) == place.settings.data
    assert settings.read_text() == text


def test_nothing_that_is_there_is_written_over(place: Place, settings: Path, tmp_path: Path) -> None:
    back_up(place.settings.data, settings, tmp_path / "copy")
    before = (place.settings.data / DATABASE).read_bytes()
    with pytest.raises(OutputRefusal):
        restore(tmp_path / "copy", settings)
    assert (place.settings.data / DATABASE).read_bytes() == before
    with pytest.raises(OutputRefusal):
        back_up(place.settings.data, settings, tmp_path / "copy")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def forge(backup: Path, statement: str) -> None:
    """Change the copy, and its digest with it."""
    import hashlib

    with closing(sqlite3.connect(backup / DATABASE)) as database, database:
        database.execute(statement)
    manifest = json.loads((backup / MANIFEST).read_text())
    manifest["sha256"][DATABASE] = hashlib.sha256((backup / DATABASE).read_bytes()).hexdigest()
    (backup / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda backup: flip(backup / DATABASE), "not what was written"),
        (lambda backup: (backup / KEY_FILE).unlink(), "absent"),
        (lambda backup: (backup / MANIFEST).unlink(), "no backup of a node"),
        (lambda backup: (backup / MANIFEST).write_text("[]"), "no backup of a node"),
        (lambda backup: (backup / MANIFEST).write_text("{"), "no backup of a node"),
        (lambda backup: forge(backup, "UPDATE alembic_version SET version_num = '9999'"), "9999"),
        (lambda backup: forge(backup, "DROP TABLE alembic_version"), "of no version"),
    ],
)
def test_what_is_not_whole_or_not_known_is_not_restored(
    break_it: Any, reason: str, place: Place, settings: Path, tmp_path: Path
) -> None:
    back_up(place.settings.data, settings, tmp_path / "copy")
    break_it(tmp_path / "copy")
    with pytest.raises(Refusal, match=reason):
        restore(tmp_path / "copy", moved(settings, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_damaged_index_is_found(place: Place, settings: Path, tmp_path: Path) -> None:
    """quick_check would not see it."""
    back_up(place.settings.data, settings, tmp_path / "copy")
    forge(tmp_path / "copy", "INSERT INTO users VALUES ('x', '', '', '', '')")
    with closing(sqlite3.connect(tmp_path / "copy" / DATABASE, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema=ON")
        database.execute("DELETE FROM sqlite_master WHERE name = 'jobs_by_state'")
    forge(tmp_path / "copy", "PRAGMA user_version")
    with pytest.raises(StoreUnavailable, match="damaged"):
        restore(tmp_path / "copy", moved(settings, tmp_path / "new"))


def test_a_node_starts_on_what_was_restored(place: Place, settings: Path, tmp_path: Path) -> None:
    back_up(place.settings.data, settings, tmp_path / "copy")
    other = moved(settings, tmp_path / "new")
    restore(tmp_path / "copy", other)
    node = Node(read_settings(other))
    node.stop()
    assert notes(tmp_path / "new") == ["before"]


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in ("node", *words)])


def test_the_commands(place: Place, settings: Path, tmp_path: Path) -> None:
    done = command("backup", tmp_path / "copy", "--config", settings)
    assert done.exit_code == 0, done.output
    assert f"form {revision_of(place.settings.data / DATABASE)}" in done.output
    refused = command("restore", tmp_path / "copy", "--config", settings)
    assert refused.exit_code == 2
    done = command("restore", tmp_path / "copy", "--config", moved(settings, tmp_path / "new"))
    assert done.exit_code == 0, done.output
    nothing = command("backup", tmp_path / "copy2", "--config", moved(settings, tmp_path / "nowhere"))
    assert nothing.exit_code == 2
    assert not (tmp_path / "copy2").exists()


def test_status_of_a_node_that_does_not_run(tmp_path: Path) -> None:
    house = House(tmp_path / "data", peer())
    house.job(2)
    house.job(1, state="held")
    with house.store.writing() as change:
        pausing.pause(change, "pacs", "anna")
    path = settings_file(tmp_path, tmp_path / "data")
    shown = command("status", "--config", path)
    assert shown.exit_code == 3
    assert "node: not running" in shown.output
    assert "destination pacs: 2 deliveries wait; paused by anna" in shown.output
    found = json.loads(command("status", "--config", path, "--json").output)
    assert found["needs_a_person"] == 1
    assert found["jobs"]["sending"] == 1
    assert found["running"] is found["well"] is False


def test_status_of_a_running_node_asks_it_and_disturbs_it_not(place: Place, settings: Path) -> None:
    place.store.close()
    node = Node(read_settings(settings))
    try:
        unanswered = status_of(read_settings(settings))
        assert (unanswered.running, unanswered.health) == (True, "no answer")
        node.web.start()
        found = status_of(read_settings(settings))
        assert found.running
        assert found.health == "failing", "nothing else of it was started"
        assert "worker" in found.unwell
    finally:
        node.stop()
    assert not status_of(read_settings(settings)).running


def test_status_without_a_database_is_refused(tmp_path: Path) -> None:
    done = command("status", "--config", settings_file(tmp_path, tmp_path / "data"))
    assert done.exit_code == 2
    assert not (tmp_path / "data").exists()
