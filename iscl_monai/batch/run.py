"""The driver: looks through an archive, plans it, hands series to workers, and keeps the ledger of what became of them.

Nothing is begun before the ledger has it, and nothing counts as done before its folder has got its name. So after any
crash, of a worker, of the driver, or of the power, the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iscl_monai.batch.archive import Archive, name_of
from iscl_monai.batch.ledger import DONE, REFUSED, RUNNING, WAITING, Ledger
from iscl_monai.batch.looking import look_through
from iscl_monai.batch.outcome import DISK_FULL, NO_MEMORY, Outcome
from iscl_monai.batch.outcome import REFUSED as BY_RULE
from iscl_monai.batch.planning import PlannedSeries
from iscl_monai.batch.pool import Answer, Call, Pool, drive
from iscl_monai.batch.prints import digest_of, fingerprint_of
from iscl_monai.batch.settle import FOUND_WHOLE, is_whole, settled
from iscl_monai.batch.space import Space
from iscl_monai.batch.units import Unit
from iscl_monai.durable import remove_leftovers

RESULTS = "series"
"""The folder of denoised series, within that of results."""
TRIES = 3
DIED = "worker died"


@dataclass(frozen=True, kw_only=True)
class Event:
    """What has just happened, for who watches.

    Attributes:
        kind: ``looked`` at a folder; ``found`` series in the archive, and ``kept`` those that an earlier run settled;
            a series was ``begun``, is ``done``, ``refused``, or ``failed``, which is tried again.
        count: of folders or series.
        series: that was begun, is done, refused, or failed.
        worker: that has it, or had it.
        reason: why it failed or is refused.
    """

    kind: str
    count: int = 1
    series: PlannedSeries | None = None
    worker: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Running:
    series: PlannedSeries
    worker: str
    place_was_taken: bool  # before it was begun


class Run:
    """One run over an archive.

    Args:
        archive: what is read.
        out: the folder of results; exists.
        ledger: of that folder.
        pool: started; closed at the end.
        tries: attempts at a series that ends its worker, or fails in another way that may pass.
        watch: is shown every event.
    """

    def __init__(
        self,
        archive: Archive,
        out: Path,
        *,
        ledger: Ledger,
        pool: Pool,
        tries: int = TRIES,
        watch: Callable[[Event], object] = lambda event: None,
    ) -> None:
        self.archive, self.results, self.ledger, self.pool = archive, out / RESULTS, ledger, pool
        self.tries, self.watch = tries, watch
        self.space = Space(out)
        self.units: dict[str, Unit] = {}
        self.deaths = 0
        self._wanted = archive.names()
        self._to_plan: deque[Unit] = deque()
        self._ready: dict[str, PlannedSeries] = {}  # in the order in which they came
        self._running: dict[str, _Running] = {}
        self._unit_of: dict[str, Unit] = {}
        self._failed_plans: Counter[str] = Counter()
        self._alone = False

    def everything(self) -> None:
        """Do all that there is to do.

        Raises:
            Refusal: folders that cannot be opened, a full disk, or no worker that can start.
        """
        try:
            self._find_lost_results()
            units = look_through(
                self.archive,
                ledger=self.ledger,
                pool=self.pool,
                tries=self.tries,
                looked=lambda: self.watch(Event(kind="looked")),
            )
            self._found([self._as_wanted(unit) for unit in units])
            drive(self.pool, next_call=self._next_call, finish=self._finish, has_more=self._has_more)
            self._settle_the_rest()
        finally:
            self.pool.close()
            for one in self._running.values():  # of workers that were ended
                remove_leftovers(self.results / one.series.result)

    def _find_lost_results(self) -> None:
        """Somebody removed them, so that they are made anew."""
        entries = self.ledger.every_series()
        lost = [one.key for one in entries if one.digest and not (self.results / one.result).is_dir()]
        self.ledger.forget_results(lost)

    def _as_wanted(self, unit: Unit) -> Unit:
        """The same unit; when a table later wants others of its series, it is another one, and planned again."""
        if self._wanted is None:
            return unit
        wanted = [name for name in (*unit.series_uids, *map(str, unit.folders)) if name in self._wanted]
        mark = hashlib.sha256("\0".join([unit.fingerprint, *wanted]).encode("utf-8", "surrogateescape"))
        return replace(unit, fingerprint=mark.hexdigest())

    def _found(self, units: Sequence[Unit]) -> None:
        self.units = {unit.fingerprint: unit for unit in units}
        self.watch(Event(kind="found", count=sum(len(self._likely(unit)) for unit in units)))
        for unit in units:
            if self.ledger.is_finished(unit):
                self.watch(Event(kind="kept", count=len(self._likely(unit))))
            else:
                self._to_plan.append(unit)

    def _likely(self, unit: Unit) -> list[str]:
        return [uid for uid in unit.series_uids if self._wanted is None or uid in self._wanted]

    # --- what is handed out --------------------------------------------------------------------------

    def _has_more(self) -> bool:
        return bool(self._ready or self._to_plan)

    def _next_call(self) -> Call | None:
        """A series if one is ready, else a unit to plan: so no more is planned than workers wait for."""
        if self._alone and self._running:
            return None
        if self._ready:
            return self._series_call()
        if self._to_plan:
            unit = self._to_plan.popleft()
            return Call("plan", (unit, self.ledger.fingerprints_of_done(unit)), unit)
        return None

    def _series_call(self) -> Call | None:
        series = next(iter(self._ready.values()))
        coming_bytes = sum(one.series.result_bytes for one in self._running.values()) + series.result_bytes
        if not self.space.has_room(coming_bytes):
            if self.pool.busy():
                return None  # what is under way may still fail, or somebody make room
            raise self.space.full(series.result_bytes)
        del self._ready[series.key]
        worker = str(self.pool.idle())
        self.ledger.begin(series.key, worker)
        self._running[series.key] = _Running(series, worker, is_whole(series, self.results))
        self.watch(Event(kind="begun", series=series, worker=worker))
        return Call("denoise", (series, self.results / series.result), series)

    def _finish(self, answer: Answer) -> None:
        self.deaths += answer.died
        if answer.call.method == "plan":
            self._finish_plan(answer)
        else:
            self._finish_series(answer)

    # --- plans ---------------------------------------------------------------------------------------

    def _finish_plan(self, answer: Answer) -> None:
        unit: Unit = answer.call.subject
        if answer.failure:
            self._plan_failed(unit, answer.failure)
            return
        states = {}
        for one in answer.value.series:
            wanted = self._wanted is not None and name_of(one) in self._wanted
            if self._wanted is None or wanted:
                entry = self.ledger.series(one.key)
                state = settled(one, entry, results=self.results, wanted=wanted)
                if state is not None and one.key not in self._running:
                    states[one.key] = state
        self.ledger.keep_plan(unit, answer.value, states)
        for one in answer.value.series:
            self._go_on_with(one, *states.get(one.key, ("", "")), unit=unit)

    def _go_on_with(self, series: PlannedSeries, state: str, reason: str, *, unit: Unit) -> None:
        if state == WAITING:
            self._unit_of[series.key] = unit
            self._ready[series.key] = series
        elif state == REFUSED:
            self.watch(Event(kind="refused", series=series, reason=reason))
        elif state:
            if state == RUNNING:
                self.ledger.end(series.key, DONE, reason, digest=digest_of(series.files))
            self.watch(Event(kind="done", series=series, reason=reason))

    def _plan_failed(self, unit: Unit, reason: str) -> None:
        self._failed_plans[unit.fingerprint] += 1
        if self._failed_plans[unit.fingerprint] < self.tries:
            self._to_plan.append(unit)
            return
        told = f"{unit.folders[0]}: could not be planned in {self.tries} tries ({reason})"
        self.ledger.refuse_unit(unit, self._likely(unit) or [""], told)
        self.watch(Event(kind="kept", count=len(self._likely(unit)), reason=told))

    # --- series --------------------------------------------------------------------------------------

    def _finish_series(self, answer: Answer) -> None:
        one = self._running.pop(answer.call.subject.key)
        series, worker = one.series, one.worker
        outcome = answer.value if not answer.failure else Outcome(failed=DIED, reason=answer.failure)
        if outcome.failed:
            remove_leftovers(self.results / series.result)  # of a worker that died
            outcome = self._as_found(one, outcome)
        if not outcome.failed:
            self._alone = False
            self.ledger.end(
                series.key,
                DONE,
                outcome.reason,
                digest=outcome.digest,
                wall_s=outcome.wall_s,
                cpu_s=outcome.cpu_s,
                result_bytes=outcome.result_bytes,
            )
            self.watch(Event(kind="done", series=series, worker=worker))
        elif outcome.failed == BY_RULE:
            self._refuse(series, outcome.reason, worker)
        else:
            self._try_again(series, outcome, worker)

    def _as_found(self, one: _Running, outcome: Outcome) -> Outcome:
        """Its folder may have got its name all the same, just before its worker died: it is not to be done twice."""
        whole = is_whole(one.series, self.results) and not one.place_was_taken
        if whole and fingerprint_of(one.series.files) == one.series.fingerprint:
            return Outcome(digest=digest_of(one.series.files), reason=FOUND_WHOLE)
        return outcome

    def _refuse(self, series: PlannedSeries, reason: str, worker: str) -> None:
        self.ledger.end(series.key, REFUSED, reason)
        self.watch(Event(kind="refused", series=series, worker=worker, reason=reason))

    def _try_again(self, series: PlannedSeries, outcome: Outcome, worker: str) -> None:
        reason = f"{outcome.failed}: {outcome.reason}"
        if outcome.failed == DISK_FULL:
            self.ledger.end(series.key, WAITING, reason, counts=False)
            self.watch(Event(kind="failed", series=series, worker=worker, reason=reason))
            if self._alone and not self._running:
                raise self.space.full(series.result_bytes, outcome.reason)
        else:
            entry = self.ledger.series(series.key)
            tries = entry.tries if entry is not None else self.tries
            if tries >= self.tries:
                self._refuse(series, f"{series.folder}: given up after {tries} tries, the last: {reason}", worker)
                return
            self.ledger.end(series.key, WAITING, reason)
            self.watch(Event(kind="failed", series=series, worker=worker, reason=reason))
        if outcome.failed in (DISK_FULL, NO_MEMORY):
            self._alone = True  # with nothing beside it there may be room
        self._plan_again(series)

    def _plan_again(self, series: PlannedSeries) -> None:
        """At the end, after all others; what is kept for it until then is its unit alone."""
        unit = self._unit_of[series.key]
        if unit not in self._to_plan:
            self._to_plan.append(unit)

    # --- the end -------------------------------------------------------------------------------------

    def _settle_the_rest(self) -> None:
        """Series that the ledger knows, and that were not found: gone since, or asked for and never there."""
        others = [one for one in self.ledger.every_series() if one.unit not in self.units and not one.digest]
        self.ledger.drop(one.key for one in others if one.state == REFUSED)
        for one in others:
            if one.state in (WAITING, RUNNING):
                reason = f"{one.series_uid or one.title}: its files are gone from {self.archive.source}"
                self.ledger.end(one.key, REFUSED, reason, fingerprint="")
        self.ledger.refuse_absent((one.series_uid, one.path) for one in self.archive.asked or ())
