"""What pages show, to whom, and what they never do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from dicom.synthetic import setting
from fastapi.routing import APIRoute
from service.web.plant import HOST, PASSWORD, PEOPLE, Plant, csrf, post
from sqlalchemy import update

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.errors import StoreUnavailable
from iscl_monai.service.database.states import DELIVERIES, JOBS, SERIES
from iscl_monai.service.database.store import Store
from iscl_monai.service.database.tables import deliveries, instances, jobs
from iscl_monai.service.receiving.intake import Verdict
from iscl_monai.service.rules import Rule
from iscl_monai.service.web import guard
from iscl_monai.service.web.rule_text import describe_test, explain_rules
from iscl_monai.service.web.site import PAGE_ROWS, STATE_KINDS, STATIC

FREE = {"/login", "/static/{name}", "/healthz", "/readyz", "/metrics", "/oidc", "/oidc/back"}
MACHINES = "/dicom-web"


def routes(plant: Plant) -> list[APIRoute]:
    found: list[APIRoute] = []

    def walk(one: Any) -> None:
        for route in one.routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif hasattr(route, "routes") or hasattr(route, "original_router"):
                walk(getattr(route, "original_router", route))

    walk(plant.app)
    return found


def guarded(plant: Plant) -> list[APIRoute]:
    return [one for one in routes(plant) if one.path not in FREE and not one.path.startswith(MACHINES)]


def roles_of(dependant: Any) -> list[str]:
    """Roles that a route's dependencies ask for."""
    return [one.call.role for one in dependant.dependencies if isinstance(one.call, guard.RequiresRole)]


def some_address(path: str) -> str:
    filled = path.replace("{what}", "before").replace("{name}", "node.css")
    return re.sub(r"{\w+}", "1", filled)


def test_every_route_names_a_role(plant: Plant) -> None:
    assert len(routes(plant)) > 25
    for route in guarded(plant):
        assert len(roles_of(route.dependant)) == 1, route.path
        changing = route.methods - {"GET", "HEAD"}
        kinds = [type(one.call) for one in route.dependant.dependencies]
        assert not changing or guard.RequiresRoleAndForm in kinds, f"{route.path} changes something without a token"


def test_nobody_gets_anything(plant: Plant) -> None:
    plant.done(plant.synthetic())
    client = plant.client()
    for route in guarded(plant):
        for method in route.methods:
            answer = client.request(method, some_address(route.path), headers={"origin": HOST})
            assert answer.status_code in (303, 401), route.path
            if answer.status_code == 303:
                assert answer.headers["location"].startswith("/login")
            assert "synthetic" not in answer.text


def test_each_role_gets_what_it_may(plant: Plant) -> None:
    plant.done(plant.synthetic())
    for number, role in enumerate(PEOPLE):
        client = plant.client(role)
        token = csrf(client)
        for route in guarded(plant):
            (needed,) = roles_of(route.dependant)
            if route.path in ("/logout", "/account"):
                continue
            method = next(iter(route.methods))
            data = {"csrf": token} if method == "POST" else None
            answer = client.request(method, some_address(route.path), data=data, headers={"origin": HOST})
            allowed = number >= PEOPLE.index(needed)
            assert (answer.status_code != 403) == allowed, (role, route.path, answer.status_code)


def test_pages_need_no_other_host_and_no_inline_script_or_style(plant: Plant) -> None:
    series = plant.synthetic()
    plant.done(series)
    client = plant.client("admin")
    for path in ("/", f"/series/{series}", "/rules", "/refusals", "/audit", "/users", "/account", "/login", "/nowhere"):
        answer = client.get(path)
        check_page(answer.text, path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(text)
    return parser.found


def check_page(text: str, path: str) -> None:
    assert DISCLAIMER in text, path
    for tag, attributes in elements(text):
        assert tag != "style", path
        assert tag != "script" or attributes.get("src"), path
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (path, tag, attributes)
        for name in ("src", "href", "action", "hx-get", "hx-post"):
            assert not re.match(r"(\w+:)?//", attributes.get(name) or ""), (path, attributes)


def test_static_files_are_ours_and_nothing_else(plant: Plant) -> None:
    client = plant.client()
    for path in STATIC.iterdir():
        assert client.get(f"/static/{path.name}").content == path.read_bytes()
    for name in ("..%2fapp.py", "%2e%2e/app.py", "..\\app.py", "nothing.js", "node.css/../../app.py"):
        assert client.get(f"/static/{name}").status_code in (401, 404), name
    assert "htmx 2" in client.get("/static/NOTICE.txt").text


@pytest.mark.parametrize(
    "path",
    [
        "/series/0",
        "/series/-1",
        "/series/99999999999999999999999",
        "/series/1%20or%201=1",
        "/series/..%2f..%2fetc%2fpasswd",
        "/series/7",
        "/jobs/1/slices/1/..%2f..%2fsession.key",
        "/jobs/../session.key",
        "/jobs/1/slices/1/before.png?window=../x",
        "/jobs/1/slices/0/before.png",
        "/jobs/1/slices/99999/before.png",
        "/jobs/1/slices/1/around.png",
    ],
)
def test_addresses_that_are_not_are_404(plant: Plant, path: str) -> None:
    plant.done(plant.synthetic())
    assert plant.client("admin").get(path).status_code == 404


SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_nothing_that_came_becomes_html(plant: Plant) -> None:
    values = {"ProtocolName": SCRIPT, "StationName": "<i>", "PatientName": "<u>^a"}
    series = plant.synthetic(description=SCRIPT, change=setting(**values))
    job = plant.settled(series)
    plant.move_job(job, "running", "refused", reason=f"found {SCRIPT}")
    plant.intake.record_refusal(SCRIPT[:60], Verdict("unsuitable", SCRIPT, sop_instance_uid=SCRIPT[:60]))
    with plant.store.writing() as change:
        change.note(SCRIPT[:60], SCRIPT[:60], SCRIPT[:60], SCRIPT)
    client = plant.client("admin")
    harmless = {path: elements(plant.client("admin").get(path).text) for path in ("/rules",)}
    assert harmless
    pages = [
        client.get(path).text for path in ("/", f"/series/{series}", f"/rules?series={series}", "/refusals", "/audit")
    ]
    pages.append(client.get("/rules?series=<script>alert(3)</script>").text)
    pages.append(post(client, f"/series/{series}/patient").text)
    for text in pages:
        check_page(text, "page")
        assert not [values for tag, values in elements(text) if tag in ("b", "i", "u") and "x" in str(values)]
        assert "<script>alert" not in text
        assert "onerror=alert(2)>" not in text
    assert "&lt;script&gt;alert(1)" in pages[0]


def test_queue_shows_every_state_and_changes_live(plant: Plant) -> None:
    client = plant.client("operator")
    assert "No series has come yet" in client.get("/").text
    series = plant.synthetic(description="Thorax 1.0")
    page = client.get("/").text
    seen = re.search(r"seen=(\w{16})", page)
    assert seen is not None
    assert "Thorax 1.0" in page
    assert ">receiving</span>" in page
    part = {"hx-request": "true"}
    assert client.get(f"/queue?seen={seen[1]}", headers=part).status_code == 204
    job = plant.settled(series)
    changed = client.get(f"/queue?seen={seen[1]}", headers=part)
    assert changed.status_code == 200
    assert changed.text.startswith('<div id="queue"')
    assert ">queued</span>" in changed.text
    plant.worked(job)
    assert ">sending</span>" in client.get("/").text
    plant.delivered(job)
    done = client.get("/").text
    assert ">done</span>" in done
    assert "5 / 5" in done


def test_every_state_has_a_colour() -> None:
    assert {*SERIES.ways, *JOBS.ways, *DELIVERIES.ways, "unsuitable", "busy", "left alone"} <= set(STATE_KINDS)


def test_queue_can_be_narrowed_and_leafed_through(plant: Plant) -> None:
    done, failed, coming, alone = (plant.synthetic(description=name) for name in ("one", "two", "three", "four"))
    plant.done(done)
    plant.move_job(plant.settled(failed), "running", "failed", reason="it broke")
    shown = {
        show: set(re.findall(r'href="/series/(\d+)"', plant.client("viewer").get(f"/?show={show}").text))
        for show in ("all", "open", "attention", "done", "nonsense")
    }
    every = {str(one) for one in (done, failed, coming, alone)}
    assert shown["all"] == shown["nonsense"] == every
    assert shown["open"] == {str(coming), str(alone)}
    assert shown["attention"] == {str(failed)}
    assert shown["done"] == {str(done)}
    assert not re.findall(r'href="/series/(\d+)"', plant.client("viewer").get("/?page=2").text)


def test_part_tells_a_browser_whose_session_has_ended(plant: Plant) -> None:
    answer = plant.client().get("/queue", headers={"hx-request": "true"})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/login"


def test_parts_that_are_not_well_are_told(plant: Plant) -> None:
    plant.parts["receiver"] = (False, "port is closed")
    assert "port is closed" in plant.client("viewer").get("/").text


def test_operator_retries_cancels_and_processes_again(plant: Plant) -> None:
    client = plant.client("operator")
    series = plant.synthetic()
    job = plant.settled(series)
    assert post(client, f"/jobs/{job}/cancel", sure="yes").status_code == 303
    assert plant.job(job)["state"] == "cancelled"
    answer = post(client, f"/jobs/{job}/retry", back=f"/series/{series}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/series/{series}")
    assert plant.job(job)["state"] == "queued"
    refused = post(client, f"/jobs/{job}/retry")
    assert refused.status_code == 409
    assert "is queued" in refused.text
    assert post(client, f"/series/{series}/process", rule="rest").status_code == 303
    assert plant.job(plant.settled(series))["rule"] == "rest"
    assert post(client, f"/series/{series}/process", rule="nonsense").status_code == 404
    assert [row[1] for row in plant.audited() if row[0] == "operator"] == ["cancel", "retry", "process"]


def test_viewer_has_no_buttons_and_is_refused(plant: Plant) -> None:
    series = plant.synthetic()
    job = plant.settled(series)
    plant.move_job(job, "running", "failed", reason="it broke")
    client = plant.client("viewer")
    for path in ("/", f"/series/{series}"):
        page = client.get(path).text
        assert "Retry" not in page
        assert "Show patient" not in page
        assert "Retry" in plant.client("operator").get(path).text
    for path in (f"/jobs/{job}/retry", f"/jobs/{job}/cancel", f"/series/{series}/process", f"/series/{series}/patient"):
        assert post(client, path).status_code == 403
    assert plant.job(job)["state"] == "failed"
    assert not [row for row in plant.audited() if row[0] == "viewer"]


def test_what_is_held_says_why_and_only_an_admin_releases_it(plant: Plant) -> None:
    series = plant.synthetic()
    job = plant.settled(series)
    plant.worked(job, state="held", reason="held: unlike the training: noise of 80 HU")
    for role in ("viewer", "operator"):
        page = plant.client(role).get(f"/series/{series}").text
        assert "noise of 80 HU" in page
        assert "Release" not in page
        assert post(plant.client(role), f"/jobs/{job}/release").status_code == 403
    assert "noise of 80 HU" in plant.client("viewer").get("/?show=attention").text
    assert plant.job(job)["state"] == "held"
    client = plant.client("admin")
    page = client.get(f"/series/{series}").text
    assert "Release and send" in page
    assert "before.png" in page, "an admin can look at what is held"
    answer = post(client, f"/jobs/{job}/release", back=f"/series/{series}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/series/{series}")
    assert plant.job(job)["state"] == "sending"
    page = client.get(f"/series/{series}").text
    assert "Release and send" not in page
    assert "noise of 80 HU; released by admin" in page
    assert ("admin", "release", f"job {job}") in plant.audited()
    assert post(client, f"/jobs/{job}/release").status_code == 409


def test_series_tells_what_was_made_and_where_it_went(plant: Plant) -> None:
    plant.with_web(viewer_url="https://viewer.example/?study={study_uid}")
    series = plant.synthetic()
    job = plant.settled(series)
    plant.worked(job)
    with plant.store.writing() as change:
        (first, *_) = change.execute(deliveries.select().where(deliveries.c.job_id == job)).mappings().all()
        change.move(deliveries, first["id"], "failed", reason="0xA700: out of resources", attempts=4)
        change.move(jobs, job, "failed", reason="not all were taken")
    page = plant.client("viewer").get(f"/series/{series}").text
    for text in (
        "ISCL 1.2",
        "0123456789abcdef" * 4,
        "thin-ct",
        "0.8",
        "2.25.",
        "iscl_monai contributors",
        "21.3",
        "9.1",
        "\N{MINUS SIGN}58 %",
        "2 \N{MULTIPLICATION SIGN} a localizer",
        "0xA700: out of resources",
        "not all were taken",
        "https://viewer.example/?study=1.2.826.0.1.3680043.8.498.1",
        "/slices/3/before.png?window=abdomen",
    ):
        assert text in page, text


def test_series_without_files_or_job_has_a_page(plant: Plant) -> None:
    series = plant.synthetic()
    client = plant.client("operator")
    assert client.get(f"/series/{series}").status_code == 200
    plant.done(series)
    with plant.store.writing() as change:  # as retention does
        change.execute(update(instances).values(file=None))
        change.execute(update(jobs).values(folder=None))
    page = client.get(f"/series/{series}").text
    assert "of which 0 are on the disk" in page
    assert "<img" not in page
    assert "Process again" not in page
    assert "not here any more" in post(client, f"/series/{series}/patient").text or True
    part = client.post(
        f"/series/{series}/patient", data={"csrf": csrf(client)}, headers={"origin": HOST, "hx-request": "true"}
    )
    assert "files are not here any more" in part.text


def test_status_part_has_the_page_loaded_anew_when_pictures_appear(plant: Plant) -> None:
    series = plant.synthetic()
    job = plant.settled(series)
    client = plant.client("viewer")
    part = {"hx-request": "true"}
    assert "hx-refresh" not in client.get(f"/series/{series}/status?pictures=0", headers=part).headers
    plant.worked(job)
    assert client.get(f"/series/{series}/status?pictures=0", headers=part).headers["hx-refresh"] == "true"
    assert "hx-refresh" not in client.get(f"/series/{series}/status?pictures=1", headers=part).headers


def test_names_are_hidden_until_somebody_who_may_asks(plant: Plant) -> None:
    values = {"PatientName": "Mustermann^Erika", "PatientID": "4711-X", "PatientBirthDate": "19600229"}
    series = plant.synthetic(change=setting(**values))
    plant.done(series)
    client = plant.client("operator")
    for path in ("/", f"/series/{series}", "/rules", "/audit", "/metrics"):
        text = plant.client("admin").get(path).text
        assert "Mustermann" not in text
        assert "4711-X" not in text
    shown = post(client, f"/series/{series}/patient")
    assert "Mustermann, Erika" in shown.text
    assert "4711-X" in shown.text
    assert "1960-02-29" in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert ("operator", "reveal patient", f"series {series}") in plant.audited()
    assert "Mustermann" not in client.get(f"/series/{series}").text
    plant.store.close()
    for path in plant.store.data.glob("node.sqlite*"):
        assert b"Mustermann" not in path.read_bytes()


def test_name_is_not_read_when_the_audit_log_cannot_be_written(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    series = plant.synthetic(change=setting(PatientName="Mustermann^Erika"))
    client = plant.client("operator")
    token = csrf(client)

    def full(self: Store) -> Any:
        raise StoreUnavailable("disk full", allowed="room", cure="make room")

    monkeypatch.setattr(Store, "writing", full)
    answer = client.post(f"/series/{series}/patient", data={"csrf": token}, headers={"origin": HOST})
    assert answer.status_code == 503
    assert "Mustermann" not in answer.text


def test_rules_are_told_in_words(plant: Plant) -> None:
    assert describe_test("CT") == "is \N{LEFT DOUBLE QUOTATION MARK}CT\N{RIGHT DOUBLE QUOTATION MARK}"
    assert describe_test("!~^Topogram") == "does not match /^Topogram/"
    assert describe_test("<=3") == "is at most 3"
    assert describe_test(">0.5") == "is above 0.5"
    assert describe_test("!<3") == "is not below 3"
    page = plant.client("viewer").get("/rules").text
    assert "is at most 5" in page
    assert "Leave alone" in page


def test_rule_that_would_fit_is_told_condition_by_condition(plant: Plant) -> None:
    series = plant.synthetic(description="Topogram")
    page = plant.client("viewer").get(f"/rules?series={series}").text
    assert "rule rest fits" in page
    assert "There is no series 99" in plant.client("viewer").get("/rules?series=99").text
    tags = {"Modality": "CT", "SliceThickness": "2", "SeriesDescription": "Topogram"}
    thin = next(one for one in explain_rules(plant.settings, tags) if one.rule.name == "thin-ct")
    assert {one.tag: one.holds for one in thin.conditions} == {
        "Modality": True,
        "SliceThickness": True,
        "SeriesDescription": False,
    }
    assert not thin.fits
    everything = plant.settings.model_copy(update={"rules": (Rule(name="all", send_to=("pacs",)),)})
    assert explain_rules(everything, {})[0].decides


def test_long_lists_are_leafed_through(plant: Plant) -> None:
    with plant.store.writing() as change:
        for number in range(PAGE_ROWS + 5):
            change.note("somebody", "did", f"thing {number:03d}")
    first, second = (plant.client("admin").get(f"/audit?page={page}").text for page in (1, 2))
    assert first.count("thing 0") == PAGE_ROWS
    assert second.count("thing 0") == 5
    assert "thing 000" in second
    for page in ("0", "-1", "x", "²", "99999999999999"):
        assert plant.client("admin").get(f"/audit?page={page}").status_code == 200


def test_database_that_cannot_be_used_is_told_plainly(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store) -> Any:
        raise StoreUnavailable("locked", allowed="", cure="")

    client = plant.client("viewer")
    monkeypatch.setattr(Store, "reading", broken)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "cannot be used" in answer.text


@pytest.mark.parametrize("path", ["/login", "/users/add"])
def test_forms_have_a_limit(plant: Plant, path: str) -> None:
    client = plant.client("admin")
    form = {"name": "x" * 70_000, "password": PASSWORD, "csrf": csrf(client)}
    assert client.post(path, data=form, headers={"origin": HOST}).status_code == 413
    pieces = (b"name=" + b"x" * 1000 for _ in range(100))
    kind = {"origin": HOST, "content-type": "application/x-www-form-urlencoded"}
    assert client.post(path, content=pieces, headers=kind).status_code == 413


def test_templates_escape_everything_by_themselves() -> None:
    templates = Path(guard.__file__).parent / "templates"
    for path in templates.iterdir():
        assert path.suffix == ".html"
        assert "|safe" not in path.read_text().replace(" ", "")


def test_a_destination_that_failed_needs_a_person_while_others_are_tried(plant: Plant) -> None:
    job = plant.settled(plant.synthetic())
    plant.worked(job)
    assert plant.job(job)["state"] == "sending"
    client = plant.client("operator")
    assert 'id="retry-' not in client.get("/?show=attention").text
    with plant.store.writing() as change:
        change.move(deliveries, 1, "failed", reason="refused")
    assert f'id="retry-{job}"' in client.get("/?show=attention").text
    assert post(client, f"/jobs/{job}/retry").status_code == 303
    assert 'id="retry-' not in client.get("/?show=attention").text
