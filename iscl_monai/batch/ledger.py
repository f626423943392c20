"""What became of every series so far, on disk: committed and flushed before anything is done on its strength.

One SQLite file in the folder of results. The driver alone opens it, and only one at a time; workers never do, so it may
lie on a network file system. A series is ``waiting``, ``running``, ``done`` or ``refused``; each time that it is handed
to a worker is an attempt with an end of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from iscl_monai.batch.database import Database
from iscl_monai.batch.planning import PlannedSeries, PlannedUnit, key_of_name
from iscl_monai.batch.units import Folder, Unit
from iscl_monai.errors import ConfigRefusal

FILE = "ledger.sqlite"
WAITING, RUNNING, DONE, REFUSED = "waiting", "running", "done", "refused"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A series as the ledger has it; see :class:`iscl_monai.batch.planning.PlannedSeries` for what is not said here.

    Attributes:
        unit: fingerprint of the unit in which it was planned last.
        state: ``waiting``, ``running``, ``done`` or ``refused``.
        reason: why it is refused, or why its last attempt failed.
        unlike: in what it is unlike the training of the weights.
        tries: attempts that count against it.
        wall_s: seconds of the attempt that succeeded.
        cpu_s: its CPU seconds.
        result_bytes: that it takes on the disk.
    """

    key: str
    series_uid: str
    unit: str
    title: str
    slices: int
    result: Path
    fingerprint: str
    digest: str
    state: str
    reason: str
    unlike: str
    tries: int
    wall_s: float
    cpu_s: float
    result_bytes: int


class Ledger(Database):
    """The ledger of one folder of results.

    Args:
        out: the folder; exists.

    Raises:
        OutputRefusal: see :class:`iscl_monai.batch.database.Database`.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(out / FILE)

    def check_settings(self, settings: Mapping[str, str]) -> None:
        """Keep the settings of the first run, and refuse others in a later one.

        Raises:
            ConfigRefusal: naming the settings that differ.
        """
        kept = {row["name"]: row["value"] for row in self._rows("SELECT name, value FROM settings")}
        if not kept:
            with self._committed():
                self._base.executemany("INSERT INTO settings VALUES (?, ?)", sorted(settings.items()))
            return
        names = sorted(name for name in {*kept, *settings} if kept.get(name) != settings.get(name))
        if names:
            came = ", ".join(f"{name} {settings.get(name, 'not set')}" for name in names)
            begun = ", ".join(f"{name} {kept.get(name, 'not set')}" for name in names)
            raise ConfigRefusal(
                f"{came} in {self.path.parent}",
                allowed=f"the settings it was begun with: {begun}",
                cure="give these again, or another OUT",
            )

    # --- folders and units ---------------------------------------------------------------------------

    def folder(self, path: Path) -> Folder | None:
        """What was seen in a folder before."""
        rows = self._rows("SELECT fingerprint, series_uids FROM folders WHERE path = ?", os.fsencode(path))
        return next((Folder(path, row[0], tuple(json.loads(row[1]))) for row in rows), None)

    def keep_folder(self, folder: Folder) -> None:
        """Keep what was seen in a folder; :meth:`flush` makes it durable."""
        if not self._base.in_transaction:
            self._execute("BEGIN")
        values = (os.fsencode(folder.path), folder.fingerprint, json.dumps(folder.series_uids))
        self._execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", *values)

    def is_finished(self, unit: Unit) -> bool:
        """Whether it was planned as it is now, and none of its series waits."""
        planned = self._rows("SELECT 1 FROM units WHERE fingerprint = ?", unit.fingerprint)
        return bool(planned) and not self._rows(
            "SELECT 1 FROM series WHERE unit = ? AND state IN ('waiting', 'running')", unit.fingerprint
        )

    def fingerprints_of_done(self, unit: Unit) -> dict[str, str]:
        """Of the denoised series that a unit may hold, by key."""
        keys = [key_of_name("", folder) for folder in unit.folders]
        found = self._rows(
            "SELECT key, fingerprint FROM series WHERE digest != '' AND (series_uid IN (SELECT value FROM json_each(?))"
            " OR key IN (SELECT value FROM json_each(?)))",
            *(json.dumps(unit.series_uids), json.dumps(keys)),
        )
        return {row["key"]: row["fingerprint"] for row in found}

    def keep_plan(self, unit: Unit, planned: PlannedUnit, states: Mapping[str, tuple[str, str]]) -> None:
        """Keep what a unit holds.

        Args:
            unit: that was planned.
            planned: its series and other files.
            states: of each of its series that counts, by key, state and reason.
        """
        damaged = json.dumps([[str(path), refusal] for path, refusal in planned.damaged])
        with self._committed():
            self._execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?, ?)", unit.fingerprint, json.dumps(planned.skipped), damaged
            )
            for one in planned.series:
                if one.key in states:
                    self._keep(one, unit.fingerprint, *states[one.key])

    def _keep(self, one: PlannedSeries, unit: str, state: str, reason: str) -> None:
        # Fingerprint and digest of a series with a result stay those of what was denoised, whatever lies there now.
        self._execute(
            "INSERT INTO series (key, series_uid, unit, title, slices, result, fingerprint, state, reason, unlike)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET unit = excluded.unit,"
            " title = excluded.title, slices = excluded.slices,"
            " result = CASE WHEN digest != '' AND excluded.state != 'waiting' THEN result ELSE excluded.result END,"
            " fingerprint = CASE WHEN digest != '' AND excluded.state = 'refused' THEN fingerprint"
            " ELSE excluded.fingerprint END,"
            " digest = CASE excluded.state WHEN 'waiting' THEN '' ELSE digest END,"
            " tries = CASE WHEN fingerprint != excluded.fingerprint THEN 0 ELSE tries END,"
            " state = excluded.state, reason = excluded.reason, unlike = excluded.unlike",
            *(one.key, one.series_uid, unit, one.title, one.slices, os.fsencode(one.result)),
            *(one.fingerprint, state, reason, one.unlike),
        )

    # --- series --------------------------------------------------------------------------------------

    def series(self, key: str) -> Entry | None:
        """One series; None if it is not known."""
        return next(iter(self._entries("WHERE key = ?", key)), None)

    def every_series(self) -> Iterator[Entry]:
        """All series, by UID."""
        yield from self._entries("ORDER BY series_uid, key")

    def begin(self, key: str, worker: str) -> None:
        """A worker is about to get a series."""
        lost = "FROM attempts WHERE key = :key AND ended = ''"  # of a run that ended itself; it does not count
        with self._committed():
            self._execute(
                "UPDATE series SET state = 'running', reason = '',"
                f" tries = max(0, tries - (SELECT count(*) {lost})) + 1 WHERE key = :key",
                key=key,
            )
            self._execute(
                "UPDATE attempts SET ended = 'lost', reason = 'the run ended' WHERE key = ? AND ended = ''", key
            )
            self._execute(
                "INSERT INTO attempts (key, number, worker, began) SELECT ?, coalesce(max(number), 0) + 1, ?, ?"
                " FROM attempts WHERE key = ?",
                *(key, worker, _now(), key),
            )

    def end(self, key: str, state: str, reason: str = "", *, counts: bool = True, **values: Any) -> None:
        """An attempt has ended, or a series is settled without one.

        Args:
            key: of the series.
            state: that it is in now.
            reason: why it is not done.
            counts: whether the attempt counts against it.
            values: of other columns of the series: ``digest``, ``wall_s``, ``cpu_s``, ``result_bytes``.
        """
        columns = "".join(f", {name} = ?" for name in values)
        with self._committed():
            self._execute(
                f"UPDATE series SET state = ?, reason = ?, tries = max(0, tries - ?){columns} WHERE key = ?",
                *(state, reason, 0 if counts else 1, *values.values(), key),
            )
            self._execute(
                "UPDATE attempts SET ended = ?, reason = ? WHERE key = ? AND ended = ''",
                *(f"{state} {_now()}", reason, key),
            )

    def refuse_unit(self, unit: Unit, series_uids: Iterable[str], reason: str) -> None:
        """These series of a unit that cannot be planned are refused, but for those that are done."""
        with self._committed():
            self._execute("INSERT OR REPLACE INTO units VALUES (?, '{}', '[]')", unit.fingerprint)
            for uid in series_uids:
                self._refuse_unseen(key_of_name(uid, unit.folders[0]), uid, unit.fingerprint, reason)

    def refuse_absent(self, names: Iterable[tuple[str, Path]]) -> None:
        """Series that somebody asks for and that were not found.

        Args:
            names: of all that are asked for: SeriesInstanceUID, and folder.
        """
        with self._committed():
            for uid, folder in names:
                key = key_of_name(uid, folder)
                if not self._rows(
                    "SELECT 1 FROM series WHERE key = ? OR (series_uid != '' AND series_uid = ?)", key, uid
                ):
                    reason = f"{folder}: no original axial CT series {uid or 'without a UID'} lies there"
                    self._refuse_unseen(key, uid, "", reason)

    def _refuse_unseen(self, key: str, uid: str, unit: str, reason: str) -> None:
        self._execute(
            "INSERT INTO series (key, series_uid, unit, title, slices, result, fingerprint, state, reason)"
            " VALUES (?, ?, ?, '', 0, x'', '', 'refused', ?) ON CONFLICT (key) DO UPDATE SET unit = excluded.unit,"
            " state = excluded.state, reason = excluded.reason, fingerprint = '' WHERE digest = ''",
            *(key, uid, unit, reason),
        )

    def forget_results(self, keys: Iterable[str]) -> None:
        """Series whose results are there no more wait again."""
        statement = "UPDATE series SET state = 'waiting', digest = '', reason = '', tries = 0 WHERE key = ?"
        with self._committed():
            self._base.executemany(statement, ((key,) for key in keys))

    def drop(self, keys: Iterable[str]) -> None:
        """Series that were refused, and do not lie in the archive any more."""
        with self._committed():
            self._base.executemany("DELETE FROM series WHERE key = ?", ((key,) for key in keys))

    def forget_refusals(self) -> None:
        """What was refused is planned anew, and its tries count from zero; but for what has a result of other files."""
        with self._committed():
            self._execute("UPDATE series SET state = 'waiting', tries = 0 WHERE state = 'refused' AND digest = ''")

    def attempts(self) -> list[dict[str, Any]]:
        """Every time that a series was handed out, in order."""
        return [dict(row) for row in self._rows("SELECT * FROM attempts ORDER BY key, number")]

    def count_attempts(self) -> tuple[int, int]:
        """How often a series was handed out, and how often that ended with a result."""
        row = self._rows("SELECT count(*), coalesce(sum(ended LIKE 'done%'), 0) FROM attempts")[0]
        return row[0], row[1]

    def other_files(self, units: set[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Files of no series.

        Args:
            units: fingerprints of those that are there now.

        Returns:
            Number of skipped files by reason; refusals of damaged ones by path.
        """
        skipped: dict[str, int] = {}
        damaged: dict[str, str] = {}
        for row in self._each("SELECT * FROM units"):
            if row["fingerprint"] in units:
                for reason, count in json.loads(row["skipped"]).items():
                    skipped[reason] = skipped.get(reason, 0) + count
                damaged.update(json.loads(row["damaged"]))
        return skipped, damaged

    def _entries(self, condition: str, *values: Any) -> Iterator[Entry]:
        for row in self._each(f"SELECT * FROM series {condition}", *values):
            yield Entry(**{**dict(row), "result": Path(os.fsdecode(row["result"]))})


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
