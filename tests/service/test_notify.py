"""Notifications: once for each cause, once more when it is over, by channels that may be dead, without a patient."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from service.certificates import Certificates, make_certificates
from service.mail_server import mail_server
from service.peers import Call, House, http, peer, until
from service.rows import Clock, rows_of
from service.test_backup import settings_file
from sqlalchemy import select
from typer.testing import CliRunner

from iscl_monai.cli.node import node
from iscl_monai.console import IN_PART
from iscl_monai.errors import ConfigRefusal, StoreUnavailable
from iscl_monai.service.database.tables import jobs, notices
from iscl_monai.service.notify import channels
from iscl_monai.service.notify.causes import causes_of_jobs
from iscl_monai.service.notify.channels import MailChannel, NotSentError, WebhookChannel
from iscl_monai.service.notify.message import Message
from iscl_monai.service.notify.notices import Batch, Notice
from iscl_monai.service.notify.notifier import Notifier
from iscl_monai.service.notify.trial import send_test_messages
from iscl_monai.service.notify_settings import Mail, Webhook
from iscl_monai.service.working.queue import cancel


class Listed:
    """A channel that keeps what it is given, or does not take it."""

    def __init__(self, name: str = "webhook") -> None:
        self.name = name
        self.messages: list[Message] = []
        self.fault: Exception | None = None

    def send(self, message: Message) -> None:
        if self.fault is not None:
            raise self.fault
        self.messages.append(message)


class Desk:
    """A node's notifier, stepped by hand."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.house = House(folder / "data", peer())
        self.clock = Clock()
        self.parts: dict[str, tuple[bool, str]] = {"disk": (True, "")}
        self.channels = tuple(Listed(name) for name in names or ("webhook",))
        self.notifier = self.made()

    def made(self) -> Notifier:
        return Notifier(self.house.settings, self.house.store, lambda: self.parts, self.channels, self.clock)

    def step(self, seconds: float = 130) -> None:
        self.clock.now += seconds
        self.notifier.step()
        for teller in self.notifier.tellers.values():
            teller.step()

    def texts(self, index: int = 0) -> list[str]:
        return [message.text for message in self.channels[index].messages]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_part_is_told_once_after_a_while_and_once_more_when_it_is_over(desk: Desk) -> None:
    desk.parts["destination pacs"] = (False, "no connection")
    desk.step(1)
    assert desk.texts() == [], "it may be over in a moment"
    for text in ("no connection", "rejected", "no connection"):
        desk.parts["destination pacs"] = (False, text)
        desk.step()
    assert len(desk.texts()) == 1
    assert "destination pacs is not well: no connection" in desk.texts()[0]
    desk.parts["destination pacs"] = (True, "")
    desk.step(1)
    assert len(desk.texts()) == 1
    desk.step()
    desk.step()
    assert len(desk.texts()) == 2
    assert "Resolved:\n- destination pacs" in desk.texts()[1]


def test_what_comes_and_goes_is_never_told(desk: Desk) -> None:
    for well in (False, True) * 4:
        desk.parts["worker"] = (well, "")
        desk.step(60)
    assert desk.texts() == []


def test_jobs_of_one_look_are_one_message_and_each_is_told_once(desk: Desk) -> None:
    for _ in range(30):
        desk.house.job(1, state="held")
    desk.step(1)
    desk.step(1)
    (text,) = desk.texts()
    assert "30 need a person" in text
    assert text.count("is held") == 20
    assert "and 10 more" in text
    with desk.house.store.writing() as change:
        cancel(change, 1, "anna")
    desk.step(1)
    assert "ISCL: 1 resolved" in desk.texts()[1]


def test_no_patient_and_no_description_is_in_a_message(desk: Desk) -> None:
    job = desk.house.job(1, state="held")
    with desk.house.store.writing() as change:
        change.execute(jobs.update().where(jobs.c.id == job.id).values(reason="Doe^John", note="Doe^John"))
    desk.step()
    (message,) = desk.channels[0].messages
    assert "Doe" not in message.text + json.dumps(message.as_json())
    (cause,) = causes_of_jobs(desk.house.store)
    assert cause.sentence == f"series {job.series_id}: job {job.id} (rule all) is held"


def test_a_restart_tells_nobody_twice_and_forgets_no_end(desk: Desk) -> None:
    desk.parts["disk"] = (False, "full")
    desk.step()
    desk.step()
    desk.notifier = desk.made()
    desk.step()
    desk.step()
    assert len(desk.texts()) == 1
    desk.notifier = desk.made()
    desk.parts["disk"] = (True, "")
    desk.step()
    desk.step()
    assert "Resolved" in desk.texts()[1]
    assert rows_of(desk.house.store, select(notices)) == [], "what everybody knows to be over is forgotten"


def test_a_database_that_cannot_be_written_is_told_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise StoreUnavailable("read-only", allowed="", cure="")

    monkeypatch.setattr(desk.house.store, "writing", refuse)
    desk.parts["database"] = (False, "read-only")
    desk.step()
    desk.step()
    desk.step()
    assert len(desk.texts()) == 1


@pytest.mark.parametrize("fault", [NotSentError("it answers 500"), RuntimeError("poison")])
def test_a_dead_channel_holds_up_no_other_and_tells_later(fault: Exception, tmp_path: Path) -> None:
    desk = Desk(tmp_path, "webhook", "mail")
    dead, alive = desk.channels
    dead.fault = fault
    desk.parts["disk"] = (False, "full")
    desk.notifier.start()
    try:
        for _ in range(3):
            desk.clock.now += 700
            desk.notifier.loop.wake()
            until(lambda: not desk.notifier.loop._wake.is_set())
        until(lambda: alive.messages)
        until(lambda: desk.notifier.tellers["webhook"].trouble)
        assert all(loop.alive for loop in desk.notifier.loops)
        dead.fault = None
        desk.clock.now += 700
        desk.notifier.loop.wake()
        until(lambda: dead.messages)
        assert desk.notifier.tellers["webhook"].trouble == ""
    finally:
        assert desk.notifier.stop(30)
    assert len(alive.messages) == 1
    assert "disk is not well" in dead.messages[0].text


def test_a_channel_that_hangs_keeps_the_node_from_no_end(tmp_path: Path) -> None:
    desk, begun, hangs = Desk(tmp_path), threading.Event(), threading.Event()

    def hang(message: Message) -> None:
        begun.set()
        hangs.wait(60)

    desk.channels[0].send = hang  # type: ignore[method-assign]
    desk.house.job(1, state="held")
    desk.notifier.start()
    assert begun.wait(30)
    assert not desk.notifier.stop(0.05)
    hangs.set()
    assert desk.notifier.stop(30)


def test_a_health_check_that_raises_ends_no_loop_and_resolves_nothing(desk: Desk) -> None:
    desk.house.job(1, state="held")
    desk.parts["disk"] = (False, "full")
    desk.step()
    desk.step()
    desk.notifier.health = lambda: 1 // 0  # type: ignore[assignment]
    desk.step()
    desk.step()
    assert list(desk.notifier.loop.failing) == ["parts"]
    assert not any("Resolved" in text for text in desk.texts())


def test_a_channel_is_not_told_of_its_own_end_but_others_are(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "webhook", "mail")
    desk.parts["notify webhook"] = (False, "it answers 500")
    desk.step()
    desk.step()
    assert desk.texts(0) == []
    assert "notify webhook is not well" in desk.texts(1)[0]


MESSAGE = Message("ISCL", Batch((Notice("part disk", "disk is not well", "2026-11-30T09:00:00+00:00"),), ()))


@pytest.mark.parametrize(("code", "taken"), [(200, True), (204, True), (302, False), (500, False)])
def test_a_webhook_gets_json_with_a_text_and_a_token(code: int, taken: bool, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")

    def respond(call: Call) -> tuple[int, bytes]:
        return code, b""

    with http(respond) as (root, calls):
        channel = WebhookChannel(Webhook(url=f"{root}/hook", token_file=tmp_path / "token"))
        if taken:
            channel.send(MESSAGE)
        else:
            with pytest.raises(NotSentError, match=str(code)):
                channel.send(MESSAGE)
    body = json.loads(calls[0].body)
    assert calls[0].headers["authorization"] == "Bearer s3cret"
    assert body["text"].startswith("ISCL: 1 needs a person")
    assert body["opened"][0]["cause"] == "part disk"


def test_a_webhook_that_is_down_or_has_no_token_is_an_answer(tmp_path: Path) -> None:
    for webhook in (Webhook(url="http://127.0.0.1:9/"), Webhook(url="http://127.0.0.1:9/", token_file=tmp_path / "no")):
        with pytest.raises(NotSentError, match="cannot be reached"):
            WebhookChannel(webhook).send(MESSAGE)


@contextmanager
def dripping(begins: bytes, goes_on: bytes) -> Iterator[int]:
    """The port of a server that always says something, and never enough; each step of a connection is fast."""
    over = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(begins)
                while not over.wait(0.02):
                    self.request.sendall(goes_on)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            thread.join()


def test_a_server_that_drips_is_not_waited_for(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tarpits do. A thread that waits for one would tell nobody anything any more, and look well."""
    monkeypatch.setattr(channels, "WHOLE_S", 0.2)
    with dripping(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n") as port, pytest.raises(NotSentError, match="not answered whole"):
        WebhookChannel(Webhook(url=f"http://127.0.0.1:{port}/")).send(MESSAGE)
    with dripping(b"220-wait\r\n", b"220-wait\r\n") as port, pytest.raises(NotSentError, match="does not take it"):
        MailChannel(mail_to(port, certificates, tmp_path)).send(MESSAGE)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def mail_to(port: int, certificates: Certificates, folder: Path, **more: Any) -> Mail:
    (folder / "password").write_text("pw\n")
    values = {"host": "localhost", "port": port, "ca": certificates.authority, "sender": "iscl@example.org"}
    login = {"user": "iscl", "password_file": folder / "password"}
    return Mail.model_validate({**values, **login, "to": ["it@example.org"], **more})


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_by_tls_alone(security: str, certificates: Certificates, tmp_path: Path) -> None:
    with mail_server(certificates, tls=security == "tls") as (port, lines):
        MailChannel(mail_to(port, certificates, tmp_path, security=security)).send(MESSAGE)
    assert "Subject: ISCL: 1 needs a person" in lines
    assert "To: it@example.org" in lines
    if security == "starttls":
        assert not any(line.upper().startswith(("MAIL", "AUTH")) for line in lines[: lines.index("STARTTLS")])


def test_a_mail_server_with_another_certificate_gets_nothing(certificates: Certificates, tmp_path: Path) -> None:
    with mail_server(certificates, tls=False) as (port, lines):
        channel = MailChannel(mail_to(port, certificates, tmp_path, ca=certificates.stranger.certificate))
        with pytest.raises(NotSentError, match="CERTIFICATE_VERIFY_FAILED"):
            channel.send(MESSAGE)
    assert not any(line.upper().startswith(("MAIL", "AUTH")) for line in lines)


def test_a_refused_address_is_an_answer(certificates: Certificates, tmp_path: Path) -> None:
    with (
        mail_server(certificates, tls=True, refuse="it@") as (port, _),
        pytest.raises(NotSentError, match="does not take it"),
    ):
        MailChannel(mail_to(port, certificates, tmp_path, security="tls")).send(MESSAGE)


@pytest.mark.parametrize(
    "wrong", [{"to": []}, {"sender": "x\r\nBcc: y@z"}, {"security": "none"}, {"user": None}, {"to": ["a@b, c@d"]}]
)
def test_wrong_settings_of_mail_are_refused(wrong: dict[str, Any], certificates: Certificates, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        mail_to(25, certificates, tmp_path, **wrong)


def test_a_test_message_goes_through_every_channel_whatever_becomes_of_the_others(desk: Desk) -> None:
    channels = tuple(Listed(name) for name in ("webhook", "mail", "third"))
    channels[0].fault, channels[1].fault = NotSentError("the webhook answers 500"), ValueError()
    reasons = send_test_messages(desk.house.settings, channels)
    assert reasons == {"webhook": "the webhook answers 500", "mail": "a fault of ours (ValueError)", "third": ""}
    (message,) = channels[2].messages
    assert message.subject == "ISCL: test message"
    assert "Nothing needs anybody" in message.text
    assert message.as_json()["test"] is True


def test_a_test_message_without_a_channel_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigRefusal, match="nobody to tell"):
        send_test_messages(desk.house.settings)


def test_a_test_message_by_the_command_line(tmp_path: Path) -> None:
    """To a webhook that takes it, and to one that does not."""
    path = settings_file(tmp_path, tmp_path / "data")
    text = path.read_text()
    for code, exit_code, word in ((204, 0, "webhook: taken"), (500, IN_PART, "webhook: the webhook answers 500")):
        with http(lambda _, code=code: (code, b"")) as (root, calls):
            path.write_text(f'{text}\n[notify.webhook]\nurl = "{root}/hook"\n')
            done = CliRunner().invoke(node, ["test-message", "--config", str(path)])
        assert done.exit_code == exit_code
        assert word in done.output
        assert json.loads(calls[0].body)["test"] is True
