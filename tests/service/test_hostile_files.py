"""Whatever stands in a file that is sent: it is refused and listed, or its job ends, and the next series is served."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import threading
import tracemalloc
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from dicom.orthanc import Orthanc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference.damage import damaged
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from real_data import real
from service import hostile
from service.rows import Place, new_uid, rows_of, scan
from service.test_end_to_end import sha256
from service.whole import NodeUnderTest, derived_sources, sent_uids, stopped_at_the_end, storescu, until

from iscl_monai.service.database.tables import instances, refusals, series
from iscl_monai.service.receiving import examination
from iscl_monai.service.receiving.intake import Verdict, is_uid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of bytes; a node does not end of that

MB = 2**20
TOKEN = "a token of thirty-two characters"
ROBUST = ("robust/robust_transfer_syntaxes", "robust/robust_dicom2nifti_geometry", "robust/robust_pydicom")
UNDECODABLE = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")  # retired long ago


def robust_files() -> list[Path]:
    return sorted(path for name in ROBUST for path in real(name).rglob("*") if path.is_file())


# --- to the intake ----------------------------------------------------------------------------------


class Fort(Place):
    """A data folder, with things around it that nobody may touch."""

    def __init__(self, around: Path) -> None:
        for name in ("passwd", "etc/passwd", "data/../beside/passwd"):
            (around / name).parent.mkdir(parents=True, exist_ok=True)
            (around / name).write_text("root")
        self.around = around
        super().__init__(around / "data", node={"max_object_mb": 1024}, disk={"reserve_mb": 1, "resume_mb": 1})
        self.before = self.outside()

    def outside(self) -> dict[str, tuple[int, str]]:
        kept = {path: path.stat() for path in self.around.rglob("*") if not path.is_relative_to(self.around / "data")}
        return {str(path): (at.st_mtime_ns, path.is_file() and path.read_text()) for path, at in kept.items()}

    def gets(self, content: bytes | Path) -> Verdict:
        """What becomes of a file; everything that must hold whatever it is, holds."""
        part = self.intake.new_part()
        if isinstance(content, Path):
            shutil.copyfile(content, part)
        else:
            part.write_bytes(content)
        verdict = self.intake.accept(part, "CT")
        assert not any((self.settings.data / "coming").iterdir())
        assert self.outside() == self.before
        if not verdict.taken:
            row = rows_of(self.store, refusals.select().order_by(refusals.c.id.desc()).limit(1))[0]
            assert (row["reason"], row["status"]) == (verdict.reason, verdict.kind)
            assert verdict.reason
            assert hostile.NAME not in str(dict(row))
            assert row["sop_instance_uid"] == "" or is_uid(row["sop_instance_uid"])
        elif verdict.kind == "stored":
            row = rows_of(self.store, series.select().order_by(series.c.id.desc()).limit(1))[0]
            assert len(json.dumps(row["tags"])) < 50_000
            assert hostile.NAME not in str(row)
        return verdict

    def is_whole(self) -> bool:
        """Whether rows and files are the same."""
        rows = {row["file"] for row in rows_of(self.store, instances.select())}
        files = {str(path.relative_to(self.settings.data)) for path in (self.settings.data / "sources").rglob("*.dcm")}
        return rows == files


@pytest.fixture(scope="module")
def fort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    place = Fort(tmp_path_factory.mktemp("fort"))
    yield place
    assert place.is_whole()
    place.store.close()


@contextlib.contextmanager
def within(bytes_: int) -> Iterator[None]:
    """Python's own memory does not grow by more than that, not even for a moment."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < bytes_, f"{peak / MB:.0f} MB"


def written(fort: Fort, content: bytes) -> Path:
    path = fort.around / "data" / "hostile"
    path.write_bytes(content)
    return path


@pytest.mark.untraced  # tracers of memory and of lines together take long; other tests refuse such files, too
@pytest.mark.parametrize("name", [*hostile.NO_DICOM, *hostile.TOO_MUCH])
def test_it_is_refused_in_little_memory(name: str, fort: Fort) -> None:
    path = written(fort, {**hostile.NO_DICOM, **hostile.TOO_MUCH}[name]())
    with within(96 * MB):
        verdict = fort.gets(path)
    assert verdict.kind == "unsuitable"


@pytest.mark.parametrize("name", hostile.UNCLEAR)
def test_taken_or_not_it_costs_little_memory(name: str, fort: Fort) -> None:
    path = written(fort, hostile.UNCLEAR[name]())
    with within(96 * MB):
        assert fort.gets(path).kind in ("stored", "unsuitable")


def test_a_uid_that_is_none_is_refused_and_not_quoted(fort: Fort) -> None:
    for name, content in hostile.without_uids():
        verdict = fort.gets(content)
        keyword = name.partition(":")[0]
        assert verdict.kind == "unsuitable", name
        assert keyword in verdict.reason or "/" in name, (name, verdict.reason)
        assert "etc" not in verdict.reason, name


def test_real_files_that_are_odd_are_taken_or_refused(fort: Fort) -> None:
    for path in robust_files():
        verdict = fort.gets(path)
        if path.name.rpartition("_")[2].removesuffix(".dcm") in UNDECODABLE:
            assert "cannot be decoded here" in verdict.reason
        else:
            assert verdict.kind in ("stored", "duplicate", "unsuitable"), (path.name, verdict)


def test_the_same_uid_for_something_else(fort: Fort) -> None:
    """Another series, another content, and the same content in other words."""
    uid, mine, theirs = hostile.uid(), (hostile.uid(), hostile.uid()), (hostile.uid(), hostile.uid())
    assert fort.gets(hostile.slice_(instance=uid, series=mine)).kind == "stored"
    assert fort.gets(hostile.slice_(instance=uid, series=mine)).kind == "duplicate"
    verdict = fort.gets(hostile.slice_(instance=uid, series=theirs))
    assert verdict.kind == "unsuitable"
    assert "came before as part of another series" in verdict.reason
    verdict = fort.gets(hostile.slice_(instance=uid, series=mine, number=1))
    assert verdict.kind == "unsuitable"
    assert "differs from the object" in verdict.reason
    empty = hostile.element(0x00091001, "SQ", b"", hostile.ENDLESS) + hostile.SEQUENCE_ENDS
    other = hostile.element(0x00091001, "SQ")
    uid = hostile.uid()
    assert fort.gets(hostile.slice_(empty, instance=uid, series=mine)).kind == "stored"
    assert fort.gets(hostile.slice_(other, instance=uid, series=mine)).kind == "duplicate"


@pytest.mark.parametrize("big", ["pixels", "items"])
def test_comparing_two_large_objects_of_one_uid_costs_little(big: str, fort: Fort) -> None:
    """It is done while nothing else can be written; 20 MB of empty items were as many objects, twice."""
    uid, of = hostile.uid(), (hostile.uid(), hostile.uid())
    items = hostile.NO_ITEM * (10**6 if big == "items" else 1)
    private = hostile.element(0x00091001, "SQ", items)
    pixels = hostile.pixels(bytes(100 * MB if big == "pixels" else 512))
    first = hostile.slice_(private, pixels, instance=uid, series=of)
    assert fort.gets(first).kind == "stored"
    path = written(fort, first + hostile.element(0xFFFCFFFC, "OB", b"\0\0"))
    del first
    with within(96 * MB):
        assert "differs from the object" in fort.gets(path).reason


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_damage(seed: int, fort: Fort) -> None:
    chance = random.Random(seed)
    good = [hostile.slice_(), *([robust_small()] if chance.random() < 0.3 else [])][-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoilt = damaged(good, chance)
    fort.gets(spoilt)


def robust_small() -> bytes:
    return min(robust_files(), key=lambda path: path.stat().st_size).read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tag=st.sampled_from([0x00080016, 0x00080018, 0x0008103E, 0x00091001, 0x0020000D, 0x00280010, 0x7FE00010]),
    vr=st.sampled_from(["UI", "LO", "SQ", "UN", "OB", "UT", "DS", "ZZ"]),
    length=st.sampled_from([0, 1, 7, 0xFF, 0xFFFE, 0xFFFF, 2**20, 2**31, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF]),
    value=st.binary(max_size=40) | st.just(hostile.NO_ITEM * 3) | st.just(hostile.ITEM),
)
def test_any_length(tag: int, vr: str, length: int, value: bytes, fort: Fort) -> None:
    fort.gets(hostile.slice_(hostile.element(tag, vr, value, length)))


def test_a_fault_of_the_disk_is_not_the_files_fault(fort: Fort, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(examination, "read_preamble", broken)
    assert fort.gets(hostile.slice_()).kind == "busy"


# --- to the whole node ------------------------------------------------------------------------------


def parts_of(content: bytes) -> tuple[str, str, str, bytes]:
    """SOP Class and Instance UID, transfer syntax and data set of a file; what is none is sent as it is."""
    if content[128:136] != b"DICM\2\0\0\0":
        return hostile.CT, hostile.uid(), hostile.EXPLICIT, content
    end = 144 + int.from_bytes(content[140:144], "little")
    at, values = 144, {}
    while at < end:
        number, vr = content[at + 2], content[at + 4 : at + 6]
        head, size = (12, content[at + 8 : at + 12]) if vr == b"OB" else (8, content[at + 6 : at + 8])
        values[number] = content[at + head : at + head + int.from_bytes(size, "little")].rstrip(b"\0").decode()
        at += head + int.from_bytes(size, "little")
    return values[2], values[3], values[0x10], content[end:]


SYNTAXES = (
    *(hostile.EXPLICIT, hostile.IMPLICIT, hostile.DEFLATED, "1.2.840.10008.1.2.2", hostile.RLE, hostile.JPEG),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 57, 80, 81, 90, 91, 201)),
)


def c_store(files: Iterable[tuple[str, bytes]], port: int) -> dict[str, int]:
    """Send bytes as they are; what each was answered, -1 if there was no context for it."""
    ae = AE("CT")
    ae.dimse_timeout = ae.network_timeout = 60
    for syntax in SYNTAXES:
        ae.add_requested_context(hostile.CT, syntax)
        ae.add_requested_context(hostile.ENHANCED, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="ISCL")
    assert association.is_established
    ways = {(one.abstract_syntax, one.transfer_syntax[0]): one for one in association.accepted_contexts}
    values = {}
    for name, content in files:
        sop_class, uid, syntax, dataset = parts_of(content)
        context = ways.get((sop_class, syntax))
        if context is None:
            values[name] = -1
            continue
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
        request.DataSet = BytesIO(dataset)
        association._reactor_checkpoint.clear()  # as pynetdicom does while it waits for an answer
        until(lambda: association._is_paused)
        association.dimse.send_msg(request, context.context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer is not None, f"no answer to {name}"
        values[name] = answer.Status
    association.release()
    return values


def stow(files: Iterable[tuple[str, bytes]], port: int) -> dict[str, Any]:
    parts = b"".join(b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for _, one in files)
    answer = httpx.post(
        f"http://127.0.0.1:{port}/dicom-web/studies",
        content=parts + b"--edge--\r\n",
        headers={
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
            "Authorization": f"Bearer {TOKEN}",
        },
        timeout=120,
    )
    assert answer.status_code == 202, answer.text
    return {tag: value["Value"] for tag, value in answer.json().items() if "Value" in value}


class Memory:
    """The most that a node and its worker take."""

    def __init__(self, pid: int) -> None:
        self.node = psutil.Process(pid)
        self.before, self.most, self.worker = self.node.memory_info().rss, 0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            with contextlib.suppress(psutil.Error):
                self.most = max(self.most, self.node.memory_info().rss)
                self.worker = max([self.worker, *(child.memory_info().rss for child in self.node.children())])


LARGE = ("description of 100 MB", "private of 200 MB", "meta of 200 MB", "999 MB in 1 MB, private")


def test_a_whole_node_gets_all_of_them_and_serves_the_next_series(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    makers = {**hostile.TOO_MUCH, **hostile.UNCLEAR, "100 MB in 100 KB": lambda: hostile.bomb(96)}
    study = new_uid()
    honest = scan(tmp_path / "scan", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "place" / "node", bundle, pacs)) as node:
        clients = [{"name": "router", "token_sha256": sha256(TOKEN)}]
        node.more = {"node": {"max_object_mb": 256}, "web": {"port": node.web_port, "clients": clients}}
        node.start()
        before = outside(node)
        assert node.process is not None
        with Memory(node.process.pid) as memory:
            answered = c_store(((name, make()) for name, make in makers.items() if name not in LARGE), node.port)
            made = {name: make() for name, make in {**makers, **hostile.NO_DICOM}.items() if name not in LARGE}
            answer = stow([*made.items(), *hostile.without_uids()], node.web_port)
            odd = c_store(((path.name, path.read_bytes()) for path in robust_files()), node.port)
            until(lambda: node.all_done(0), lambda: f"{node.states('jobs')}\n{node.log[-3000:]}")
        assert {answered[name] for name in hostile.TOO_MUCH if name not in LARGE} == {0xC000}
        assert set(answered.values()) <= {0x0000, 0xC000, 0xC001}
        # Many are one object in other words (C001), or named otherwise in their meta information (A900).
        assert sorted(set(odd.values())) == [-1, 0x0000, 0xA900, 0xC000, 0xC001]
        counts = {tag: len(answer.get(tag, ())) for tag in ("00081199", "00081198", "0008119A")}
        assert sum(counts.values()) == len(made) + len(dict(hostile.without_uids()))
        assert counts["00081199"] == sum(status == 0 for status in answered.values())
        check_told(node)
        assert storescu(honest, node.port)
        until(lambda: len(derived_sources(pacs, study)) == len(honest), lambda: node.log[-3000:])
        until(lambda: node.all_done(1), lambda: str(node.states("jobs")))
        assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(honest))
        assert not list((node.data / "coming").iterdir())
        assert outside(node) == before
        assert "worker.died" not in node.log
        assert memory.most - memory.before < 256 * MB, f"{(memory.most - memory.before) / MB:.0f} MB"
        assert memory.worker < 2048 * MB, f"{memory.worker / MB:.0f} MB"
        assert node.stop() == 0


def outside(node: NodeUnderTest) -> dict[str, int]:
    """Everything beside the data folder, but for the log."""
    kept = (path for path in node.folder.parent.rglob("*") if not path.is_relative_to(node.data))
    return {str(path): path.stat().st_size for path in kept if path.name != "node.log"}


def check_told(node: NodeUnderTest) -> None:
    """Each job has ended, and why is told without a name; on a slow machine, slices of one series come in two parts."""
    assert set(node.states("jobs")) <= {"done", "refused", "failed", "superseded"}
    for row in node.rows("SELECT state, reason FROM jobs WHERE state NOT IN ('done', 'superseded')"):
        assert row["reason"]
    assert "a fault of ours" not in str(node.rows("SELECT reason FROM jobs"))
    everything = [node.log, *(str(node.rows(f"SELECT * FROM {table}")) for table in ("refusals", "jobs", "audit"))]
    assert not any(hostile.NAME in one for one in everything)


def test_what_kills_the_worker_fails_and_the_node_lives(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    deadly = scan(tmp_path / "deadly", 60, uids=(new_uid(), new_uid()))
    study = new_uid()
    honest = scan(tmp_path / "honest", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.more = {"work": {"attempts": 2}}
        node.start()
        assert storescu(deadly, node.port)
        assert node.process is not None
        for attempt in (1, 2):
            until(lambda: running(node, attempt) or node.states("jobs").get("failed"), lambda: node.log[-3000:])  # noqa: B023
            for worker in psutil.Process(node.process.pid).children():
                os.kill(worker.pid, 9)
            until(lambda: not running(node, attempt), lambda: node.log[-3000:])  # noqa: B023
        until(lambda: node.states("jobs") == {"failed": 1}, lambda: str(node.states("jobs")))
        (row,) = node.rows("SELECT reason FROM jobs")
        assert row["reason"].startswith("the worker died 2 times")
        assert storescu(honest, node.port)
        node.wait_done()
        assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(honest))
        assert node.stop() == 0


def running(node: NodeUnderTest, attempt: int) -> bool:
    return bool(node.rows("SELECT id FROM jobs WHERE state = 'running' AND attempts = ?", attempt))
