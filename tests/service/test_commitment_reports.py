"""Storage commitment asked of the node: a yes is on the disk before it is said, and kept whatever happens."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from service.receiving import CT, WITHIN_S, Door, certificates, free_port, opened, receiving, settings_of, slices, until

from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database import store as store_module
from iscl_monai.service.database.store import DATABASE
from iscl_monai.service.database.tables import commitments
from iscl_monai.service.receiving.commitment_requests import read_report
from iscl_monai.service.sending.commitment_reports import CommitmentReporter, event_report
from iscl_monai.service.settings import Settings
from iscl_monai.service.working.retention import Retention

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"


@dataclass
class Pacs:
    """A peer that hears reports on its port."""

    port: int
    title: str = "PACS"
    answer: int = 0
    heard: list[tuple[int, Dataset]] = field(default_factory=list)

    @contextlib.contextmanager
    def listening(self, **more: Any) -> Iterator[Pacs]:
        ae = AE(self.title)
        ae.require_called_aet = True
        ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._hear)], **more
        )
        try:
            yield self
        finally:
            assert server is not None
            server.shutdown()

    def _hear(self, event: Any) -> tuple[int, None]:
        if self.answer == 0:
            self.heard.append((event.event_type, event.event_information))
        return self.answer, None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "node").mkdir()
    return settings_of(tmp_path / "node")


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    with receiving(settings) as running:
        yield running


@pytest.fixture
def pacs(settings: Settings) -> Pacs:
    peer = settings.peer("pacs")
    assert peer is not None
    assert peer.port
    return Pacs(peer.port)


@contextlib.contextmanager
def reporter_running(door: Door) -> Iterator[CommitmentReporter]:
    reporter = CommitmentReporter(door.settings, door.store)
    reporter.start()
    try:
        yield reporter
    finally:
        assert reporter.stop()


def asked(transaction: str, *pairs: tuple[str, str]) -> Dataset:
    information = Dataset()
    if transaction:
        information.TransactionUID = transaction
    information.ReferencedSOPSequence = [Dataset() for _ in pairs]
    for item, (sop_class, uid) in zip(information.ReferencedSOPSequence, pairs, strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return information


def ask(door: Door, information: Dataset, sender: str = "PACS", action: int = 1, instance: str = INSTANCE) -> Any:
    """Status of an N-ACTION."""
    with door.association(COMMITMENT, sender=sender) as association:
        assert association.is_established
        status, _ = association.send_n_action(information, action, COMMITMENT, instance)
        return status


def uids(paths: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]


def states(door: Door) -> list[str]:
    return [row["state"] for row in door.rows(commitments)]


# Asked of us


def test_all_that_is_here_is_promised(door: Door, pacs: Pacs, tmp_path: Path) -> None:
    files = slices(tmp_path / "sent", 3)
    door.send(*files)
    transaction = generate_uid()
    with pacs.listening(), reporter_running(door):
        assert ask(door, asked(transaction, *((CT, uid) for uid in uids(files)))).Status == 0
        ((kind, information),) = until(lambda: pacs.heard)
        until(lambda: states(door) == ["reported"])
    assert kind == 1
    assert information.TransactionUID == transaction
    assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == uids(files)
    assert "FailedSOPSequence" not in information


def test_only_what_is_really_here_is_promised(door: Door, pacs: Pacs, tmp_path: Path) -> None:
    """Row and file, the whole file, of the class that is named."""
    files = slices(tmp_path / "sent", 5)
    door.send(*files)
    rows = {row["sop_instance_uid"]: row for row in door.rows()}
    here, gone, short, other, removed = uids(files)
    (door.settings.data / rows[gone]["file"]).unlink()
    path = door.settings.data / rows[short]["file"]
    path.write_bytes(path.read_bytes()[:-2])
    with door.store.writing() as change:
        from iscl_monai.service.database.tables import instances

        change.execute(instances.update().where(instances.c.sop_instance_uid == removed).values(file=None))
    unknown = generate_uid()
    pairs = [(CT, here), (CT, gone), (CT, short), (CT + ".1", other), (CT, removed), (CT, unknown)]
    with pacs.listening(), reporter_running(door):
        assert ask(door, asked(generate_uid(), *pairs)).Status == 0
        ((kind, information),) = until(lambda: pacs.heard)
    assert kind == 2
    assert [item.ReferencedSOPInstanceUID for item in information.ReferencedSOPSequence] == [here]
    assert {item.ReferencedSOPInstanceUID: item.FailureReason for item in information.FailedSOPSequence} == {
        gone: 0x0110,
        short: 0x0110,
        other: 0x0119,
        removed: 0x0112,
        unknown: 0x0112,
    }


def test_debt_is_written_before_success_and_paid_after_a_restart(
    settings: Settings, pacs: Pacs, tmp_path: Path
) -> None:
    files = slices(tmp_path / "sent", 2)
    with receiving(settings) as door:
        door.send(*files)
        assert ask(door, asked("1.2.3", *((CT, uid) for uid in uids(files)))).Status == 0
        with contextlib.closing(sqlite3.connect(settings.data / DATABASE)) as other:
            assert other.execute("SELECT state, transaction_uid, peer FROM commitments").fetchall() == [
                ("owed", "1.2.3", "pacs")
            ]
    again = opened(settings)
    with pacs.listening(), reporter_running(again):
        until(lambda: states(again) == ["reported"])
    assert [information.TransactionUID for _, information in pacs.heard] == ["1.2.3"]
    again.store.close()


def test_success_is_not_answered_when_it_cannot_be_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WAIT_MS", 100)
    with receiving(settings) as door:
        with contextlib.closing(sqlite3.connect(settings.data / DATABASE, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert ask(door, asked("1.2.3", (CT, "1.2.4"))).Status == 0x0110
            holder.execute("ROLLBACK")
        assert not states(door)
        assert ask(door, asked("1.2.3", (CT, "1.2.4"))).Status == 0
        assert states(door) == ["owed"]


def test_peer_that_is_down_is_tried_again_until_it_is_up(door: Door, pacs: Pacs) -> None:
    with reporter_running(door):
        assert ask(door, asked("1.2.3", (CT, "1.2.4"))).Status == 0
        until(lambda: door.rows(commitments)[0]["attempts"] >= 1)
        assert "Connection refused" in door.rows(commitments)[0]["reason"]
        with pacs.listening():
            until(lambda: states(door) == ["reported"])
    assert len(pacs.heard) == 1
    assert door.rows(commitments)[0]["reason"] == ""


def test_after_so_many_tries_it_is_failed_and_can_be_asked_again(door: Door, pacs: Pacs) -> None:
    information = asked("1.2.3", (CT, "1.2.4"))
    pacs.answer = 0x0110
    with pacs.listening(), reporter_running(door):
        assert ask(door, information).Status == 0
        until(lambda: states(door) == ["failed"])
        (row,) = door.rows(commitments)
        assert (row["attempts"], row["reason"]) == (3, "it answered 0x0110")
        pacs.answer = 0
        assert ask(door, information).Status == 0
        until(lambda: states(door) == ["reported"])
    assert len(pacs.heard) == 1


def test_dead_peer_does_not_keep_others_waiting(tmp_path: Path) -> None:
    live, dead = free_port(), free_port()
    peers = [
        {"name": "dead", "ae_title": "DEAD", "host": "127.0.0.1", "port": dead},
        {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": live},
    ]
    with receiving(settings_of(tmp_path, peers)) as door, Pacs(live).listening() as pacs, reporter_running(door):
        assert ask(door, asked("1.2.3", (CT, "1.2.4")), sender="DEAD").Status == 0
        assert ask(door, asked("1.2.3", (CT, "1.2.4")), sender="PACS").Status == 0
        until(lambda: pacs.heard)
        until(lambda: sorted(states(door)) == ["failed", "reported"])


def test_pauses_grow_up_to_the_longest(door: Door) -> None:
    now = [100.0]
    reporter = CommitmentReporter(door.settings, door.store, clock=lambda: now[0])
    ask(door, asked("1.2.3", (CT, "1.2.4")))
    assert reporter.step() == pytest.approx(0.05)
    assert reporter.step() == pytest.approx(0.05)  # not yet
    assert door.rows(commitments)[0]["attempts"] == 1
    now[0] += 0.06
    assert reporter.step() == pytest.approx(0.1)
    now[0] += 0.2
    reporter.step()
    assert states(door) == ["failed"]
    assert reporter.step() == 60


def test_same_transaction_again(door: Door, pacs: Pacs) -> None:
    information = asked("1.2.3", (CT, "1.2.4"))
    assert ask(door, information).Status == 0
    assert ask(door, information).Status == 0  # the answer had been lost
    assert ask(door, asked("1.2.3", (CT, "1.2.5"))).Status == 0x0210
    assert states(door) == ["owed"]
    with pacs.listening(), reporter_running(door):
        until(lambda: states(door) == ["reported"])
    assert ask(door, information).Status == 0x0210
    assert len(pacs.heard) == 1


@pytest.mark.parametrize(
    ("transaction", "pairs", "more", "status"),
    [
        ("1.2.3", [(CT, "1.2.4")], {"action": 2}, 0x0123),
        ("1.2.3", [(CT, "1.2.4")], {"instance": "1.2.3"}, 0x0112),
        ("1.2.3", [(CT, "1.2.4")], {"sender": "CT1"}, 0x0110),  # no port to report to
        ("", [(CT, "1.2.4")], {}, 0x0114),
        ("1.2.3", [], {}, 0x0114),
        ("1.2.3", [(CT, "1.2.4"), (CT, "../../x")], {}, 0x0115),
        ("1.2.3", [("x", "1.2.4")], {}, 0x0115),
        ("1.." + "2" * 30, [(CT, "1.2.4")], {}, 0x0115),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_request_that_makes_no_sense(
    door: Door, transaction: str, pairs: list[tuple[str, str]], more: dict[str, Any], status: int
) -> None:
    answer = ask(door, asked(transaction, *pairs), **more)
    assert answer.Status == status
    assert answer.ErrorComment
    assert not states(door)


def test_thousands_of_objects_in_one_request(door: Door, pacs: Pacs) -> None:
    pairs = [(CT, f"1.2.3.{number}") for number in range(3000)]
    with pacs.listening(), reporter_running(door):
        assert ask(door, asked("1.2.3", *pairs)).Status == 0
        ((_, information),) = until(lambda: pacs.heard)
    assert len(information.FailedSOPSequence) == 3000


def test_report_over_tls(tmp_path: Path) -> None:
    import ssl

    (tmp_path / "node").mkdir()
    port = free_port()
    with certificates(tmp_path / "pki") as pki:
        tls = {"certificate": pki / "node.crt", "key": pki / "node.key", "ca": pki / "authority.crt"}
        peers = [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "tls": True}]
        door = opened(settings_of(tmp_path / "node", peers, tls=tls))
        with door.store.writing() as change:
            change.add(
                commitments, transaction_uid="1.2", peer="pacs", asked=[[CT, "1.3"]], state="owed", created_at="now"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "peer.crt", pki / "peer.key")
        context.load_verify_locations(pki / "authority.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        with Pacs(port).listening(ssl_context=context) as pacs, reporter_running(door):
            until(lambda: pacs.heard)
        door.store.close()


def test_peer_that_is_no_more_is_failed_with_a_reason(door: Door) -> None:
    with door.store.writing() as change:
        change.add(commitments, transaction_uid="1.2", peer="old", asked=[[CT, "1.3"]], state="owed", created_at="now")
    CommitmentReporter(door.settings, door.store).step()
    (row,) = door.rows(commitments)
    assert (row["state"], row["reason"]) == ("failed", "this peer has no host and port any more")


def test_answer_for_nothing_known(door: Door) -> None:
    kind, information = event_report(door.store, "1.2", [(CT, "1.3")])
    assert kind == 2
    assert "ReferencedSOPSequence" not in information


# Answered to us


def told_us(kept: list[str], failed: dict[str, int]) -> Dataset:
    information = asked("1.2.840.1", *((CT, uid) for uid in kept))
    information.FailedSOPSequence = [Dataset() for _ in failed]
    for item, (uid, reason) in zip(information.FailedSOPSequence, failed.items(), strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, item.FailureReason = CT, uid, reason
    return information


@contextlib.contextmanager
def reporting(door: Door, scu: bool = False) -> Iterator[Any]:
    """How a PACS reports: on an association of its own, in the role of the SCP."""
    role = build_role(COMMITMENT, scu_role=scu, scp_role=True)
    with door.association(COMMITMENT, sender="PACS", ext_neg=[role]) as association:
        assert association.is_established
        yield association


@pytest.mark.parametrize("scu", [False, True])
def test_report_of_a_peer_is_handed_on(door: Door, scu: bool) -> None:
    with reporting(door, scu) as association:
        status, _ = association.send_n_event_report(
            told_us(["1.2.3", "1.2.4"], {"1.2.5": 0x0112, "1.2.6": 0x7777}), 2, COMMITMENT, INSTANCE
        )
    assert status.Status == 0
    assert door.reports == [
        (
            "1.2.840.1",
            ["1.2.3", "1.2.4"],
            {"1.2.5": "0x0112 no such object instance", "1.2.6": "0x7777 no reason known here"},
        )
    ]
    assert door.reporters == ["pacs"]


@pytest.mark.parametrize(
    "fault", [StoreUnavailable("x", allowed="y", cure="z"), KeyError("x"), NotAllowedNow("x", allowed="y", cure="z")]
)
def test_report_that_could_not_be_noted_is_answered_by_a_failure(door: Door, fault: Exception) -> None:
    door.report_fault = fault
    with reporting(door) as association:
        status, _ = association.send_n_event_report(told_us(["1.2.3"], {}), 1, COMMITMENT, INSTANCE)
        assert status.Status == 0x0110
        door.report_fault = None
        status, _ = association.send_n_event_report(told_us(["1.2.3"], {}), 1, COMMITMENT, INSTANCE)
        assert status.Status == 0
    assert len(door.reports) == 1


def test_report_without_a_transaction_is_refused(door: Door) -> None:
    information = told_us(["1.2.3"], {})
    del information.TransactionUID
    with reporting(door) as association:
        status, _ = association.send_n_event_report(information, 1, COMMITMENT, INSTANCE)
    assert status.Status == 0x0115
    assert not door.reports


def test_report_waits_until_it_was_noted(door: Door) -> None:
    may_go, answers = threading.Event(), []
    keep = door.report
    noting: list[int] = []

    def slow(*arguments: Any) -> None:
        noting.append(len(answers))
        may_go.wait(WITHIN_S)
        keep(*arguments)

    door.report = slow  # type: ignore[method-assign]

    def send() -> None:
        with reporting(door) as association:
            answers.append(association.send_n_event_report(told_us(["1.2"], {}), 1, COMMITMENT, INSTANCE)[0].Status)

    sender = threading.Thread(target=send)
    sender.start()
    until(lambda: noting)
    assert not answers
    may_go.set()
    sender.join()
    assert answers == [0]
    assert len(door.reports) == 1


def test_report_with_nothing_in_it() -> None:
    information = Dataset()
    information.TransactionUID = "1.2"
    assert read_report(information) == ("1.2", [], {})


def test_nothing_is_promised_when_there_is_no_room(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests take room, too, and could be repeated for ever."""
    monkeypatch.setattr(door.intake.space, "no_room_reason", lambda coming_bytes=0: "full")
    assert ask(door, asked(generate_uid(), (CT, "1.2.3"))).Status == 0x0213
    assert not door.rows(commitments)
    monkeypatch.undo()
    assert ask(door, asked(generate_uid(), (CT, "1.2.3"))).Status == 0


@pytest.mark.parametrize(
    ("state", "created_at", "stays"),
    [
        ("reported", "2001-01-01T00:00:00.000+00:00", False),
        ("failed", "2001-01-01T00:00:00.000+00:00", False),
        ("owed", "2001-01-01T00:00:00.000+00:00", True),
        ("reported", "2999-01-01T00:00:00.000+00:00", True),
    ],
)
def test_requests_are_forgotten_when_they_bind_nobody_any_more(
    state: str, created_at: str, stays: bool, door: Door
) -> None:
    with door.store.writing() as change:
        values = {"transaction_uid": "1.2", "peer": "pacs", "asked": [["1.2", "1.3"]]}
        change.add(commitments, state=state, created_at=created_at, **values)
    Retention(door.settings, door.store).step()
    assert bool(door.rows(commitments)) == stays
