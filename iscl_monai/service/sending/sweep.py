"""The safety net: original series that a peer has, and that never came, are asked for.

An archive that sends while we are down often does not try again; without this such a series would be missed silently.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta

from sqlalchemy import func, select

from iscl_monai.dicom.derivation import DENOISED_TITLE, Derivation
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import audit, deliveries, instances, jobs, series
from iscl_monai.service.log import log
from iscl_monai.service.loop import Loop
from iscl_monai.service.receiving.intake import Intake
from iscl_monai.service.sending.dicomweb import Web
from iscl_monai.service.sending.dimse import Line, UnreachableError
from iscl_monai.service.sending.find_series import DimseFinder, Finder, Found, WebFinder
from iscl_monai.service.sending.patience import Patience
from iscl_monai.service.settings import Peer, Settings

MODEL = "model.json"
OUR_TITLE = DENOISED_TITLE
WHO = "sweep"
DAY_S = 86400.0
END_S = 3.0  # for what is nearly done when the node stops


class Sweep:
    """Looks at all peers that are to be swept, again and again.

    A series is asked for when two sweeps have seen it with the same number of objects: one that is still arriving
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
        # Asked for in vain, e.g. as its objects are refused here: less and less often.
        self._patience = Patience(settings.sweep_every_s, max(DAY_S, settings.sweep_every_s), clock)
        self._seen: dict[tuple[str, str], int] = {}
        self.loop = Loop("sweep", self.step)

    def start(self) -> None:
        """Begin; with nobody to ask it only waits."""
        self.loop.start()

    def wake(self) -> None:
        """Look now."""
        self.loop.wake()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End; a retrieval that goes on is cut off. Whether it has ended in time."""
        if self.loop.stop(min(END_S, timeout_s)):
            return True
        for _, finder in self.finders.values():
            finder.hang_up()
        return self.loop.stop(timeout_s)

    def step(self) -> float:
        """Look at every peer once; seconds until the next time."""
        for name, (peer, finder) in self.finders.items():
            if self.loop.stopping:
                break
            try:
                self._look(peer, finder)
            except UnreachableError as error:
                if not self.loop.stopping:
                    log.warning("sweep.unreachable", peer=name, reason=str(error))
        return self.settings.sweep_every_s

    def _look(self, peer: Peer, finder: Finder) -> None:
        """List everything first, since associations end while one waits; then ask."""
        since = self.today() - timedelta(days=peer.sweep_days)
        listed = lacking = asked = 0
        seen: dict[tuple[str, str], int] = {}
        for there in list(finder.studies(f"{since:%Y%m%d}-")):
            listed += len(there)
            for found in self._lacking(peer, finder, there):
                lacking += 1
                key = (peer.name, found.series_uid)
                seen[key] = found.count
                if self._seen.get(key) == found.count and self._patience.due(key) and self._ask(peer, finder, found):
                    asked += 1
        self._seen = {key: count for key, count in self._seen.items() if key[0] != peer.name} | seen
        log.info("sweep.done", peer=peer.name, series=listed, lacking=lacking, asked=asked)

    def _lacking(self, peer: Peer, finder: Finder, there: list[Found]) -> Iterator[Found]:
        """Original series of a study that we do not know, or not all of, with the number of their objects."""
        uids = {found.series_uid for found in there}
        for found in there:
            if self.loop.stopping:
                return
            if OUR_TITLE in found.description:
                continue
            if self._known(peer, found, uids) or uids & set(self._derived_of(found)):
                continue
            types = finder.objects(found)
            complete = Found(found.study_uid, found.series_uid, found.description, max(len(types), found.count))
            if not any("DERIVED" in kind.upper().split("\\") for kind in types) and not self._known(
                peer, complete, uids
            ):
                yield complete

    def _known(self, peer: Peer, found: Found, there: Iterable[str]) -> bool:
        """Whether all of it came to us before, or is coming; if so it is checked that its result is still there."""
        of_series = (series.c.study_uid == found.study_uid) & (series.c.series_uid == found.series_uid)
        counted = (
            select(series.c.id, series.c.state, func.count(instances.c.id).label("count"))
            .join(instances, instances.c.series_id == series.c.id)
            .where(of_series)
            .group_by(series.c.id)
        )
        rows = self.store.rows(counted)
        if not rows:
            return False
        if rows[0]["state"] == "receiving":
            return True
        if not found.count or rows[0]["count"] < found.count:
            return False
        self._check_still_there(peer, rows[0]["id"], set(there))
        self._patience.ended((peer.name, found.series_uid))
        return True

    def _check_still_there(self, peer: Peer, series_id: int, there: set[str]) -> None:
        """A result that has been delivered and is gone is not sent again: somebody may have deleted it on purpose."""
        delivered = (
            select(deliveries.c.series_uid, jobs.c.id)
            .join(jobs, jobs.c.id == deliveries.c.job_id)
            .where(jobs.c.series_id == series_id, jobs.c.state == "done", deliveries.c.destination == peer.name)
            .order_by(jobs.c.id.desc())
            .limit(1)
        )
        for row in self.store.rows(delivered):
            what = f"job {row['id']} at {peer.name}"
            noted = select(audit.c.id).where(audit.c.action == "result gone", audit.c.object == what)
            if row["series_uid"] not in there and not self.store.rows(noted):
                with self.store.writing() as change:
                    change.note(WHO, "result gone", what, "delivered and confirmed, and not there any more")
                log.warning("sweep.result_gone", peer=peer.name, job=row["id"])

    def _derived_of(self, found: Found) -> list[str]:
        """UIDs that the series would have if it had been denoised by the present model, by any rule."""
        try:
            model = json.loads((self.settings.data / MODEL).read_text(encoding="utf-8"))
            made = [
                Derivation.by_network(
                    model=model["name"],
                    version=model["version"],
                    weights_digest=model["weights_digest"],
                    parameters={**model["parameters"], "strength": f"{rule.strength:g}"},
                )
                for rule in self.settings.rules
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # no worker has written it yet; whoever has the result there gets it again, as the same objects
        return [derivation.uid("series", found.series_uid) for derivation in made]

    def _ask(self, peer: Peer, finder: Finder, found: Found) -> bool:
        """Have a series come, if there is room for it."""
        lacking = self.intake.space.refuses()
        if lacking:
            log.warning("sweep.no_room", peer=peer.name, reason=lacking)
            return False
        self._patience.failed((peer.name, found.series_uid))  # until it is known that it has come
        with self.store.writing() as change:
            change.note(WHO, "ask for series", found.series_uid, f"{found.count} objects at {peer.name}")
        try:
            told = finder.retrieve(found)
        except UnreachableError as error:
            log.warning("sweep.not_retrieved", peer=peer.name, series=found.series_uid, reason=str(error))
            return False
        log.info("sweep.asked", peer=peer.name, series=found.series_uid, result=told)
        return True


def _finder(settings: Settings, peer: Peer, intake: Intake) -> Finder:
    if peer.url is not None:
        return WebFinder(Web(peer, settings.node.timeout_s), intake)
    return DimseFinder(Line(settings, peer), settings.node.ae_title)
