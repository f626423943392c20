"""The page of destinations: what it shows, and who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest
from service.web.conftest import add_people
from service.web.plant import Plant, post

from iscl_monai.service.sending.echo import EchoAnswer
from iscl_monai.service.sending.echoes import PeerEcho
from iscl_monai.service.web.app import create_app
from iscl_monai.service.web.controls import Controls


class Silent:
    """Never asked here."""

    def echo(self) -> EchoAnswer:
        raise AssertionError

    def use(self, settings: object) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.fixture
def changed() -> list[str]:
    return []


@pytest.fixture
def running(tmp_path: Path, digest: str, changed: list[str]) -> Plant:
    plant = add_people(Plant(tmp_path), digest)
    echo = PeerEcho("pacs", Silent(), 300)
    controls = Controls({"pacs": echo}, changed.append)
    plant.app = create_app(plant.settings, plant.store, plant.intake, lambda: plant.parts, controls=controls)
    return plant


def test_it_shows_state_backlog_and_reason(running: Plant) -> None:
    job = running.settled(running.synthetic())
    running.worked(job)
    echo = running.app.state.site.controls.echoes["pacs"]
    client = running.client("viewer")
    assert "is being asked" in client.get("/destinations").text
    echo.pending, echo.answer = False, EchoAnswer("C-ECHO", "no connection with PACS")
    text = client.get("/destinations").text
    assert "no answer" in text
    assert "C-ECHO: no connection with PACS" in text
    assert "waiting" in text
    assert "Pause" not in text
    running.delivered(job)
    text = client.get("/destinations", headers={"hx-request": "true"}).text
    assert "nothing waits" in text
    assert "<html" not in text


def test_an_operator_pauses_and_resumes_with_audit(running: Plant, changed: list[str]) -> None:
    client = running.client("operator")
    assert post(client, "/destinations/pause", name="pacs").status_code == 303
    text = client.get("/destinations").text
    assert "paused" in text
    assert "by operator since" in text
    assert post(client, "/destinations/pause", name="pacs").status_code == 409
    assert post(client, "/destinations/resume", name="pacs").status_code == 303
    assert post(client, "/destinations/resume", name="pacs").status_code == 409
    assert changed == ["pacs", "pacs"]
    actions = [action for _, action, _ in running.audited()]
    assert actions == ["pause destination", "resume destination"]


def test_ask_now_wakes_the_loop_of_that_peer(running: Plant) -> None:
    echo = running.app.state.site.controls.echoes["pacs"]
    echo.pending = False
    client = running.client("operator")
    assert post(client, "/destinations/check", name="pacs").status_code == 303
    assert echo.pending
    for path in ("check", "pause"):
        assert post(client, f"/destinations/{path}", name="nobody").status_code == 404


def test_a_viewer_changes_nothing(running: Plant, changed: list[str]) -> None:
    client = running.client("viewer")
    for path in ("check", "pause", "resume"):
        assert post(client, f"/destinations/{path}", name="pacs").status_code == 403
    assert changed == []
