"""One query that fails ends no sweep: the other series, studies, days and peers are looked through all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import free_port
from pydicom.dataset import Dataset
from pynetdicom import evt
from service.peers import House, peer, queried
from service.rows import Clock, new_uid, rows_of
from sqlalchemy import select

from iscl_monai.service.database.tables import audit
from iscl_monai.service.sending.dimse import NoAnswerError, QueryFailedError, UnreachableError
from iscl_monai.service.sending.find_series import FoundSeries
from iscl_monai.service.sending.sweep import Sweep

TODAY = date(2031, 5, 20)
DAYS = ("20310518", "20310519", "20310520")


class Archive:
    """Has three studies, each of another day and with one CT series, and fails at what a test wants."""

    def __init__(self) -> None:
        self.port = free_port()
        self.studies = {new_uid(): (new_uid(), day) for day in DAYS}
        self.fails: Any = lambda level, identifier: None  # a status, or "abort"
        self.malformed = ""  # series UID whose count of objects is no number
        self.queries: list[str] = []

    @property
    def series(self) -> list[str]:
        return [uid for uid, _ in self.studies.values()]

    def running(self) -> AbstractContextManager[None]:
        return queried(self.port, self._find, self._move)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        wanted = event.identifier
        level = wanted.QueryRetrieveLevel
        self.queries.append(f"{level} {wanted.get('StudyDate', '')}")
        failure = self.fails(level, wanted)
        if failure == "abort":
            event.assoc.abort()
            return
        if failure is not None:
            yield failure, None
            return
        dates = str(wanted.get("StudyDate", ""))
        for study, (series, day) in self.studies.items():
            found = Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = level, study
            if level == "STUDY" and (day == dates or (dates.endswith("-") and day >= dates[:-1])):
                yield 0xFF00, found
            elif level != "STUDY" and wanted.StudyInstanceUID == study:
                found.SeriesInstanceUID, found.Modality, found.ImageType = series, "CT", ["ORIGINAL", "PRIMARY"]
                if series == self.malformed:
                    found.add_new("NumberOfSeriesRelatedInstances", "LO", "many")
                yield 0xFF00, found

    def _move(self, event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", 1
        yield 0  # objects: the audit tells what was asked for


def once(sweep: Sweep) -> None:
    for one in sweep.peers.values():
        one.step()


def asked(home: House) -> list[str]:
    rows = rows_of(home.store, select(audit).where(audit.c.action == "ask for series").order_by(audit.c.id))
    return [row["object"] for row in rows]


def sweeping(home: House) -> tuple[Sweep, Clock]:
    clock = Clock()
    return Sweep(home.settings, home.store, home.place.intake, clock, lambda: TODAY), clock


def is_image_query(level: str, wanted: Dataset, uid: str) -> bool:
    return level == "IMAGE" and wanted.SeriesInstanceUID == uid


@pytest.mark.parametrize("failure", [0xC001, "abort"])
def test_one_image_query_that_fails_ends_no_sweep(failure: Any, tmp_path: Path) -> None:
    archive = Archive()
    poisoned, *others = archive.series
    archive.fails = lambda level, wanted: failure if is_image_query(level, wanted, poisoned) else None
    with archive.running():
        home = House(tmp_path / "data", peer("pacs", archive.port, confirm="status", sweep=True))
        sweep, _ = sweeping(home)
        once(sweep)
        once(sweep)
        assert sorted(asked(home)) == sorted(others)
        (swept,) = sweep.peers.values()
        assert swept.failures == 2, "it is counted, every time"
        assert "C-FIND IMAGE" in swept.trouble
        archive.fails = lambda level, wanted: None
        once(sweep)
        once(sweep)
        assert poisoned in asked(home)
        assert swept.trouble == ""


def test_one_study_that_fails_ends_no_sweep(tmp_path: Path) -> None:
    archive = Archive()
    study = next(iter(archive.studies))
    archive.fails = lambda level, wanted: 0xC001 if level == "SERIES" and wanted.StudyInstanceUID == study else None
    with archive.running():
        home = House(tmp_path / "data", peer("pacs", archive.port, confirm="status", sweep=True))
        sweep, _ = sweeping(home)
        once(sweep)
        once(sweep)
    assert sorted(asked(home)) == sorted(archive.series[1:])
    assert "C-FIND SERIES" in sweep.peers["pacs"].trouble


@pytest.mark.parametrize("failure", [0xC001, "abort"])
def test_one_day_that_fails_ends_no_sweep(failure: Any, tmp_path: Path) -> None:
    """The range of days holds it, too, and fails as a whole."""
    archive = Archive()

    def fails(level: str, wanted: Dataset) -> Any:
        return failure if level == "STUDY" and (wanted.StudyDate.endswith("-") or wanted.StudyDate == DAYS[0]) else None

    archive.fails = fails
    with archive.running():
        home = House(tmp_path / "data", peer("pacs", archive.port, confirm="status", sweep=True))
        sweep, _ = sweeping(home)
        once(sweep)
        once(sweep)
    assert sorted(asked(home)) == sorted(archive.series[1:])
    assert sweep.peers["pacs"].failures == 2
    assert "C-FIND STUDY" in sweep.peers["pacs"].trouble


def test_one_series_whose_count_is_no_number_ends_no_sweep(tmp_path: Path) -> None:
    archive = Archive()
    archive.malformed = archive.series[0]
    with archive.running():
        home = House(tmp_path / "data", peer("pacs", archive.port, confirm="status", sweep=True))
        sweep, _ = sweeping(home)
        once(sweep)
        once(sweep)
    assert sorted(asked(home)) == sorted(archive.series)


class FakeFinder:
    """Answers without a network."""

    def __init__(self, series: list[str], errors: dict[str, Exception]) -> None:
        self.series = series
        self.errors = errors
        self.asked: list[str] = []

    def study_uids(self, dates: str) -> list[str]:
        if "studies" in self.errors:
            raise self.errors["studies"]
        return ["1.2"]

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        return [FoundSeries(study_uid, uid, "", 1) for uid in self.series]

    def image_types(self, found: FoundSeries) -> list[str]:
        self.asked.append(found.series_uid)
        if found.series_uid in self.errors:
            raise self.errors[found.series_uid]
        return ["ORIGINAL"]

    def retrieve(self, found: FoundSeries) -> str:
        return "all of it"

    def abort(self) -> None:
        pass


@pytest.mark.parametrize(
    "error", [UnreachableError("reset"), NoAnswerError("C-FIND: no answer"), KeyError("a fault of ours"), OSError(5)]
)
def test_many_series_that_fail_come_last_and_starve_nobody(error: Exception, tmp_path: Path) -> None:
    """Even where each of them takes the whole timeout, and the sweep has to be given up for now."""
    bad = [f"1.2.{number}" for number in range(5)]
    finder = FakeFinder([*bad, "1.3.1", "1.3.2"], dict.fromkeys(bad, error))
    home = House(tmp_path / "data", peer("pacs", sweep=True))
    sweep, _ = sweeping(home)
    sweep.peers["pacs"].finder = finder
    for _ in range(5):
        once(sweep)
    assert asked(home) == ["1.3.1", "1.3.2"]
    assert set(finder.asked) == {*bad, "1.3.1", "1.3.2"}, "and they have their turn, too"


def test_a_peer_that_leaves_every_query_unanswered_is_left_alone_after_some(tmp_path: Path) -> None:
    finder = FakeFinder([f"1.2.{number}" for number in range(50)], {})
    finder.errors = dict.fromkeys(finder.series, NoAnswerError("C-FIND: no answer"))
    home = House(tmp_path / "data", peer("pacs", sweep=True))
    sweep, _ = sweeping(home)
    sweep.peers["pacs"].finder = finder
    once(sweep)
    assert len(finder.asked) == 3


def test_a_peer_that_is_poisoned_holds_up_no_other(tmp_path: Path) -> None:
    """A thread for each: here one fails with an error that nobody has foreseen, and one waits for ever."""
    home = House(tmp_path / "data", *(peer(name, sweep=True) for name in ("odd", "down", "well")))
    sweep, _ = sweeping(home)
    finders = {
        "odd": FakeFinder([], {"studies": ValueError("odd")}),
        "down": FakeFinder([], {"studies": UnreachableError("no connection")}),
        "well": FakeFinder(["1.3.1"], {}),
    }
    for name, finder in finders.items():
        sweep.peers[name].finder = finder
        sweep.peers[name].step()
    sweep.peers["well"].step()
    assert asked(home) == ["1.3.1"]
    assert [bool(sweep.peers[name].trouble) for name in finders] == [True, True, False]
    assert len({loop.name for loop in sweep.loops}) == 3


def test_a_retrieval_that_is_refused_is_seen(tmp_path: Path) -> None:
    """Such as an archive that does not know us as a destination: it looked as if all had been retrieved."""

    class Refusing(FakeFinder):
        def retrieve(self, found: FoundSeries) -> str:
            raise QueryFailedError("C-MOVE 0xA801, 0 objects sent, 0 failed")

    home = House(tmp_path / "data", peer("pacs", sweep=True))
    sweep, _ = sweeping(home)
    sweep.peers["pacs"].finder = Refusing(["1.3.1"], {})
    once(sweep)
    once(sweep)
    assert "C-MOVE 0xA801" in sweep.peers["pacs"].trouble
