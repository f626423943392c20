"""The safety net: original series that a peer has, and that never came, are retrieved.

An archive that sends while we are down often does not try again; without this such a series would be missed silently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta

from sqlalchemy import func, select

from iscl_monai.dicom.derivation import DENOISED_TITLE
from iscl_monai.service.database.states import JobState, SeriesState
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import audit, deliveries, instances, jobs, series
from iscl_monai.service.dicom_settings import Peer
from iscl_monai.service.loaded_model import read_loaded_model
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.sending.backoff import Backoff
from iscl_monai.service.sending.dicomweb import DicomWebClient
from iscl_monai.service.sending.dimse import DimseClient, UnreachableError
from iscl_monai.service.sending.find_series import DimseFinder, Finder, FoundSeries, WebFinder
from iscl_monai.service.settings import Settings

ACTOR = "sweep"
DAY_S = 86400.0
END_S = 3.0  # for what is nearly done when the node stops


class Sweep:
    """Searches all peers that are to be swept, again and again.

    A series is retrieved when two sweeps have seen it with the same number of objects: one that is still arriving
    there would come in pieces.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects that are pulled by WADO-RS.
        clock: monotonic, in seconds.
        today: the date here, which Study Date is compared with.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        intake: Intake,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], date] = date.today,
    ) -> None:
        self.settings = settings
        self.store = store
        self.intake = intake
        self.today = today
        self.finders: dict[str, tuple[Peer, Finder]] = {
            peer.name: (peer, _finder(settings, peer, intake))
            for peer in settings.peers
            if peer.sweep and peer.can_receive
        }
        # Retrieved in vain, e.g. as its objects are refused here: less and less often.
        self._backoff = Backoff(settings.sweep_every_s, max(DAY_S, settings.sweep_every_s), clock)
        self._last_counts: dict[tuple[str, str], int] = {}  # of objects, by peer and series, in the sweep before
        self.loop = Loop("sweep", self.step)

    def start(self) -> None:
        """Begin; without peers to sweep it only waits."""
        self.loop.start()

    def wake(self) -> None:
        """Sweep now."""
        self.loop.wake()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; a retrieval that goes on is cut off. Whether it has ended in time."""
        if self.loop.stop(min(END_S, timeout_s)):
            return True
        for _, finder in self.finders.values():
            finder.abort()
        return self.loop.stop(timeout_s)

    def step(self) -> float:
        """Sweep every peer once; seconds until the next time."""
        for name, (peer, finder) in self.finders.items():
            if self.loop.stopping:
                break
            try:
                self._sweep_peer(peer, finder)
            except UnreachableError as error:
                if not self.loop.stopping:
                    log.warning("sweep.unreachable", peer=name, reason=str(error))
        return self.settings.sweep_every_s

    def _sweep_peer(self, peer: Peer, finder: Finder) -> None:
        """List everything first, since associations end while one waits; then retrieve."""
        since = self.today() - timedelta(days=peer.sweep_days)
        listed = missing = retrieved = 0
        counts: dict[tuple[str, str], int] = {}
        for of_study in list(finder.studies(f"{since:%Y%m%d}-")):
            listed += len(of_study)
            for found in self._missing_series(peer, finder, of_study):
                missing += 1
                key = (peer.name, found.series_uid)
                counts[key] = found.count
                unchanged = self._last_counts.get(key) == found.count
                if unchanged and self._backoff.is_due(key) and self._retrieve(peer, finder, found):
                    retrieved += 1
        self._last_counts = {key: count for key, count in self._last_counts.items() if key[0] != peer.name} | counts
        log.info("sweep.done", peer=peer.name, series=listed, lacking=missing, asked=retrieved)

    def _missing_series(self, peer: Peer, finder: Finder, of_study: list[FoundSeries]) -> Iterator[FoundSeries]:
        """Original series of a study that we do not know, or not all of, with the number of their objects."""
        uids = {found.series_uid for found in of_study}
        for found in of_study:
            if self.loop.stopping:
                return
            if DENOISED_TITLE in found.description:
                continue
            if self._is_complete_here(peer, found, uids) or uids & set(self._derived_series_uids(found)):
                continue
            types = finder.image_types(found)
            complete = FoundSeries(found.study_uid, found.series_uid, found.description, max(len(types), found.count))
            if not any("DERIVED" in kind.upper().split("\\") for kind in types) and not self._is_complete_here(
                peer, complete, uids
            ):
                yield complete

    def _is_complete_here(self, peer: Peer, found: FoundSeries, uids_there: Iterable[str]) -> bool:
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
        self._check_still_there(peer, series_id, set(uids_there))
        self._backoff.reset((peer.name, found.series_uid))
        return True

    def _check_still_there(self, peer: Peer, series_id: int, uids_there: set[str]) -> None:
        """A result that has been delivered and is gone is not sent again: somebody may have deleted it on purpose."""
        delivered = (
            select(deliveries.c.series_uid, jobs.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(jobs.c.series_id == series_id, jobs.c.state == JobState.DONE)
            .where(deliveries.c.destination == peer.name)
            .order_by(jobs.c.id.desc())
            .limit(1)
        )
        for series_uid, job_id in self.store.tuples(delivered):
            what = f"job {job_id} at {peer.name}"
            noted = select(audit.c.id).where(audit.c.action == "result gone", audit.c.object == what)
            if series_uid not in uids_there and not self.store.values(noted):
                with self.store.writing() as change:
                    change.note(ACTOR, "result gone", what, "delivered and confirmed, and not there any more")
                log.warning("sweep.result_gone", peer=peer.name, job=job_id)

    def _derived_series_uids(self, found: FoundSeries) -> list[str]:
        """UIDs that the derived series would have, if denoised by the present model, by any rule."""
        model = read_loaded_model(self.settings.data)
        if model is None:  # no worker has written it yet; a peer with the result gets it again, as the same objects
            return []
        derivations = [model.derivation(rule.strength) for rule in self.settings.rules]
        return [derivation.uid("series", found.series_uid) for derivation in derivations]

    def _retrieve(self, peer: Peer, finder: Finder, found: FoundSeries) -> bool:
        """Have a series sent to us, if there is room for it."""
        no_room = self.intake.space.no_room_reason()
        if no_room:
            log.warning("sweep.no_room", peer=peer.name, reason=no_room)
            return False
        self._backoff.failed((peer.name, found.series_uid))  # until it is known that it has come
        with self.store.writing() as change:
            change.note(ACTOR, "ask for series", found.series_uid, f"{found.count} objects at {peer.name}")
        try:
            result = finder.retrieve(found)
        except UnreachableError as error:
            log.warning("sweep.not_retrieved", peer=peer.name, series=found.series_uid, reason=str(error))
            return False
        log.info("sweep.asked", peer=peer.name, series=found.series_uid, result=result)
        return True


def _finder(settings: Settings, peer: Peer, intake: Intake) -> Finder:
    if peer.url is not None:
        return WebFinder(DicomWebClient(peer, settings.node.timeout_s), intake)
    return DimseFinder(DimseClient(settings, peer), settings.node.ae_title)
