"""Log in by an identity provider: real HTTP, real signatures; whoever cannot prove it stays outside."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from select import select
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey
from service.receiving import free_port, until
from service.web.plant import HOST, Plant, TestClient
from service.web.provider import CLIENT, SECRET, SmallProvider, serving
from service.web.test_web_server import raw, running

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.web import oidc
from iscl_monai.service.web import provider as provider_module
from iscl_monai.service.web.sessions import COOKIE

ROLES = {"radiology": "viewer", "physics": "operator", "it": "admin"}


@pytest.fixture
def provider() -> Iterator[SmallProvider]:
    with serving(SmallProvider()) as running:
        running.claims["groups"] = ["staff", "radiology"]
        yield running


def settings(folder: Path, issuer: str, **more: Any) -> dict[str, Any]:
    secret = folder / "secret"
    secret.write_text(SECRET + "\n")
    return {"issuer": issuer, "client_id": CLIENT, "client_secret_file": secret, "roles": ROLES, **more}


@pytest.fixture
def client(plant: Plant, provider: SmallProvider, tmp_path: Path) -> TestClient:
    return plant.with_web(oidc=settings(tmp_path, provider.issuer)).client()


def there_and_back(client: TestClient, following: str = "/") -> Any:
    """What a browser does."""
    leaving = client.get("/oidc", params={"next": following})
    assert leaving.status_code == 303, leaving.text
    back = httpx.get(leaving.headers["location"], follow_redirects=False)
    assert back.headers["location"].startswith(f"{HOST}/oidc/back?")
    return client.get(back.headers["location"].removeprefix(HOST))


def test_whoever_has_a_group_gets_its_role(plant: Plant, client: TestClient) -> None:
    answer = there_and_back(client, "/series/3")
    assert answer.status_code == 200
    assert "url=/series/3" in answer.text
    kept = answer.headers["set-cookie"].lower()
    assert "samesite=strict" in kept
    page = client.get("/").text
    assert "oidc:erika" in page
    assert client.get("/audit").status_code == 403
    assert ("oidc:erika", "log in", "oidc:erika") in plant.audited()


def test_login_page_offers_it(client: TestClient, plant: Plant) -> None:
    assert "/oidc?next=/" in client.get("/login").text


def test_best_of_several_groups_counts(client: TestClient, provider: SmallProvider) -> None:
    provider.claims["groups"] = ["radiology", "it", "physics"]
    there_and_back(client)
    assert client.get("/audit").status_code == 200


def test_one_group_may_be_plain_text(client: TestClient, provider: SmallProvider) -> None:
    provider.claims["groups"] = "physics"
    assert there_and_back(client).status_code == 200


@pytest.mark.parametrize("groups", [[], ["staff"], None, {"it": 1}, [["it"]]])
def test_without_a_group_of_ours_nobody_gets_in(client: TestClient, provider: SmallProvider, groups: Any) -> None:
    provider.claims["groups"] = groups
    assert there_and_back(client).status_code == 403
    assert COOKIE not in client.cookies


def test_groups_may_come_from_userinfo(client: TestClient, provider: SmallProvider) -> None:
    del provider.claims["groups"]
    provider.userinfo = {"sub": "7", "groups": ["it"]}
    assert there_and_back(client).status_code == 200


def test_userinfo_of_somebody_else_counts_for_nothing(client: TestClient, provider: SmallProvider) -> None:
    del provider.claims["groups"]
    provider.userinfo = {"sub": "8", "groups": ["it"]}
    assert there_and_back(client).status_code == 403


def test_secret_may_have_to_be_posted(client: TestClient, provider: SmallProvider) -> None:
    provider.methods = ("client_secret_post",)
    assert there_and_back(client).status_code == 200


@pytest.mark.parametrize(
    "lies",
    [
        {"aud": "another-client"},
        {"aud": ["iscl", "another-client"]},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"sub": None},
    ],
)
def test_tokens_that_are_not_for_us_now_are_refused(
    client: TestClient, provider: SmallProvider, lies: dict[str, Any]
) -> None:
    provider.lies = lies
    assert there_and_back(client).status_code == 401
    assert COOKIE not in client.cookies


@pytest.mark.parametrize("signed_by", ["other", "none", "secret"])
def test_forged_signatures_are_refused(client: TestClient, provider: SmallProvider, signed_by: str) -> None:
    provider.signed_by = signed_by
    assert there_and_back(client).status_code == 401
    assert COOKIE not in client.cookies


def test_new_keys_are_fetched(client: TestClient, provider: SmallProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert there_and_back(client).status_code == 200
    provider.key = RSAKey.generate_key(2048, {"kid": "new"})
    monkeypatch.setattr("iscl_monai.service.web.provider.KEYS_ANEW_S", -1.0)
    assert there_and_back(client).status_code == 200


def test_code_of_another_browser_is_refused(plant: Plant, client: TestClient) -> None:
    """Else somebody could have a victim work under a foreign name."""
    leaving = client.get("/oidc")
    back = httpx.get(leaving.headers["location"], follow_redirects=False).headers["location"].removeprefix(HOST)
    victim = plant.client()
    assert victim.get(back).status_code == 400  # has not left from here
    victim.get("/oidc")
    assert victim.get(back).status_code == 400  # has left with another state
    assert COOKIE not in victim.cookies
    assert client.get(back).status_code == 200
    assert client.get(back).status_code == 400  # and only once


def test_cookie_of_the_way_is_lax_and_ours(client: TestClient) -> None:
    kept = client.get("/oidc").headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/oidc"} <= {one.strip() for one in kept.split(";")}


def test_it_never_leads_elsewhere(client: TestClient) -> None:
    assert "evil.example" not in there_and_back(client, "//evil.example").text


def test_provider_that_is_down_or_another_is_told(
    plant: Plant, client: TestClient, provider: SmallProvider, tmp_path: Path
) -> None:
    provider.named = "https://evil.example"
    assert client.get("/oidc").status_code == 502
    closed = plant.with_web(oidc=settings(tmp_path, "http://127.0.0.1:9")).client()
    assert closed.get("/oidc").status_code == 502


def test_a_silent_provider_keeps_no_page_waiting(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask to log in by it, and whoever does holds a thread until it answers, or its time is over."""
    monkeypatch.setattr(provider_module, "TIMEOUT_S", 60)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent, ExitStack() as strangers:
        plant.with_web(oidc=settings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"), port=free_port())
        with running(plant) as here:
            asked = [strangers.enter_context(socket.create_connection(here.split(":"), timeout=60)) for _ in range(50)]
            for one in asked:
                one.sendall(f"GET /oidc HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n\r\n".encode())
            page = raw(here, f"GET /login HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n\r\n".encode())
            assert page.startswith(b"HTTP/1.1 200")
            until(lambda: len(select(asked, [], [], 0)[0]) == len(asked) - oidc.AT_ONCE)
            silent.close()
            codes = Counter(one.recv(12) for one in asked)
    assert codes == {b"HTTP/1.1 502": 8, b"HTTP/1.1 503": 42}


@pytest.mark.parametrize("issuer", ["http://idp.example", "ftp://127.0.0.1", "idp.example", ""])
def test_provider_without_https_is_refused_at_the_start(plant: Plant, tmp_path: Path, issuer: str) -> None:
    with pytest.raises(ConfigRefusal, match="https"):
        plant.with_web(oidc=settings(tmp_path, issuer))


def test_secret_that_cannot_be_read_is_refused_at_the_start(plant: Plant, tmp_path: Path) -> None:
    wrong = settings(tmp_path, "https://idp.example", client_secret_file=tmp_path / "absent")
    with pytest.raises(ConfigRefusal, match="client_secret_file"):
        plant.with_web(oidc=wrong)


def test_without_settings_there_is_no_such_way(plant: Plant) -> None:
    assert plant.client().get("/oidc").status_code == 404
    assert plant.client().get("/oidc/back").status_code == 404
