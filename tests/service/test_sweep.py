"""What never came is asked for; what came, what is derived and what is done already is left alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom.orthanc import Dicom, Orthanc, free_port, running
from dicom.synthetic import setting
from pydicom.dataset import Dataset
from pynetdicom import evt
from service.peers import Call, House, http, peer, queried, until
from service.rows import Clock, new_uid, rows_of, scan
from sqlalchemy import select

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.service.database.tables import audit, deliveries, instances, jobs, series
from iscl_monai.service.loaded_model import MODEL_FILE
from iscl_monai.service.receiving.receiver import Receiver
from iscl_monai.service.sending import outbox
from iscl_monai.service.sending.dimse import UnreachableError
from iscl_monai.service.sending.find_series import FoundSeries
from iscl_monai.service.sending.sweep import Sweep

TODAY = date(2031, 5, 20)
RECENT, OLD = "20310518", "20310501"
MODEL_TOLD = {"name": "m", "version": "1", "weights_digest": "ab", "parameters": {"mode": "ensemble"}}


def sweep_once(sweep: Sweep) -> None:
    """Every peer, one after the other, without the threads."""
    for one in sweep.peers.values():
        assert one.step() == one.settings.sweep_every_s


class Scene:
    """A PACS with series in it, and a node that sweeps it."""

    def __init__(self, folder: Path, orthanc: Orthanc, node_port: int, by: str) -> None:
        self.folder = folder
        self.orthanc = orthanc
        dimse = peer("pacs", orthanc.dicom_port, ae_title="ORTHANC", confirm="status", sweep=True)
        web = {"name": "pacs", "url": f"{orthanc.root}/dicom-web", "confirm": "query", "sweep": True}
        rules = [{"name": "half", "strength": 0.5, "send_to": ["pacs"]}, {"name": "all", "send_to": ["pacs"]}]
        values = {"node": {"port": node_port, "host": "127.0.0.1"}, "rules": rules}
        self.home = House(folder / "data", dimse if by == "dimse" else web, **values)
        self.clock = Clock()
        self.sweep = self.new_sweep()

    def new_sweep(self) -> Sweep:
        return Sweep(self.home.settings, self.home.store, self.home.place.intake, self.clock, lambda: TODAY)

    def put(self, count: int = 3, day: str = RECENT, uids: tuple[str, str] | None = None, **more: Any) -> list[str]:
        """Have a series at the PACS; its SOP Instance UIDs."""
        change = more.pop("change", setting(StudyDate=day))
        files = scan(self.folder / new_uid(), count, uids=uids, change=change, **more)
        for file in files:
            self.orthanc.store(file)
        return [str(pydicom.dcmread(file).SOPInstanceUID) for file in files]

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            sweep_once(self.sweep)
            self.clock.now += self.home.settings.sweep_every_s

    def here(self) -> list[str]:
        return sorted(row["sop_instance_uid"] for row in rows_of(self.home.store, select(instances)))

    def asked(self) -> list[str]:
        found = rows_of(self.home.store, select(audit).where(audit.c.action == "ask for series").order_by(audit.c.id))
        return [row["object"] for row in found]

    def settle(self) -> None:
        """As if all series here had been quiet for long."""
        with self.home.store.writing() as change:
            for row in rows_of(self.home.store, select(series).where(series.c.state == "receiving")):
                change.move(series, row["id"], "settled")


@pytest.fixture(scope="module")
def node_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, node_port: int) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc"), Dicom(modalities={"ISCL": node_port})) as server:
        yield server


@pytest.fixture(params=["dimse", "web"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc, node_port: int) -> Iterator[Scene]:
    orthanc.forget()
    made = Scene(tmp_path, orthanc, node_port, request.param)
    receiver = Receiver(made.home.settings, made.home.store, made.home.place.intake, lambda *_: None)
    receiver.start()
    yield made
    receiver.stop(5)


def test_what_never_came_is_asked_for(scene: Scene) -> None:
    uids = [*scene.put(3), *scene.put(2)]
    scene.look()
    assert scene.here() == sorted(uids)
    assert len(scene.asked()) == 2


def test_the_loop_does_the_same_by_itself(scene: Scene) -> None:
    uids = scene.put()
    settings = scene.home.settings.model_copy(update={"sweep_every_s": 0.05})
    sweep = Sweep(settings, scene.home.store, scene.home.place.intake, today=lambda: TODAY)
    sweep.start()
    until(lambda: scene.here() == sorted(uids))
    assert sweep.stop()
    assert [loop.faults for loop in sweep.loops] == [0]


def test_a_second_pair_of_looks_asks_for_nothing(scene: Scene) -> None:
    scene.put()
    scene.look()
    scene.settle()
    before = scene.asked()
    scene.look(4)
    assert scene.asked() == before
    assert len(before) == 1


def test_what_is_still_arriving_there_is_left_to_arrive(scene: Scene) -> None:
    uids = new_uid(), new_uid()
    sent = scene.put(2, uids=uids)
    scene.look(1)
    sent += scene.put(2, uids=uids, first=2)
    scene.look(1)
    assert scene.here() == []
    scene.look(1)
    assert scene.here() == sorted(sent)


def test_the_rest_of_a_series_is_asked_for(scene: Scene) -> None:
    uids = new_uid(), new_uid()
    first = scene.put(2, uids=uids)
    scene.look()
    scene.settle()
    rest = scene.put(3, uids=uids, first=2)
    scene.look()
    assert scene.here() == sorted(first + rest)


def test_old_studies_and_derived_images_are_left_alone(scene: Scene) -> None:
    def derived(dataset: Any, _: int) -> None:
        dataset.StudyDate, dataset.ImageType = RECENT, ["DERIVED", "SECONDARY", "AXIAL"]

    scene.put(day=OLD)
    scene.put(change=derived)
    scene.put(description="Thorax | AI DENOISED ISCL")
    scene.put(change=setting(StudyDate=RECENT, Modality="MR"))
    scene.look(3)
    assert scene.here() == scene.asked() == []


@pytest.mark.parametrize("strength", ["0.5", "1"])
def test_what_has_its_result_there_is_left_alone(scene: Scene, strength: str) -> None:
    """The node was set up anew, and knows nothing of what it did before."""
    (scene.home.settings.data / MODEL_FILE).write_text(json.dumps(MODEL_TOLD))
    made = Derivation.by_network(
        model="m", version="1", weights_digest="ab", parameters={"mode": "ensemble", "strength": strength}
    )
    study, done, other = new_uid(), new_uid(), new_uid()
    scene.put(uids=(study, done))
    scene.put(uids=(study, made.uid("series", done)), description="somebody renamed it")
    lacking = scene.put(uids=(study, other))
    scene.look()
    assert set(lacking) <= set(scene.here())
    assert done not in scene.asked()


def test_another_model_is_another_result(scene: Scene) -> None:
    (scene.home.settings.data / MODEL_FILE).write_text(json.dumps({**MODEL_TOLD, "version": "2"}))
    made = Derivation.by_network(
        model="m", version="1", weights_digest="ab", parameters={"mode": "ensemble", "strength": "1"}
    )
    study, done = new_uid(), new_uid()
    scene.put(uids=(study, done))
    scene.put(uids=(study, made.uid("series", done)), description="Thorax | AI DENOISED ISCL")
    scene.look()
    assert scene.asked() == [done]


def test_a_result_that_is_gone_is_noted_once_and_not_sent_again(scene: Scene) -> None:
    scene.put()
    scene.look()
    scene.settle()
    (row,) = rows_of(scene.home.store, select(series))
    uids = row["study_uid"], new_uid()
    job = scene.home.again(row["id"], scene.home.made(2, uids))
    with scene.home.store.writing() as change:
        for delivery in job.rows():
            change.move(deliveries, delivery["id"], "sent")
        outbox.confirm(change, [delivery["id"] for delivery in job.rows()], "QIDO-RS")
    assert job.row()["state"] == "done"
    scene.look(3)
    scene.sweep = scene.new_sweep()  # a restart
    scene.look(3)
    noted = rows_of(scene.home.store, select(audit).where(audit.c.action == "result gone"))
    assert [one["object"] for one in noted] == [f"job {job.id} at pacs"]
    assert len(scene.asked()) == 1
    assert len(rows_of(scene.home.store, select(jobs))) == 1
    scene.put(2, uids=uids, description="Thorax | AI DENOISED ISCL")
    scene.look()
    assert len(rows_of(scene.home.store, select(audit).where(audit.c.action == "result gone"))) == 1


def test_what_is_asked_for_in_vain_is_asked_for_less_and_less(scene: Scene) -> None:
    """Its objects are refused here, each time."""
    scene.put(change=setting(StudyDate=RECENT, Rows=None))
    scene.look(20)
    assert 3 <= len(scene.asked()) <= 5
    assert scene.here() == []


def test_nothing_is_asked_for_when_there_is_no_room(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.put()
    monkeypatch.setattr(scene.home.place.space, "no_room_reason", lambda coming_bytes=0: "full")
    scene.look(3)
    assert scene.asked() == []


def test_a_peer_that_is_down_does_not_keep_the_others_out(tmp_path: Path) -> None:
    calls_of: list[Call] = []

    def nothing(call: Call) -> tuple[int, bytes]:
        calls_of.append(call)
        return 200, b"[]"

    with http(nothing) as (root, _):
        down = peer("down", free_port(), sweep=True, confirm="status")
        up = {"name": "up", "url": root, "confirm": "status", "sweep": True}
        home = House(tmp_path / "data", down, up)
        sweep = Sweep(home.settings, home.store, home.place.intake, today=lambda: TODAY)
        sweep_once(sweep)
    assert len(calls_of) == 1
    assert "StudyDate=20310517-" in calls_of[0].path


@pytest.mark.parametrize(
    "answer",
    [b"", b"no json", b"{}", b"[1, null]", b'[{"0020000D": 5}]', b'[{"0020000D": {"Value": ["../../x"]}}]'],
)
def test_nonsense_of_a_server_does_no_harm(tmp_path: Path, answer: bytes) -> None:
    with http(lambda call: (200, answer)) as (root, calls):
        home = House(tmp_path / "data", {"name": "up", "url": root, "confirm": "status", "sweep": True})
        sweep = Sweep(home.settings, home.store, home.place.intake, today=lambda: TODAY)
        sweep_once(sweep)
    assert all(call.path.startswith("/studies?") for call in calls)


@pytest.mark.parametrize("cut", [0.3, 0.95])
def test_a_series_that_is_cut_off_leaves_no_half_object(tmp_path: Path, cut: float) -> None:
    files = scan(tmp_path / "scan", 3)
    parts = b"".join(b"--b\r\nContent-Type: application/dicom\r\n\r\n" + f.read_bytes() + b"\r\n" for f in files)
    whole = parts + b"--b--\r\n"
    head = pydicom.dcmread(files[0])
    values = {"0020000D": [head.StudyInstanceUID], "0020000E": [head.SeriesInstanceUID], "00201209": [3]}
    found = json.dumps([{tag: {"Value": value} for tag, value in values.items()}]).encode()

    def answer(call: Call) -> tuple[int, bytes]:
        if "?" in call.path:
            return 200, found if "offset=0" in call.path else b"[]"
        return 200, whole[: int(len(whole) * cut)]

    with http(answer, kind='multipart/related; type="application/dicom"; boundary=b') as (root, _):
        home = House(tmp_path / "data", {"name": "up", "url": root, "confirm": "status", "sweep": True})
        clock = Clock()
        sweep = Sweep(home.settings, home.store, home.place.intake, clock, lambda: TODAY)
        sweep_once(sweep)
        sweep_once(sweep)
        here = rows_of(home.store, select(instances))
        assert len(here) == int(cut * 3)
        assert not list((home.settings.data / "coming").iterdir())
        found_again = FoundSeries(head.StudyInstanceUID, head.SeriesInstanceUID, "", 3)
        with pytest.raises(UnreachableError, match="ended early"):
            sweep.peers["up"].finder.retrieve(found_again)
        cut = 1.0
        clock.now += home.settings.sweep_every_s
        with home.store.writing() as change:
            for row in rows_of(home.store, select(series)):
                change.move(series, row["id"], "settled")
        sweep_once(sweep)
        assert len(rows_of(home.store, select(instances))) == 3


@pytest.mark.parametrize(("preamble", "blanks"), [(b"", b""), (b"a preamble\r\n", b""), (b"", b" \t")])
def test_whatever_rfc_2046_allows_around_boundaries_is_read(tmp_path: Path, preamble: bytes, blanks: bytes) -> None:
    files = scan(tmp_path / "scan", 2)
    head = b"--b" + blanks + b"\r\nContent-Type: application/dicom\r\n\r\n"
    body = preamble + b"".join(head + file.read_bytes() + b"\r\n" for file in files) + b"--b--"
    uids = pydicom.dcmread(files[0])
    with http(lambda call: (200, body), kind='multipart/related; type="application/dicom"; boundary=b') as (root, _):
        home = House(tmp_path / "data", {"name": "up", "url": root, "confirm": "status", "sweep": True})
        sweep = Sweep(home.settings, home.store, home.place.intake, today=lambda: TODAY)
        found = FoundSeries(uids.StudyInstanceUID, uids.SeriesInstanceUID, "", 2)
        assert sweep.peers["up"].finder.retrieve(found) == "WADO-RS, 2 objects taken, 0 refused"
    stored = sorted((home.settings.data / row["file"]).read_bytes() for row in rows_of(home.store, select(instances)))
    assert stored == sorted(file.read_bytes() for file in files)


def test_a_node_that_stops_does_not_wait_for_an_archive_that_is_slow(tmp_path: Path) -> None:
    go = threading.Event()
    archive = SlowArchive(go)
    with archive.running():
        pacs = peer("pacs", archive.port, confirm="status", sweep=True)
        home = House(tmp_path / "data", pacs, sweep_every_s=0.05)
        sweep = Sweep(home.settings, home.store, home.place.intake, today=lambda: TODAY)
        sweep.start()
        until(lambda: archive.moves)
        assert sweep.stop()
        assert not go.is_set()
        go.set()
    assert [loop.faults for loop in sweep.loops] == [0]


class SlowArchive:
    """Has one series, tells less than others do, and takes its time to send it."""

    def __init__(self, go: threading.Event) -> None:
        self.port = free_port()
        self.go = go
        self.moves: list[str] = []
        self.uids = new_uid(), new_uid()

    def running(self) -> AbstractContextManager[None]:
        return queried(self.port, self._find, self._move)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        found = Dataset()
        found.StudyInstanceUID, found.SeriesInstanceUID, found.Modality = *self.uids, "CT"
        found.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
        yield 0xFF00, found

    def _move(self, event: evt.Event) -> Iterator[Any]:
        self.moves.append(str(event.move_destination))
        self.go.wait(60)
        yield None, None
