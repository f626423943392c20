"""In and out: passwords, sessions, throttle, forged forms."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service.web.plant import HOST, PASSWORD, Plant, TestClient, csrf, post

from iscl_monai.errors import ConfigRefusal, NotAllowedNow
from iscl_monai.service.web import accounts, sessions
from iscl_monai.service.web.guard import safe_path
from iscl_monai.service.web.throttle import LONGEST_WAIT_S, Throttle

COOKIE = sessions.COOKIE


def logged_in(client: TestClient, name: str, password: str = PASSWORD, **more: str) -> int:
    form = {"name": name, "password": password, **more}
    return int(client.post("/login", data=form, headers={"origin": HOST}).status_code)


def test_right_password_opens_and_leads_on(plant: Plant) -> None:
    client = plant.client()
    form = {"name": "viewer", "password": PASSWORD, "following": "/series/1?slice=2"}
    answer = client.post("/login", data=form, headers={"origin": HOST})
    assert (answer.status_code, answer.headers["location"]) == (303, "/series/1?slice=2")
    kept = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict"} <= {one.strip() for one in kept.split(";")}
    assert "secure" not in kept
    assert client.get("/").status_code == 200
    assert ("viewer", "log in", "viewer") in plant.audited()


def test_cookie_is_secure_behind_a_proxy(plant: Plant) -> None:
    client = plant.with_web(behind_proxy=True).client()
    answer = client.post("/login", data={"name": "viewer", "password": PASSWORD}, headers={"origin": HOST})
    assert "; secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    ("name", "password"), [("viewer", "wrong"), ("nobody", PASSWORD), ("", ""), ("Viewer", PASSWORD)]
)
def test_wrong_is_wrong_and_does_not_tell_what(plant: Plant, name: str, password: str) -> None:
    answer = plant.client().post("/login", data={"name": name, "password": password}, headers={"origin": HOST})
    assert answer.status_code == 401
    assert "Name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_unknown_users_cost_a_verification_too(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    verify = accounts._hasher.verify

    class Watched:
        def verify(self, digest: str, password: str) -> bool:
            asked.append(digest)
            return verify(digest, password)

    monkeypatch.setattr(accounts, "_hasher", Watched())
    assert accounts.verify(plant.store, "nobody", "x") is None
    assert accounts.verify(plant.store, "viewer", "x") is None
    assert [digest.split("$")[3] for digest in asked] == ["m=65536,t=3,p=4"] * 2


def test_password_of_nobody_opens_nothing(plant: Plant) -> None:
    assert accounts.verify(plant.store, "nobody", "nobody") is None


def test_many_tries_are_not_looked_at(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plant.app.state.site.throttle, "clock", lambda: 0.0)  # no time passes
    client = plant.client()
    assert [logged_in(client, "viewer", "wrong") for _ in range(6)] == [401] * 5 + [429]
    assert logged_in(client, "viewer") == 429  # even the right one
    assert logged_in(client, "operator") == 303  # others at the same address are not kept out


def test_wait_grows_and_is_forgiven() -> None:
    moment = 0.0
    throttle = Throttle(lambda: moment)
    waits = []
    for _ in range(30):
        throttle.record_attempt("a", "1.2.3.4")
        waits.append(throttle.wait_s("a", "1.2.3.4"))
    assert waits[:4] == [0, 0, 0, 0]
    assert waits[4:8] == [2, 4, 8, 16]
    assert max(waits) == LONGEST_WAIT_S
    assert throttle.wait_s("A", "9.9.9.9") > 0  # the account, from elsewhere, in other letters
    assert throttle.wait_s("b", "1.2.3.4") == 0
    throttle.record_success("a", "1.2.3.4")
    moment = 3601.0
    assert throttle.wait_s("a", "1.2.3.4") == throttle.wait_s("A", "9.9.9.9") == 0


def test_one_address_guessing_at_many_accounts_is_slowed_down() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(60):
        throttle.record_attempt(f"user{number}", "1.2.3.4")
    assert throttle.wait_s("fresh", "1.2.3.4") > 0
    assert throttle.wait_s("fresh", "4.3.2.1") == 0


def test_own_success_does_not_forgive_guesses_at_others() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(50):
        throttle.record_attempt(f"user{number}", "1.2.3.4")
        throttle.record_attempt("mine", "1.2.3.4")
        throttle.record_success("mine", "1.2.3.4")
    assert throttle.wait_s("fresh", "1.2.3.4") > 0
    assert throttle.wait_s("mine", "4.3.2.1") == 0


def test_address_behind_a_proxy_is_what_the_proxy_says(plant: Plant) -> None:
    client = plant.with_web(behind_proxy=True).client()
    headers = {"origin": HOST, "x-forwarded-for": "6.6.6.6, 10.0.0.7"}
    client.post("/login", data={"name": "viewer", "password": PASSWORD}, headers=headers)
    throttle = plant.app.state.site.throttle
    assert any(address == "10.0.0.7" for _, address in throttle._failures)
    assert not any(address == "6.6.6.6" for _, address in throttle._failures)


def test_logout_ends_a_copied_cookie_too(plant: Plant) -> None:
    client = plant.client("viewer")
    copied = client.cookies[COOKIE]
    assert post(client, "/logout").status_code == 303
    thief = plant.client()
    thief.cookies.set(COOKIE, copied)
    assert thief.get("/").status_code == 303


@pytest.mark.parametrize("what", ["password", "role", "remove"])
def test_sessions_end_when_the_user_changes(plant: Plant, what: str) -> None:
    client = plant.client("operator")
    assert client.get("/").status_code == 200
    if what == "password":
        accounts.set_password(plant.store, "operator", "another long password", actor="admin")
    elif what == "role":
        accounts.set_role(plant.store, "operator", "viewer", actor="admin")
    else:
        accounts.remove_user(plant.store, "operator", actor="admin")
    assert client.get("/").status_code == 303


def test_session_ends_by_itself(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    client = plant.client("viewer")
    assert client.get("/").status_code == 200
    monkeypatch.setattr(plant.app.state.site.sessions, "seconds", -1)
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("forged", ["", "x", "a.b.c", "{}", "é"])
def test_forged_cookies_are_nobody(plant: Plant, forged: str) -> None:
    assert plant.app.state.site.sessions.person(forged) is None


def test_cookie_of_another_node_is_nobody(plant: Plant) -> None:
    other = sessions.Sessions(plant.store, b"0" * 64, 1)
    user = accounts.find(plant.store, "admin")
    assert user is not None
    assert plant.app.state.site.sessions.person(other.begin("admin", "admin", user.sessions_since)) is None


def test_key_is_ours_alone(plant: Plant) -> None:
    path = plant.store.data / sessions.KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert sessions.session_key(plant.store.data) == path.read_bytes()  # and stays
    os.chmod(path, 0o644)
    with pytest.raises(ConfigRefusal, match="read by others"):
        sessions.session_key(plant.store.data)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": HOST, "sec-fetch-site": "cross-site"},
        {"origin": HOST, "sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/users/add"])
def test_forms_of_other_sites_are_refused(plant: Plant, path: str, headers: dict[str, str]) -> None:
    client = plant.client("admin")
    form = {"csrf": csrf(client), "name": "intruder", "password": PASSWORD, "role": "admin"}
    assert client.post(path, data=form, headers=headers).status_code == 403
    assert accounts.find(plant.store, "intruder") is None


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é", "of another"])
def test_forged_tokens_are_refused(plant: Plant, token: str | None) -> None:
    client = plant.client("admin")
    token = csrf(plant.client("admin")) if token == "of another" else token
    form = {"name": "intruder", "password": PASSWORD, "role": "admin", **({} if token is None else {"csrf": token})}
    assert client.post("/users/add", data=form, headers={"origin": HOST}).status_code == 403
    assert accounts.find(plant.store, "intruder") is None


def test_token_may_come_as_a_header(plant: Plant) -> None:
    client = plant.client("admin")
    form = {"name": "colleague", "password": PASSWORD, "role": "viewer"}
    answer = client.post("/users/add", data=form, headers={"origin": HOST, "x-csrf-token": csrf(client)})
    assert answer.status_code == 303
    assert accounts.find(plant.store, "colleague") is not None


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "", None]
)
def test_login_never_leads_elsewhere(path: str | None) -> None:
    assert safe_path(path) == "/"


@given(st.text())
def test_wherever_it_leads_is_ours(path: str) -> None:
    assert re.match(r"/(?![/\\])", safe_path(path))


@pytest.mark.parametrize(
    ("name", "password", "role", "message"),
    [
        ("anna", "short", "viewer", "5 characters"),
        ("anna", PASSWORD, "boss", "viewer, operator, admin"),
        ("a b", PASSWORD, "viewer", "2 to 64"),
        ("oidc:anna", PASSWORD, "viewer", "2 to 64"),
        ("<script>", PASSWORD, "viewer", "2 to 64"),
        ("ADMIN", PASSWORD, "viewer", "already"),
    ],
)
def test_bad_users_are_refused_in_one_line(plant: Plant, name: str, password: str, role: str, message: str) -> None:
    with pytest.raises(ConfigRefusal, match=re.escape(message)) as refusal:
        accounts.add_user(plant.store, name, password, role)
    assert "\n" not in str(refusal.value)
    assert password not in str(refusal.value)


def test_there_is_always_an_admin(plant: Plant) -> None:
    with pytest.raises(NotAllowedNow, match="last admin"):
        accounts.remove_user(plant.store, "admin", actor="admin")
    with pytest.raises(NotAllowedNow, match="last admin"):
        accounts.set_role(plant.store, "admin", "viewer", actor="admin")
    accounts.set_role(plant.store, "viewer", "admin", actor="admin")
    accounts.remove_user(plant.store, "admin", actor="viewer")


def test_users_page_adds_changes_and_removes(plant: Plant) -> None:
    client = plant.client("admin")
    assert post(client, "/users/add", name="anna", password=PASSWORD, role="viewer").status_code == 303
    assert post(client, "/users/role", name="anna", role="operator").status_code == 303
    assert "anna" in client.get("/users").text
    assert post(client, "/users/password", name="anna", password="four words of mine").status_code == 303
    assert accounts.verify(plant.store, "anna", "four words of mine") is not None
    assert post(client, "/users/remove", name="anna", sure="yes").status_code == 303
    assert post(client, "/users/remove", name="anna", sure="yes").status_code == 409
    refused = post(client, "/users/remove", name="admin", sure="yes")
    assert refused.status_code == 409
    assert "last admin" in refused.text
    done = [row[1:] for row in plant.audited() if row[0] == "admin"]
    assert done == [("add user", "anna"), ("set role", "anna"), ("set password", "anna"), ("remove user", "anna")]


def test_own_password_needs_the_old_one_and_ends_other_sessions(plant: Plant) -> None:
    client, elsewhere = plant.client("viewer"), plant.client("viewer")
    assert post(client, "/account", old="wrong", new="another long password").status_code == 409
    assert post(client, "/account", old=PASSWORD, new="short").status_code == 409
    assert post(client, "/account", old=PASSWORD, new="another long password").status_code == 303
    assert client.get("/account").status_code == 200
    assert elsewhere.get("/account").status_code == 303
    assert accounts.verify(plant.store, "viewer", "another long password") is not None


def test_no_password_is_in_the_database(plant: Plant) -> None:
    plant.store.close()
    for path in plant.store.data.glob("node.sqlite*"):
        assert PASSWORD.encode() not in path.read_bytes()
