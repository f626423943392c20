"""Peers of the node that behave, or misbehave, as a test wants; and jobs that have something to send them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
from dicom.orthanc import free_port
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from service.rows import Place, new_uid, rows_of, scan
from sqlalchemy import select

from iscl_monai.service.database.store import Store, now
from iscl_monai.service.database.tables import deliveries, jobs, series
from iscl_monai.service.sending.find_series import FIND, MOVE
from iscl_monai.service.sending.outbox import DerivedObject, add_deliveries, finish_job
from iscl_monai.service.sending.sender import Sender
from iscl_monai.service.settings import Settings

PATIENCE_S = 90.0


@contextmanager
def queried(port: int, find: Callable[[evt.Event], Any], move: Callable[[evt.Event], Any]) -> Iterator[None]:
    """An archive at a port, whose answers to C-FIND and C-MOVE are those of the two functions."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(FIND)
    ae.add_supported_context(MOVE)
    handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_MOVE, move)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield
    finally:
        server.shutdown()


QUICK = {"first_wait_s": 0.05, "longest_wait_s": 0.2}  # tries follow one another fast, as tests wait for them


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something to become true; a test that waits in vain fails, however slow the machine is."""
    never = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        found = condition()
        if found:
            return found
        never.wait(0.01)
    raise AssertionError(f"not within {PATIENCE_S} s: {condition}")


def peer(name: str = "pacs", port: int = 104, **more: Any) -> dict[str, Any]:
    return {"name": name, "ae_title": name.upper(), "host": "127.0.0.1", "port": port, **more}


class House:
    """A data folder with jobs that have made their objects."""

    def __init__(self, data: Path, *peers: dict[str, Any], sending: dict[str, Any] | None = None, **more: Any) -> None:
        rule = {"name": "all", "send_to": [one["name"] for one in peers]}
        values = {"peers": list(peers), "rules": [rule], "sending": {**QUICK, **(sending or {})}, **more}
        self.place = Place(data, **values)
        self.settings: Settings = self.place.settings
        self.store: Store = self.place.store

    def job(self, count: int = 3, to: tuple[str, ...] = ("pacs",), state: str = "sending", **more: Any) -> Job:
        """A new series and a job for it that is sending, or held."""
        uids = new_uid(), new_uid()
        with self.store.writing() as change:
            values = {"study_uid": uids[0], "series_uid": uids[1], "tags": {}, "first_at": now(), "last_at": now()}
            series_id = change.add(series, state="settled", **values)
        return self.again(series_id, self.made(count, uids, **more), to, state)

    def made(self, count: int, uids: tuple[str, str], **more: Any) -> list[DerivedObject]:
        """Files of a derived series."""
        folder = self.settings.data / "jobs" / new_uid()
        files = scan(folder, count, uids=uids, **more)
        heads = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        return [
            DerivedObject(
                head.SOPInstanceUID,
                head.SOPClassUID,
                head.SeriesInstanceUID,
                head.StudyInstanceUID,
                str(file.relative_to(self.settings.data)),
            )
            for head, file in zip(heads, files, strict=True)
        ]

    def again(
        self,
        series_id: int,
        derived: list[DerivedObject],
        to: tuple[str, ...] = ("pacs",),
        state: str = "sending",
    ) -> Job:
        """Another job of a series."""
        with self.store.writing() as change:
            values = {"series_id": series_id, "rule": "all", "strength": "1", "send_to": list(to)}
            job_id = change.add(jobs, state="queued", created_at=now(), updated_at=now(), **values)
            change.move(jobs, job_id, "running")
            change.move(jobs, job_id, state, folder=f"jobs/{job_id}")
            add_deliveries(change, job_id, derived, to)
            finish_job(change, job_id)
        return Job(self.store, job_id, series_id, derived)

    @contextmanager
    def sending(self, **more: Any) -> Iterator[Sender]:
        sender = Sender(self.settings, self.store, **more)
        sender.start()
        try:
            yield sender
        finally:
            assert sender.stop(), "a thread of the sender does not end"
        assert sum(loop.faults for loop in sender.loops) == 0


@dataclass(frozen=True)
class Job:
    """One that was made by a house."""

    store: Store
    id: int
    series_id: int
    derived: list[DerivedObject]

    @property
    def uids(self) -> set[str]:
        return {one.sop_instance_uid for one in self.derived}

    def row(self) -> dict[str, Any]:
        return dict(rows_of(self.store, select(jobs).where(jobs.c.id == self.id))[0])

    def rows(self) -> list[dict[str, Any]]:
        found = rows_of(self.store, select(deliveries).where(deliveries.c.job_id == self.id).order_by(deliveries.c.id))
        return [dict(row) for row in found]

    def states(self) -> set[str]:
        return {row["state"] for row in self.rows()}

    def becomes(self, state: str) -> dict[str, Any]:
        """Wait until the job is in a state; its row."""
        until(lambda: self.row()["state"] == state)
        return self.row()


@dataclass
class Pacs:
    """An SCP of our own. What it does is changed by setting its functions.

    Args:
        status: of the C-STORE of an object; it may wait, or abort the association that it is given.
        commit: called with each request for a commitment, its association and itself; the status of the N-ACTION.
    """

    port: int = field(default_factory=free_port)
    ae_title: str = "PACS"
    status: Callable[[str, Any], int] = lambda uid, association: 0x0000
    commit: Callable[[Dataset, Any, Pacs], int] | None = None
    took: list[str] = field(default_factory=list)  # every object whose C-STORE was answered with success
    offered: list[str] = field(default_factory=list)  # every object that came
    asked: list[Dataset] = field(default_factory=list)
    associations: list[Any] = field(default_factory=list)
    storage: tuple[str, ...] = (CTImageStorage,)
    syntaxes: tuple[str, ...] = ()
    strict: bool = False  # rejects who calls it by another name

    @contextmanager
    def running(self, **more: Any) -> Iterator[Pacs]:
        ae = AE(ae_title=self.ae_title)
        ae.require_called_aet = self.strict
        for sop_class in self.storage:
            ae.add_supported_context(sop_class, *([list(self.syntaxes)] if self.syntaxes else []))
        if not self.storage:
            ae.add_supported_context("1.2.840.10008.1.1")
        if self.commit is not None:
            ae.add_supported_context(StorageCommitmentPushModel)
        sockets: list[Any] = []  # pynetdicom does not close those whose other end has gone
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket)),
            (evt.EVT_ACCEPTED, self._accept),
        ]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers, **more)
        assert server is not None
        try:
            yield self
        finally:
            server.shutdown()
            for one in sockets:
                one.close()

    def _accept(self, event: evt.Event) -> None:
        send_whole_messages(event.assoc)
        self.associations.append(event.assoc)

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.offered.append(uid)
        status = self.status(uid, event.assoc)
        if status == 0 or 0xB000 <= status <= 0xBFFF:
            self.took.append(uid)
        return status

    def _action(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        self.asked.append(information)
        assert self.commit is not None
        return self.commit(information, event.assoc, self), None


def send_whole_messages(association: Any) -> None:
    """No message begins before the one before it has ended, as DICOM PS3.7 has it.

    pynetdicom sees to that for one thread alone; :func:`tell` reports from another, and the answer to the request
    could go out between the command and the data set of the report.
    """
    send_msg, whole = association.dimse.send_msg, threading.Lock()

    def send(primitive: Any, context_id: int) -> None:
        with whole:
            send_msg(primitive, context_id)

    association.dimse.send_msg = send


def report(information: Dataset, failing: dict[str, int] | None = None) -> Dataset:
    """The answer to a request for a commitment."""
    answer = Dataset()
    answer.TransactionUID = information.TransactionUID
    answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
    for asked in information.ReferencedSOPSequence:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
            asked.ReferencedSOPClassUID,
            asked.ReferencedSOPInstanceUID,
        )
        reason = (failing or {}).get(str(asked.ReferencedSOPInstanceUID))
        if reason is not None:
            item.FailureReason = reason
        (answer.ReferencedSOPSequence if reason is None else answer.FailedSOPSequence).append(item)
    for name in ("ReferencedSOPSequence", "FailedSOPSequence"):
        if not answer[name].value:
            delattr(answer, name)
    return answer


def tell(answer: Dataset, association: Any) -> None:
    """N-EVENT-REPORT on an association, from a thread of its own, as the one that serves it must not wait."""
    kind = 2 if "FailedSOPSequence" in answer else 1

    def send() -> None:
        with suppress(RuntimeError):  # it has been released
            association.send_n_event_report(
                answer, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )

    threading.Thread(target=send, daemon=True).start()


def promise(information: Dataset, association: Any, pacs: Pacs) -> int:
    """A ``commit`` that keeps what came, and tells at once on the same association."""
    missing = {str(one.ReferencedSOPInstanceUID): 0x0112 for one in information.ReferencedSOPSequence}
    tell(report(information, {uid: code for uid, code in missing.items() if uid not in pacs.took}), association)
    return 0x0000


@dataclass
class Call:
    """A request that came by HTTP."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def sop_instance_uids(self) -> list[str]:
        """Of the objects in a STOW-RS request."""
        boundary = self.headers["content-type"].split("boundary=")[1].encode()
        parts = self.body.split(b"--" + boundary)[1:-1]
        return [str(pydicom.dcmread(_file(part)).SOPInstanceUID) for part in parts]


def _file(part: bytes) -> Any:
    from io import BytesIO

    return BytesIO(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"))


@contextmanager
def http(
    answer: Callable[[Call], tuple[int, bytes] | None], kind: str = "application/dicom+json"
) -> Iterator[tuple[str, list[Call]]]:
    """A server whose answers are a function's: status and JSON, or None to cut the connection. Its root and calls."""
    calls: list[Call] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = Call(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            calls.append(call)
            response = answer(call)
            self.close_connection = True
            if response is None:
                return
            self.send_response(response[0])
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(response[1])))
            self.end_headers()
            self.wfile.write(response[1])

        do_GET = do_POST = handle_any  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
