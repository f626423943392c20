"""What strangers do keeps no owner out, and is written down; what has ended stays ended."""

from __future__ import annotations

import pytest
from service.receiving import free_port
from service.rows import rows_of
from service.web.plant import HOST, PASSWORD, TOKEN, Plant, TestClient, post
from service.web.test_web_server import raw, running
from service.web.test_web_stow import TYPE
from sqlalchemy import select

from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import audit, ended_sessions
from iscl_monai.service.web import devices
from iscl_monai.service.web.sessions import COOKIE
from iscl_monai.service.web.throttle import Throttle


def log_in(client: TestClient, password: str = PASSWORD, name: str = "viewer") -> int:
    return int(client.post("/login", data={"name": name, "password": password}, headers={"origin": HOST}).status_code)


def attack(plant: Plant, name: str = "viewer", tries: int = 100) -> None:
    """Wrong passwords from many addresses, without looking each of them up."""
    throttle = plant.app.state.site.throttle
    throttle.clock = lambda: 0.0
    for number in range(tries):
        throttle.record_attempt(name, f"192.0.2.{number}")


def test_an_owner_is_not_locked_out_where_he_has_logged_in_before(plant: Plant) -> None:
    owner, stranger = plant.client(), plant.client()
    assert log_in(owner) == 303
    attack(plant)
    assert log_in(stranger) == 429
    assert log_in(owner) == 303
    assert log_in(owner, name="VIEWER") in (303, 401), "letters do not matter to the throttle"


def test_a_device_of_one_account_opens_no_other(plant: Plant) -> None:
    client = plant.client()
    assert log_in(client) == 303
    attack(plant, "admin")
    assert log_in(client, name="admin") == 429


def test_an_owner_who_is_logged_in_can_change_the_password_whatever_strangers_do(plant: Plant) -> None:
    """Above all then."""
    owner = plant.client("viewer")
    attack(plant)
    wrong = post(owner, "/account", old="no", new="another long password")
    assert "The old password is wrong" in wrong.text
    assert post(owner, "/account", old=PASSWORD, new="another long password").status_code == 303


def test_a_session_can_guess_at_its_password_no_more_than_anybody(plant: Plant) -> None:
    thief = plant.client("viewer")
    plant.app.state.site.throttle.clock = lambda: 0.0
    answers = [post(thief, "/account", old=f"no {number}", new="another long password").text for number in range(6)]
    assert "Too many tries" in answers[-1]


@pytest.mark.parametrize("forged", ["", "x", "a.b"])
def test_a_forged_device_is_none(forged: str, plant: Plant) -> None:
    attack(plant)
    client = plant.client()
    client.cookies.set(devices.COOKIE, forged, path="/login")
    assert log_in(client) == 429


def test_a_stolen_device_can_guess_no_more_than_anybody() -> None:
    throttle = Throttle(lambda: 0.0)
    for _ in range(6):
        throttle.record_attempt("viewer", "192.0.2.1", "device")
    assert throttle.wait_s("viewer", "192.0.2.9", "device") == 4
    assert throttle.wait_s("viewer", "192.0.2.9") == 0, "and the owner elsewhere is not slowed down by it"
    throttle.record_success("viewer", "192.0.2.1", "device")
    assert throttle.wait_s("viewer", "192.0.2.9", "device") == 0


def failed(plant: Plant) -> list[tuple[str, str]]:
    rows = rows_of(plant.store, select(audit).where(audit.c.action == "log in failed"))
    return [(row["object"], row["detail"]) for row in rows]


def test_failed_logins_are_in_the_audit_with_names_of_users_only(plant: Plant) -> None:
    client = plant.client()
    for name in ("viewer", "viewer", "correct horse battery", "nobody"):
        assert log_in(client, "wrong", name) == 401
    assert failed(plant) == [("viewer", "from testclient"), ("unknown user", "from testclient")]


def test_many_failed_logins_become_few_lines_and_silence_nobody(plant: Plant) -> None:
    from iscl_monai.service.web.login import note_failed_login

    site = plant.app.state.site
    for number in range(300):
        note_failed_login(site, f"user{number}", "192.0.2.1")
    note_failed_login(site, "viewer", "10.0.0.1")
    assert len(failed(plant)) <= 12
    assert failed(plant)[-1] == ("viewer", "from 10.0.0.1")


def restarted(plant: Plant) -> None:
    plant.store.close()
    plant.store = Store(plant.store.data)
    plant.app = plant.application()


def test_a_logged_out_cookie_stays_dead_over_a_restart(plant: Plant) -> None:
    client, other = plant.client("viewer"), plant.client("viewer")
    copied, alive = client.cookies[COOKIE], other.cookies[COOKIE]
    assert post(client, "/logout").status_code == 303
    restarted(plant)
    for cookie, status in ((copied, 303), (alive, 200)):
        thief = plant.client()
        thief.cookies.set(COOKIE, cookie)
        assert thief.get("/").status_code == status


def test_sessions_that_ended_long_ago_are_forgotten(plant: Plant) -> None:
    with plant.store.writing() as change:
        change.execute(ended_sessions.insert().values(session="old", ended_at="2001-01-01T00:00:00.000+00:00"))
    assert post(plant.client("viewer"), "/logout").status_code == 303
    kept = plant.store.values(select(ended_sessions.c.session))
    assert len(kept) == 1
    assert "old" not in kept


@pytest.mark.parametrize("path", ["/dicom-web/studies", "/login"])
def test_a_length_together_with_chunks_is_refused(path: str, plant: Plant) -> None:
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Type: {TYPE}",
    )
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(plant.with_web(port=free_port())) as address:
        answer = raw(address, "\r\n".join((*lines, "", "")).encode() + smuggled)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1, "and nothing after it is read"


def test_the_page_shows_failed_logins(plant: Plant) -> None:
    assert log_in(plant.client(), "wrong") == 401
    assert "log in failed" in plant.client("admin").get("/audit").text
