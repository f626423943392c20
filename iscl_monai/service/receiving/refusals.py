"""What was not taken: counted in memory, whatever the disk does, and listed in the database for the page."""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy import func, select

from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.store import Store, now
from iscl_monai.service.database.tables import refusals
from iscl_monai.service.log import log
from iscl_monai.service.receiving.examination import is_uid
from iscl_monai.service.receiving.verdict import Verdict


class RefusalList:
    """Records refusals. It counts those before the start, too: every one of them was listed, or is forgotten.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.unlisted = 0  # since the start, as the database could not be written
        by_status = select(refusals.c.status, func.count()).group_by(refusals.c.status)
        self._counts: Counter[str] = Counter(dict(store.tuples(by_status)))
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """How many there were of each kind of verdict."""
        with self._lock:
            return dict(self._counts)

    def record(self, sender: str, verdict: Verdict) -> None:
        """Count it, and write it down for the page; if the database cannot be written, it is counted alone."""
        try:
            with self.store.writing() as change:
                change.add(
                    refusals,
                    at=now(),
                    sender=sender[:64],
                    sop_class_uid=verdict.sop_class_uid if is_uid(verdict.sop_class_uid) else "",
                    sop_instance_uid=verdict.sop_instance_uid if is_uid(verdict.sop_instance_uid) else "",
                    status=verdict.kind,
                    reason=verdict.reason[:500],
                )
        except StoreUnavailable:
            self.count_unlisted(verdict)
        else:
            self._count(verdict)

    def count_unlisted(self, verdict: Verdict) -> None:
        """Count it without trying to write it down: the database has just been found unusable."""
        self._count(verdict)
        with self._lock:
            self.unlisted += 1
        log.warning("refusal.unlisted", status=verdict.kind)

    def _count(self, verdict: Verdict) -> None:
        with self._lock:
            self._counts[verdict.kind] += 1
