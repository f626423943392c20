"""Many threads write, one commit: what waits while the disk flushes one transaction goes into the next, together.

A commit has to wait for the disk, and takes most of the time that writing a row takes. Every thread still returns only
after the commit that has its row.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import Change, Store, is_about_the_database

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST_IN_A_GROUP = 64  # so that other writers wait no longer than for a few of them


@dataclass(eq=False)
class _Waiting(Generic[Item, Outcome]):
    """An item of a thread that waits for its commit."""

    item: Item
    outcome: Outcome | None = None
    error: BaseException | None = None
    ended: bool = False

    def fail(self, error: BaseException) -> None:
        self.outcome, self.error, self.ended = None, error, True


class GroupCommit(Generic[Item, Outcome]):
    """Writes items of many threads in common transactions.

    Args:
        store: the database.
        write: writes one item; what it has written is undone when it raises, and only this item fails.
    """

    def __init__(self, store: Store, write: Callable[[Change, Item], Outcome]) -> None:
        self._store = store
        self._write = write
        self._queue: deque[_Waiting[Item, Outcome]] = deque()
        self._turn = threading.Lock()

    def submit(self, item: Item) -> Outcome:
        """Write an item; returns after its commit.

        Raises:
            StoreUnavailable: the database cannot be written; nothing of the item is in it.
            Exception: what ``write`` raised for this item.
        """
        mine: _Waiting[Item, Outcome] = _Waiting(item)
        self._queue.append(mine)
        with self._turn:  # whoever had it before may have written ours
            while not mine.ended:
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_IN_A_GROUP))]
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        return mine.outcome  # type: ignore[return-value]

    def _commit(self, group: Sequence[_Waiting[Item, Outcome]]) -> None:
        """Write a group; each member has ended afterwards."""
        try:
            while waiting := [one for one in group if not one.ended]:  # each round ends one of them at least
                self._write_together(waiting)
        except BaseException as error:
            for one in group:
                if not one.ended:
                    one.fail(error)
            raise

    def _write_together(self, group: Sequence[_Waiting[Item, Outcome]]) -> None:
        """One transaction. When the database itself fails at one member, only this one ends, and nothing is written."""
        at: _Waiting[Item, Outcome] | None = None
        failed: list[tuple[_Waiting[Item, Outcome], Exception]] = []
        try:
            with self._store.writing() as change:
                for one in group:
                    at = one
                    try:
                        with change.savepoint():
                            one.outcome = self._write(change, one.item)
                    except Exception as fault:
                        if is_about_the_database(fault):
                            raise
                        failed.append((one, fault))
                at = None
        except StoreUnavailable as error:
            for one in group if at is None else [at]:
                one.fail(error)
            return
        for member, reason in failed:
            member.fail(reason)
        for one in group:
            one.ended = True
