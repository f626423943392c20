"""Destinations: whether each peer answers, and what a person pauses."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import Orthanc
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from service.peers import Call, House, Pacs, http, peer, until
from service.receiving import free_port
from service.rows import settings_for
from service.test_serve import configuration
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.errors import NotAllowedNow
from iscl_monai.service.connect import connect
from iscl_monai.service.node import Node
from iscl_monai.service.sending import pausing
from iscl_monai.service.sending.echo import EchoAnswer, echo_client
from iscl_monai.service.sending.echoes import Echoes, PeerEcho
from iscl_monai.service.settings import Settings


def settings_with(data: Path, *peers: dict[str, Any], **more: Any) -> Settings:
    rule = {"name": "all", "send_to": [one["name"] for one in peers if one.get("port") or one.get("url")]}
    return settings_for(data, peers=list(peers), rules=[rule], **more)


def answer_of(settings: Settings) -> EchoAnswer:
    return echo_client(settings, settings.peers[0]).echo()


def test_a_real_pacs_answers_and_accepts_all_that_the_settings_need(pacs: Orthanc, tmp_path: Path) -> None:
    pacs.introduce("ISCL", free_port())
    both = (
        peer("orthanc", pacs.dicom_port, sweep=True),
        {"name": "web", "url": f"{pacs.root}/dicom-web", "confirm": "query"},
    )
    lines = list(connect(settings_with(tmp_path, *both)))
    assert [well for well, _ in lines] == [True, True], lines
    assert "C-ECHO answered in" in lines[0][1]
    assert "QIDO-RS answered in" in lines[1][1]


@pytest.mark.parametrize(("status", "failure"), [(0x0000, ""), (0x0122, "status 0x0122")])
def test_what_a_peer_answers_and_does_not_accept(status: int, failure: str, tmp_path: Path) -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: status)])
    assert server is not None
    answer = answer_of(settings_with(tmp_path, peer(port=port)))
    server.shutdown()
    assert answer.failure == failure
    assert answer.lacking == ("CT Image Storage", "Storage Commitment")
    if not failure:
        assert "does not accept CT Image Storage and Storage Commitment" in answer.sentence


def test_after_a_reload_a_peer_is_asked_for_what_the_new_rules_need(tmp_path: Path) -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0x0000)])
    assert server is not None
    routed = settings_with(tmp_path, peer(port=port))
    echoes = Echoes(routed.model_copy(update={"rules": (routed.rules[0].model_copy(update={"send_to": ()}),)}))
    (one,) = echoes.peers.values()
    assert one.client.echo().lacking == ()
    one.pending = False
    echoes.use(routed)
    assert one.client.echo().lacking == ("CT Image Storage", "Storage Commitment")
    assert one.pending, "at once"
    server.shutdown()


def test_a_peer_that_is_down_or_hangs_is_no_answer(tmp_path: Path) -> None:
    down = answer_of(settings_with(tmp_path, peer(port=free_port())))
    assert "no connection with" in down.failure
    settings = settings_with(tmp_path, peer(port=free_port()), node={"timeout_s": 0.5})
    listening = threading.Event()

    def silent() -> None:
        import socket

        with socket.create_server(("127.0.0.1", int(settings.peers[0].port or 0))):
            listening.set()
            asked.wait(60)

    asked = threading.Event()
    thread = threading.Thread(target=silent)
    thread.start()
    listening.wait(60)
    hanging = answer_of(settings)
    asked.set()
    thread.join()
    assert "did not accept" in hanging.failure


@pytest.mark.parametrize(
    ("code", "kind", "failure"),
    [
        (200, "application/dicom+json", ""),
        (204, "", ""),
        (404, "", ""),
        (401, "", "does not accept our token"),
        (500, "", "answers 500"),
        (200, "text/html", "no JSON"),
    ],
)
def test_what_a_dicomweb_server_answers(code: int, kind: str, failure: str, tmp_path: Path) -> None:
    def respond(call: Call) -> tuple[int, bytes]:
        assert call.path == "/studies?limit=1"
        return code, b"[]" if code == 200 else b""

    with http(respond, kind) as (root, _):
        answer = answer_of(settings_with(tmp_path, {"name": "web", "url": root, "confirm": "query"}))
    assert (failure in answer.failure) if failure else not answer.failure


class Scripted:
    """A client whose answers are given beforehand."""

    def __init__(self, *failures: str) -> None:
        self.answers = [EchoAnswer("C-ECHO", failure, 3) for failure in failures]

    def echo(self) -> EchoAnswer:
        return self.answers.pop(0)

    def use(self, settings: Settings) -> None:
        pass

    def abort(self) -> None:
        pass


def test_the_last_answer_and_the_last_success_are_kept() -> None:
    one = PeerEcho("pacs", Scripted("", "down", ""), 300)
    assert one.pending
    assert one.step() == 300
    succeeded_at = one.last_success_at
    assert not one.pending
    assert succeeded_at
    one.check_now()
    assert one.pending
    one.step()
    assert one.trouble == "C-ECHO: down"
    assert one.last_success_at == succeeded_at
    one.step()
    assert one.trouble == ""


def test_one_peer_that_hangs_holds_up_no_other_and_no_stop(tmp_path: Path) -> None:
    hang, aborted = threading.Event(), threading.Event()

    class Hanging(Scripted):
        def echo(self) -> EchoAnswer:
            assert hang.wait(60)
            return EchoAnswer("C-ECHO", "aborted")

        def abort(self) -> None:
            aborted.set()
            hang.set()

    clients = {"slow": Hanging(), "quick": Scripted("")}
    settings = settings_with(tmp_path, peer("slow"), peer("quick"))
    echoes = Echoes(settings, lambda _, asked: clients[asked.name])
    echoes.start()
    until(lambda: echoes.peers["quick"].answer)
    assert echoes.peers["slow"].answer is None
    assert echoes.stop()
    assert aborted.is_set()


def test_a_client_that_raises_ends_no_loop(tmp_path: Path) -> None:
    class Poisoned(Scripted):
        def echo(self) -> EchoAnswer:
            raise ValueError

    echoes = Echoes(settings_with(tmp_path, peer()), lambda *_: Poisoned())
    echoes.start()
    (loop,) = echoes.loops
    until(lambda: loop.failing)
    assert loop.alive
    assert echoes.stop()


def test_a_paused_destination_keeps_its_deliveries_and_no_other_waits(tmp_path: Path) -> None:
    with Pacs().running() as first, Pacs(ae_title="OTHER").running() as second:
        peers = peer(port=first.port, confirm="status"), peer("other", second.port, confirm="status")
        house = House(tmp_path / "data", *peers)
        with house.store.writing() as change:
            pausing.pause(change, "pacs", "anna")
        job = house.job(2, to=("pacs", "other"))
        with house.sending() as sender:
            until(lambda: len(second.took) == 2)
            until(lambda: sender.destinations["pacs"].pause)
            assert first.associations == []
            assert job.row()["state"] == "sending"
            waiting = [row for row in job.rows() if row["destination"] == "pacs"]
            assert [(row["state"], row["attempts"]) for row in waiting] == [("waiting", 0)] * 2
            with house.store.writing() as change:
                pausing.resume(change, "pacs", "bert")
            sender.read_pause("pacs")
            job.becomes("done")
    assert len(first.took) == 2


def test_a_pause_stops_a_batch_between_two_objects(tmp_path: Path) -> None:
    house: House

    def pause_it(uid: str, association: Any) -> int:
        if not pausing.pauses(house.store):
            with house.store.writing() as change:
                pausing.pause(change, "pacs", "anna")
            sender.read_pause("pacs")
        return 0x0000

    with Pacs(status=pause_it).running() as pacs:
        house = House(tmp_path / "data", peer(port=pacs.port, confirm="status"))
        job = house.job(4)
        with house.sending() as sender:
            until(lambda: pacs.took)
            until(lambda: {row["state"] for row in job.rows()} == {"sent", "waiting"})
    assert len(pacs.took) == 1


def test_who_paused_and_resumed_is_in_the_audit_and_twice_is_refused(tmp_path: Path) -> None:
    house = House(tmp_path / "data", peer())
    with house.store.writing() as change:
        pausing.pause(change, "pacs", "anna")
    with pytest.raises(NotAllowedNow, match="paused already"), house.store.writing() as change:
        pausing.pause(change, "pacs", "bert")
    assert pausing.pauses(house.store)["pacs"].paused_by == "anna"
    with house.store.writing() as change:
        pausing.resume(change, "pacs", "bert")
    with pytest.raises(NotAllowedNow, match="not paused"), house.store.writing() as change:
        pausing.resume(change, "pacs", "bert")
    from service.rows import rows_of
    from sqlalchemy import select

    from iscl_monai.service.database.tables import audit

    found = [(row["who"], row["action"], row["object"]) for row in rows_of(house.store, select(audit))]
    assert found == [("anna", "pause destination", "pacs"), ("bert", "resume destination", "pacs")]


def test_health_shows_a_pause_as_no_fault_and_a_silent_peer_as_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = settings_with(data, peer(), node={"port": free_port()}, web={"port": free_port()})
    node = Node(settings)
    try:
        node.echoes.peers["pacs"].answer = EchoAnswer("C-ECHO", "no connection")
        assert node.health()["destination pacs"] == (False, "C-ECHO: no connection")
        with node.store.writing() as change:
            pausing.pause(change, "pacs", "anna")
        node.sender.read_pause("pacs")
        well, text = node.health()["destination pacs"]
        assert well
        assert "paused by anna" in text
    finally:
        node.stop()


def test_connect_prints_a_line_for_each_and_tells_by_its_exit_code(tmp_path: Path, bundle: Path) -> None:
    path = configuration(tmp_path, bundle)
    with Pacs(storage=("1.2.840.10008.1.1",)).running() as pacs:
        path.write_text(path.read_text().replace("port = 104", f'port = {pacs.port}\nconfirm = "status"'))
        lacking = CliRunner().invoke(app, ["serve", "--config", str(path), "--check", "--connect"])
    assert lacking.exit_code == 3
    assert "peer pacs: NOT WELL; C-ECHO answered" in lacking.output
    assert "does not accept CT Image Storage" in lacking.output
    down = CliRunner().invoke(app, ["serve", "--config", str(path), "--check", "--connect"])
    assert down.exit_code == 3
    assert "no connection" in down.output
    alone = CliRunner().invoke(app, ["serve", "--config", str(path), "--connect"])
    assert alone.exit_code == 2
    assert not (tmp_path / "data").exists()


def test_a_peer_that_only_calls_is_not_asked(tmp_path: Path) -> None:
    only_calls = {"name": "ct", "ae_title": "CT", "from_hosts": ["127.0.0.1"]}
    with http(lambda _: (200, json.dumps([]).encode())) as (root, _):
        lines = list(connect(settings_with(tmp_path, {"name": "web", "url": root, "confirm": "query"}, only_calls)))
    assert [well for well, _ in lines] == [True, True]
    assert "only calls the node" in lines[1][1]
