"""Transactions, the table of states, and migrations."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.rows import Place, rows_of, scan
from sqlalchemy import JSON, Enum, Table, inspect, select

from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database import migrate as migration
from iscl_monai.service.database import rows, tables
from iscl_monai.service.database import store as module
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.states import MACHINES, JobState
from iscl_monai.service.database.store import DATABASE, Move, Store
from iscl_monai.service.database.tables import jobs, metadata, series


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data")


def add_job(place: Place, state: str) -> int:
    with place.store.writing() as change:
        row = change.add(
            series, study_uid="1.2", series_uid=f"1.{add_job.count}", state="settled", tags={}, first_at="", last_at=""
        )
        add_job.count += 1
        named = {"rule": "r", "strength": "1", "send_to": [], "created_at": "", "updated_at": ""}
        return change.add(jobs, series_id=row, state=state, **named)


add_job.count = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("before", sorted(MACHINES["jobs"].ways))
def test_only_the_ways_of_the_table_can_be_gone(before: str, place: Place) -> None:
    for after in MACHINES["jobs"].ways:
        job = add_job(place, before)
        if MACHINES["jobs"].allows(before, after):
            with place.store.writing() as change:
                assert change.move(jobs, job, after) == before
        else:
            with pytest.raises(NotAllowedNow, match=before), place.store.writing() as change:
                change.move(jobs, job, after)
        (row,) = rows_of(place.store, select(jobs.c.state).where(jobs.c.id == job))
        assert row["state"] == (after if MACHINES["jobs"].allows(before, after) else before)


def test_every_state_is_reached_and_every_end_is_meant() -> None:
    for machine in MACHINES.values():
        reached = {after for following in machine.ways.values() for after in following}
        begins = set(machine.ways) - reached
        assert reached <= set(machine.ways)
        assert len(begins) <= 1, begins
    assert MACHINES["jobs"].ends == {"done", "superseded"}
    assert MACHINES["deliveries"].ends == {"confirmed"}


def test_a_worker_that_lost_its_claim_cannot_finish(place: Place) -> None:
    job = add_job(place, "queued")
    with place.store.writing() as change:
        change.move(jobs, job, "running", claim="new")
    with pytest.raises(NotAllowedNow, match="another worker"), place.store.writing() as change:
        change.move(jobs, job, "sending", held_by="old")
    with place.store.writing() as change:
        change.move(jobs, job, "sending", held_by="new")


def test_a_block_that_fails_leaves_no_trace_and_tells_nobody_that_it_happened(place: Place) -> None:
    job = add_job(place, "queued")
    moves: list[tuple[Move, bool]] = []
    place.store.observe(lambda move, committed: moves.append((move, committed)))

    def fail_half_way() -> None:
        with place.store.writing() as change:
            change.move(jobs, job, "running")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [committed for _, committed in moves] == [False]
    assert rows_of(place.store, select(jobs.c.state)) == [{"state": "queued"}]
    with place.store.writing() as change:
        change.move(jobs, job, "running")
    assert moves[-1] == (Move("jobs", job, "queued", "running"), True)


def test_what_is_committed_is_on_the_disk(place: Place) -> None:
    with place.store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with place.store.writing() as change:
        assert change.connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert change.connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_database_held_by_another_is_told_and_works_again_after(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_MS", 50)
    impatient = Store(tmp_path / "data")
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"), impatient.writing() as change:
            change.note("me", "anything", "x")
        other.execute("ROLLBACK")
    with impatient.writing() as change:
        change.note("me", "anything", "x")


def test_readers_do_not_wait_for_a_writer(place: Place) -> None:
    job = add_job(place, "queued")
    with place.store.writing() as change:
        change.move(jobs, job, "running")
        assert rows_of(place.store, select(jobs.c.state)) == [{"state": "queued"}]


def test_migrations_make_what_the_tables_say(place: Place) -> None:
    """A column added in tables.py without a migration fails here."""
    with place.store.reading() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {
                column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table.name)
            }
            assert columns == {column.name: (str(column.type), column.nullable) for column in table.columns}
            indexes = {index["name"] for index in found.get_indexes(table.name)}
            assert {str(index.name) for index in table.indexes} <= indexes
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}


@pytest.mark.parametrize("statement", range(1, 24, 4))
def test_killed_while_it_migrates_it_begins_anew(statement: int, tmp_path: Path) -> None:
    script = f"""
import os, sqlalchemy.event, sqlalchemy.engine
count = 0
@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "after_cursor_execute")
def after(*_):
    global count
    count += 1
    if count == {statement}:
        os._exit(9)
from pathlib import Path
from iscl_monai.service.database.migrate import migrate
migrate(Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 9, "there are fewer statements now"
    assert migrate(tmp_path) == migrate(tmp_path)


def test_migrating_again_changes_nothing(place: Place, tmp_path: Path) -> None:
    add_job(place, "queued")
    migrate(tmp_path / "data")
    assert len(rows_of(place.store, select(jobs))) == 1
    assert [path.name for path in (tmp_path / "data").glob("*.before-*")] == []


def test_a_newer_database_is_refused_and_left_alone(place: Place, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="9999"):
        migrate(tmp_path / "data")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 80_000), damage=st.binary(min_size=200, max_size=4000))
def test_a_damaged_database_is_refused_or_whole(at: int, damage: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    if not folder.exists():
        place = Place(folder)
        place.take(scan(tmp_path / "s"))
        place.store.close()
        with closing(sqlite3.connect(folder / DATABASE)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (folder / "whole").write_bytes((folder / DATABASE).read_bytes())
    whole = bytearray((folder / "whole").read_bytes())
    at = at % max(1, len(whole) - len(damage))
    whole[at : at + len(damage)] = damage
    for leftover in folder.glob(f"{DATABASE}*"):
        leftover.unlink()
    (folder / DATABASE).write_bytes(whole)
    with suppress(StoreUnavailable):  # in one line; no other exception may come
        migrate(folder)


def test_an_upgrade_keeps_a_copy(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_job(place, "queued")
    place.store.close()
    scripts = copy_migrations(tmp_path / "migrations")
    present = max(path.name[:4] for path in migration.MIGRATIONS.glob("versions/*.py"))
    (scripts / "versions" / "9000_next.py").write_text(
        f"from alembic import op\nimport sqlalchemy as sa\nrevision = '9000'\ndown_revision = '{present}'\n"
        "def upgrade():\n    op.add_column('jobs', sa.Column('more', sa.Text))\n"
    )
    monkeypatch.setattr(migration, "MIGRATIONS", scripts)
    assert migrate(tmp_path / "data") == "9000"
    with closing(sqlite3.connect(tmp_path / "data" / f"{DATABASE}.before-9000")) as copy:
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == (present,)


def copy_migrations(scripts: Path) -> Path:
    (scripts / "versions").mkdir(parents=True)
    for path in [*migration.MIGRATIONS.glob("*.*"), *migration.MIGRATIONS.glob("versions/*.py")]:
        (scripts / path.relative_to(migration.MIGRATIONS)).write_bytes(path.read_bytes())
    return scripts


def test_jobs_of_the_first_version_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = copy_migrations(tmp_path / "migrations")
    for later in (scripts / "versions").glob("*.py"):
        if not later.name.startswith("0001"):
            later.unlink()
    with monkeypatch.context() as first:
        first.setattr(migration, "MIGRATIONS", scripts)
        assert migrate(tmp_path) == "0001"
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("INSERT INTO series VALUES (1, '1.2', '1.3', 'settled', '', '{}', '', '', NULL)")
        values = "1, 1, 'queued', 'r', '1', 1, '[]', 0, '', 0, '', '', '', '', '', NULL, NULL, '', ''"
        database.execute(f"INSERT INTO jobs VALUES ({values})")
    migrate(tmp_path)
    store = Store(tmp_path)
    (job,) = store.read(rows.JobRow, select(jobs))
    store.close()
    assert (job.state, job.hold_unlike) == (JobState.QUEUED, 0)


ROWS = {
    rows.SeriesRow: tables.series,
    rows.InstanceRow: tables.instances,
    rows.JobRow: tables.jobs,
    rows.DeliveryRow: tables.deliveries,
    rows.CommitmentRow: tables.commitments,
    rows.RefusalRow: tables.refusals,
    rows.AuditRow: tables.audit,
}


@pytest.mark.parametrize(("kind", "table"), ROWS.items(), ids=lambda one: getattr(one, "name", None))
def test_rows_have_the_columns_of_their_tables(kind: type, table: Table) -> None:
    """Names, order, types, and whether a column may be empty: what mypy believes is what the database holds."""
    types = get_type_hints(kind)
    assert [field.name for field in fields(kind)] == [column.name for column in table.columns] == list(types)
    for column in table.columns:
        declared = types[column.name]
        assert column.nullable == (type(None) in get_args(declared)), column
        if not isinstance(column.type, JSON):  # which holds lists and dictionaries
            held = column.type.enum_class if isinstance(column.type, Enum) else column.type.python_type
            assert held in (declared, *get_args(declared)), column


def test_a_state_that_nobody_knows_is_neither_written_nor_read(place: Place) -> None:
    with pytest.raises(Exception, match="done_for"), place.store.writing() as change:
        change.execute(jobs.update().values(state=JobState("done_for")))
    job = add_job(place, "queued")
    with closing(sqlite3.connect(place.store.data / DATABASE)) as database, database:
        assert database.execute("SELECT state FROM jobs").fetchall() == [("queued",)]  # the text, not the name
        database.execute("UPDATE jobs SET state = 'odd'")
    with pytest.raises(LookupError, match="odd"):
        place.store.read(rows.JobRow, select(jobs).where(jobs.c.id == job))
