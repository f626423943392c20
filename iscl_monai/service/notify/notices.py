"""Causes that people hear of: since when, until when, and which channel has announced them already.

They are kept in the database, so that a restart tells nobody twice and forgets no end. While it cannot be written,
which is a cause itself, they are kept in memory alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import Store, now
from iscl_monai.service.database.tables import notices
from iscl_monai.service.notify.causes import Cause, is_certain

NOTHING, BEGINNING, END = 0, 1, 2  # what a channel has announced of a notice


@dataclass
class Notice:
    """A row of ``notices``, or what will be one.

    Args:
        cause: key of the cause.
        sentence: as it was when it began.
        opened_at: UTC.
        resolved_at: UTC; "" while it lasts.
        announced: by channel, how much of it has been announced.
    """

    cause: str
    sentence: str
    opened_at: str
    resolved_at: str = ""
    announced: dict[str, int] = field(default_factory=dict)

    def is_unannounced(self, channel: str) -> bool:
        """Whether a channel has something to say about it."""
        return self.announced.get(channel, NOTHING) < (END if self.resolved_at else BEGINNING)


@dataclass(frozen=True)
class Batch:
    """What one message is about.

    Args:
        opened: what needs a person now.
        resolved: what is over.
    """

    opened: tuple[Notice, ...]
    resolved: tuple[Notice, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.opened or self.resolved)


class NoticeBoard:
    """Remembers causes, and which channel has announced them; several threads use it.

    Args:
        store: the database.
        channels: names of those who tell people.
        after_s: how long an uncertain cause must last, or be over, before anybody is told.
        clock: monotonic, in seconds.
    """

    def __init__(self, store: Store, channels: Sequence[str], after_s: float, clock: Callable[[], float]) -> None:
        self.store = store
        self.channels = tuple(channels)
        self.after_s = after_s
        self.clock = clock
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}  # causes that do not last long enough yet
        self._over: dict[str, float] = {}  # open ones that have been over for some time
        columns = (notices.c.cause, notices.c.sentence, notices.c.opened_at, notices.c.resolved_at, notices.c.announced)
        self._notices = store.read(Notice, select(*columns).order_by(notices.c.id))
        self._saved: list[dict[str, Any]] = [dict(vars(one)) for one in self._notices]

    def update(self, causes: Iterable[Cause]) -> None:
        """Open and resolve notices.

        Args:
            causes: all there are now.
        """
        present = {cause.key: cause for cause in causes}
        with self._lock:
            lasting = {notice.cause: notice for notice in self._notices if not notice.resolved_at}
            new = {key: cause for key, cause in present.items() if key not in lasting}
            self._begun = {key: self._begun.get(key, self.clock()) for key in new}
            for key, cause in new.items():
                if is_certain(key) or self.clock() - self._begun[key] >= self.after_s:
                    self._notices.append(Notice(key, cause.sentence, now()))
            gone = [key for key in lasting if key not in present]
            self._over = {key: self._over.get(key, self.clock()) for key in gone}
            for key in gone:
                if is_certain(key) or self.clock() - self._over[key] >= self.after_s:
                    lasting[key].resolved_at = now()
            self._save()

    def batch(self, channel: str) -> Batch:
        """What a channel has not announced yet. That it is dead itself, it could not announce."""
        with self._lock:
            others = [one for one in self._notices if one.cause != f"part notify {channel}"]
            due = [one for one in others if one.is_unannounced(channel)]
            opened, resolved = ([one for one in due if bool(one.resolved_at) is over] for over in (False, True))
            return Batch(tuple(opened), tuple(resolved))

    def mark_announced(self, channel: str, batch: Batch) -> None:
        """A channel has announced a batch."""
        with self._lock:
            for level, announced in ((BEGINNING, batch.opened), (END, batch.resolved)):
                for notice in announced:
                    notice.announced = {**notice.announced, channel: level}
            self._save()

    def open_count(self) -> int:
        """How many causes there are."""
        with self._lock:
            return sum(1 for notice in self._notices if not notice.resolved_at)

    def _save(self) -> None:
        """Forget what everybody knows to be over, and write the others; they are few."""
        self._notices = [one for one in self._notices if not one.resolved_at or not self._is_announced_everywhere(one)]
        rows = [vars(one) for one in self._notices]
        if rows == self._saved:
            return
        with suppress(StoreUnavailable):  # in memory they are kept all the same, and written the next time
            with self.store.writing() as change:
                change.execute(notices.delete())
                if rows:
                    change.execute(notices.insert().values(rows))
            self._saved = [dict(row) for row in rows]

    def _is_announced_everywhere(self, notice: Notice) -> bool:
        others = (channel for channel in self.channels if notice.cause != f"part notify {channel}")
        return all(notice.announced.get(channel, NOTHING) == END for channel in others)
