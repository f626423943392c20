"""Objects that come in together are committed together, and none of them pays for another one's fault."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service.receiving import until
from sqlalchemy import JSON, bindparam, column, insert, select, table

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.group_commit import GroupCommit
from iscl_monai.service.database.migrate import migrate
from iscl_monai.service.database.prepared import Prepared
from iscl_monai.service.database.states import SeriesState
from iscl_monai.service.database.store import DATABASE, Change, Move, Store
from iscl_monai.service.database.tables import audit, series

GROUP = 6


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows, which takes a while to make."""
    folder = tmp_path_factory.mktemp("migrated")
    migrate(folder)
    return folder / DATABASE


@pytest.fixture
def store(migrated: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(migrated, tmp_path / DATABASE)
    store = Store(tmp_path)
    yield store
    store.close()


def note(change: Change, item: str) -> str:
    change.note("test", "group", item)
    return f"{item} written"


def noted(store: Store) -> list[str]:
    return sorted(store.values(select(audit.c.object)))


@contextmanager
def counted_transactions(store: Store) -> Iterator[list[Change]]:
    """The transactions that were begun."""
    begun: list[Change] = []
    writing = store.writing

    @contextmanager
    def counting() -> Iterator[Change]:
        with writing() as change:
            begun.append(change)
            yield change

    store.writing = counting  # type: ignore[method-assign]
    try:
        yield begun
    finally:
        store.writing = writing  # type: ignore[method-assign]


def submit_together(store: Store, write: Callable[[Change, str], str], items: list[str]) -> dict[str, Any]:
    """What each item got, when all of them were waiting before the first was written."""
    group: GroupCommit[str, str] = GroupCommit(store, write)
    outcomes: dict[str, Any] = {}

    def submit(item: str) -> None:
        try:
            outcomes[item] = group.submit(item)
        except Exception as error:
            outcomes[item] = error

    with group._turn:  # as if another group was being written
        threads = [threading.Thread(target=submit, args=(item,)) for item in items]
        for thread in threads:
            thread.start()
        until(lambda: len(group._queue) == len(items))
    for thread in threads:
        thread.join()
    return outcomes


ITEMS = [f"item {number}" for number in range(GROUP)]


def test_what_waits_together_is_one_transaction(store: Store) -> None:
    with counted_transactions(store) as begun:
        outcomes = submit_together(store, note, ITEMS)
    assert outcomes == {item: f"{item} written" for item in ITEMS}
    assert noted(store) == ITEMS
    assert len(begun) == 1


def test_more_than_a_group_may_hold_are_written_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_monai.service.database.group_commit.MOST_IN_A_GROUP", 2)
    with counted_transactions(store) as begun:
        submit_together(store, note, ITEMS)
    assert noted(store) == ITEMS
    assert len(begun) == GROUP / 2


@pytest.mark.parametrize("poisoned", [0, 3, GROUP - 1])
def test_one_poisoned_item_fails_alone_and_leaves_nothing(store: Store, poisoned: int) -> None:
    def write(change: Change, item: str) -> str:
        answer = note(change, item)
        if item == ITEMS[poisoned]:
            raise ValueError(item)
        return answer

    outcomes = submit_together(store, write, ITEMS)
    others = [item for item in ITEMS if item != ITEMS[poisoned]]
    assert isinstance(outcomes[ITEMS[poisoned]], ValueError)
    assert {item: outcomes[item] for item in others} == {item: f"{item} written" for item in others}
    assert noted(store) == others


@pytest.mark.parametrize("undone", [False, True], ids=["the transaction lives", "SQLite has undone it"])
def test_an_item_at_which_the_database_fails_does_so_alone(store: Store, undone: bool) -> None:
    """On a full disk SQLite takes back the whole transaction: what was written before is written again."""

    def write(change: Change, item: str) -> str:
        answer = note(change, item)
        if item == ITEMS[3]:
            if undone:
                change.connection.exec_driver_sql("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return answer

    outcomes = submit_together(store, write, ITEMS)
    others = [item for item in ITEMS if item != ITEMS[3]]
    assert isinstance(outcomes[ITEMS[3]], StoreUnavailable)
    assert noted(store) == others
    assert [outcomes[item] for item in others] == [f"{item} written" for item in others]


def test_a_transaction_that_is_gone_without_a_word_is_noticed(store: Store) -> None:
    """Else what had been written before would be acknowledged, and lost."""

    def write(change: Change, item: str) -> str:
        answer = note(change, item)
        if item == ITEMS[3]:
            change.connection.exec_driver_sql("ROLLBACK")
            raise MemoryError
        return answer

    outcomes = submit_together(store, write, ITEMS)
    assert isinstance(outcomes[ITEMS[3]], Exception)
    written = [item for item in ITEMS if isinstance(outcomes[item], str)]
    assert noted(store) == written == [item for item in ITEMS if item != ITEMS[3]]


def test_a_database_that_cannot_be_written_fails_all_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "writing", unavailable)
    outcomes = submit_together(store, note, ITEMS)
    assert all(isinstance(outcomes[item], StoreUnavailable) for item in ITEMS)
    assert noted(store) == []


@contextmanager
def unavailable() -> Iterator[Change]:
    raise StoreUnavailable("locked", allowed="a database that can be written", cure="wait")
    yield


def test_what_was_undone_is_told_to_no_observer(store: Store) -> None:
    told: list[Move] = []
    store.observe(lambda move, committed: told.append(move) if committed else None)

    def write(change: Change, item: str) -> str:
        uids = {"study_uid": item, "series_uid": item}
        more = {"tags": {}, "first_at": "", "last_at": ""}
        change.add(series, **uids, **more, state=SeriesState.RECEIVING)
        if item == ITEMS[0]:
            raise ValueError(item)
        return item

    submit_together(store, write, ITEMS)
    assert len(told) == len(store.values(select(series.c.id))) == GROUP - 1
    assert {move.row for move in told} == set(store.values(select(series.c.id)))


def test_an_observer_that_fails_after_the_commit_undoes_nothing(store: Store) -> None:
    def observe(_: Move, committed: bool) -> None:
        if committed:
            raise ValueError

    store.observe(observe)

    def write(change: Change, item: str) -> int:
        more = {"tags": {}, "first_at": "", "last_at": ""}
        return change.add(series, study_uid=item, series_uid=item, **more, state=SeriesState.RECEIVING)

    group: GroupCommit[str, int] = GroupCommit(store, write)
    assert group.submit("1.2") == store.values(select(series.c.id))[0]


def test_a_prepared_statement_refuses_what_the_driver_would_not_understand() -> None:
    some = table("some", column("tags", JSON))
    with pytest.raises(TypeError, match="tags"):
        Prepared(insert(some).values(tags=bindparam("tags", type_=JSON)))
