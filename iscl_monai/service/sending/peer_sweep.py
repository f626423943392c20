"""The sweep of one peer: what it has of the last days, what of that never came, and how to get it.

Every query is about one member: a range of dates, a study, a series. When one fails, that is counted and shown, and the
others are queried all the same; what failed before comes last, and after some queries without any answer the rest waits
for the next time, since each of them takes as long as the timeout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta

from sqlalchemy import func, select

from iscl_monai.dicom.derivation import DENOISED_TITLE
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.states import JobState, SeriesState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import audit, deliveries, instances, jobs, series
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.loaded_model import read_loaded_model
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.sending.dimse import NoAnswerError, QueryFailedError, UnreachableError
from iscl_monai.service.sending.find_series import Finder, FoundSeries
from iscl_monai.service.settings import Settings

ACTOR = "sweep"
DAY_S = 86400.0
MOST_UNANSWERED = 3  # queries in a row; each may have taken the whole timeout


class _GiveUpError(Exception):
    """The peer does not answer any more: the rest is queried next time."""


class PeerSweep:
    """Searches one peer, again and again.

    A series is retrieved when two sweeps have seen it with the same number of objects: one that is still arriving
    there would come in pieces.

    Args:
        settings: of the node.
        store: the database.
        intake: knows whether there is room.
        peer: to search.
        finder: queries it.
        clock: monotonic, in seconds.
        today: the date here, which Study Date is compared with.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        intake: Intake,
        peer: Peer,
        finder: Finder,
        clock: Callable[[], float],
        today: Callable[[], date],
    ) -> None:
        self.settings = settings
        self.store = store
        self.intake = intake
        self.peer = peer
        self.finder = finder
        self.today = today
        self.failures = 0  # queries and retrievals that failed since the start
        self._failing: dict[str, str] = {}  # of the last sweep: from each member that failed to the reason
        self._failed_before: Counter[str] = Counter()  # by member, until it succeeds
        self._unanswered = 0  # in a row
        # Retrieved in vain, e.g. as its objects are refused here: less and less often.
        self._backoff = Backoff(settings.sweep_every_s, max(DAY_S, settings.sweep_every_s), clock)
        self._last_counts: dict[str, int] = {}  # of objects, by series, in the sweep before
        self.loop = Loop(f"sweep {peer.name}", self.step)

    @property
    def trouble(self) -> str:
        """What failed in the last sweep; "" if nothing did."""
        first = next(iter(self._failing.values()), "")
        return f"{len(self._failing)} failed in the last sweep; the first: {first}" if first else ""

    def step(self) -> float:
        """Sweep once; seconds until the next time."""
        before, self._failing = self._failing, {}
        try:
            listed = self._list_series()
            missing, retrieved = self._retrieve_missing(listed)
        except BaseException:
            self._failing = before | self._failing
            raise
        log.info(
            "sweep.done",
            peer=self.peer.name,
            series=len(listed),
            lacking=missing,
            asked=retrieved,
            failed=len(self._failing),
        )
        return self.settings.sweep_every_s

    @contextmanager
    def _attempt(self, member: str) -> Iterator[None]:
        """Query about one member; when it fails, the others have their turn.

        Raises:
            _GiveUpError: the peer has left too many queries unanswered.
            StoreUnavailable: the database cannot be used.
        """
        try:
            yield
        except (StoreUnavailable, _GiveUpError):
            raise
        except Exception as error:
            if self.loop.stopping:  # it was us who ended it
                raise _GiveUpError from error
            known = isinstance(error, UnreachableError)
            self._record_failure(member, str(error) if known else f"a fault of ours ({type(error).__name__})")
            if not known:
                log.exception("sweep.fault", peer=self.peer.name, error=type(error).__name__)
            answered = isinstance(error, QueryFailedError) and not isinstance(error, NoAnswerError)
            self._unanswered = 0 if answered or not known else self._unanswered + 1
            if self._unanswered >= MOST_UNANSWERED:
                raise _GiveUpError from error
        else:
            self._unanswered = 0
            self._failed_before.pop(member, None)

    def _record_failure(self, member: str, reason: str) -> None:
        self.failures += 1
        self._failing[member] = reason
        self._failed_before[member] += 1
        log.warning("sweep.failed", peer=self.peer.name, member=member, reason=reason)

    def _list_series(self) -> list[tuple[FoundSeries, set[str]]]:
        """Every CT series there, with all series UIDs of its study; what failed before comes last."""
        listed: list[tuple[FoundSeries, set[str]]] = []
        self._unanswered = 0
        with suppress(_GiveUpError):
            for study_uid in sorted(self._study_uids(), key=lambda uid: self._failed_before[f"study {uid}"]):
                with self._attempt(f"study {study_uid}"):
                    of_study = self.finder.series_of(study_uid)
                    uids = {found.series_uid for found in of_study}
                    listed += [(found, uids) for found in of_study]
        return sorted(listed, key=lambda pair: self._failed_before[f"series {pair[0].series_uid}"])

    def _study_uids(self) -> list[str]:
        """Studies of the last days by one query; day by day if that fails, as one study may be what it fails at."""
        days = [self.today() - timedelta(days=back) for back in range(self.peer.sweep_days, -2, -1)]
        found: list[str] = []
        with self._attempt(f"studies since {days[0]}"):
            try:
                return self.finder.study_uids(f"{days[0]:%Y%m%d}-")
            except QueryFailedError as error:
                log.warning("sweep.day_by_day", peer=self.peer.name, reason=str(error))
            days.sort(key=lambda day: self._failed_before[f"studies of {day}"])
            with suppress(_GiveUpError):  # what has been found is swept
                for day in days:
                    with self._attempt(f"studies of {day}"):
                        found += self.finder.study_uids(f"{day:%Y%m%d}")
        return found

    def _retrieve_missing(self, listed: list[tuple[FoundSeries, set[str]]]) -> tuple[int, int]:
        """Retrieve what never came; how many series that are, and how many of them were retrieved now."""
        missing = retrieved = 0
        known = {found.series_uid for found, _ in listed}
        counts = {uid: count for uid, count in self._last_counts.items() if uid in known}
        self._unanswered = 0
        with suppress(_GiveUpError):
            for listed_series, uids in listed:
                if self.loop.stopping:
                    break
                with self._attempt(f"series {listed_series.series_uid}"):
                    found = self._missing(listed_series, uids)
                    last_count = counts.pop(listed_series.series_uid, None)
                    if found is None:
                        continue
                    missing += 1
                    counts[found.series_uid] = found.count
                    unchanged = last_count == found.count
                    if unchanged and self._backoff.is_due(found.series_uid) and self._retrieve(found):
                        retrieved += 1
        self._last_counts = counts
        return missing, retrieved

    def _missing(self, found: FoundSeries, uids: set[str]) -> FoundSeries | None:
        """An original series that we do not know, or not all of, with the number of its objects; None for others."""
        if DENOISED_TITLE in found.description:
            return None
        if self._is_complete_here(found, uids) or uids & set(self._derived_series_uids(found)):
            return None
        types = self.finder.image_types(found)
        complete = FoundSeries(found.study_uid, found.series_uid, found.description, max(len(types), found.count))
        is_derived = any("DERIVED" in kind.upper().split("\\") for kind in types)
        return None if is_derived or self._is_complete_here(complete, uids) else complete

    def _is_complete_here(self, found: FoundSeries, uids_there: Iterable[str]) -> bool:
        """Whether all of it came to us before, or is coming; if so it is checked that its result is still there."""
        of_series = (series.c.study_uid == found.study_uid) & (series.c.series_uid == found.series_uid)
        counted = (
            select(series.c.id, series.c.state, func.count(instances.c.id))
            .join(instances, instances.c.series_id == series.c.id)
            .where(of_series)
            .group_by(series.c.id)
        )
        rows = self.store.tuples(counted)
        if not rows:
            return False
        ((series_id, state, count),) = rows
        if state == SeriesState.RECEIVING:
            return True
        if not found.count or count < found.count:
            return False
        self._check_still_there(series_id, set(uids_there))
        self._backoff.reset(found.series_uid)
        return True

    def _check_still_there(self, series_id: int, uids_there: set[str]) -> None:
        """A result that has been delivered and is gone is not sent again: somebody may have deleted it on purpose."""
        delivered = (
            select(deliveries.c.series_uid, jobs.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(jobs.c.series_id == series_id, jobs.c.state == JobState.DONE)
            .where(deliveries.c.destination == self.peer.name)
            .order_by(jobs.c.id.desc())
            .limit(1)
        )
        for series_uid, job_id in self.store.tuples(delivered):
            result = f"job {job_id} at {self.peer.name}"
            noted = select(audit.c.id).where(audit.c.action == "result gone", audit.c.object == result)
            if series_uid not in uids_there and not self.store.values(noted):
                with self.store.writing() as change:
                    change.note(ACTOR, "result gone", result, "delivered and confirmed, and not there any more")
                log.warning("sweep.result_gone", peer=self.peer.name, job=job_id)

    def _derived_series_uids(self, found: FoundSeries) -> list[str]:
        """UIDs that the derived series would have, if denoised by the present model, by any rule."""
        model = read_loaded_model(self.settings.data)
        if model is None:  # no worker has written it yet; a peer with the result gets it again, as the same objects
            return []
        derivations = [model.derivation(rule.strength) for rule in self.settings.rules if not rule.shadow]
        return [derivation.uid("series", found.series_uid) for derivation in derivations]

    def _retrieve(self, found: FoundSeries) -> bool:
        """Have a series sent to us, if there is room for it.

        Raises:
            UnreachableError: it was not sent.
        """
        no_room = self.intake.space.no_room_reason()
        if no_room:
            log.warning("sweep.no_room", peer=self.peer.name, reason=no_room)
            return False
        self._backoff.failed(found.series_uid)  # until it is known that it has come
        with self.store.writing() as change:
            change.note(ACTOR, "ask for series", found.series_uid, f"{found.count} objects at {self.peer.name}")
        result = self.finder.retrieve(found)
        log.info("sweep.asked", peer=self.peer.name, series=found.series_uid, result=result)
        return True
