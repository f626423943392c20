"""Health, readiness and metrics: fast, true, and telling nothing that is not theirs to tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service.web.plant import Plant

from iscl_monai.errors import ConfigRefusal, StoreUnavailable
from iscl_monai.service.database.store import Store
from iscl_monai.service.receiving.intake import Verdict
from iscl_monai.service.web.probes import Readiness


def numbers(plant: Plant, token: str = "") -> dict[tuple[str, ...], float]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = plant.client().get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_health_is_that_of_the_parts(plant: Plant) -> None:
    client = plant.client()
    assert client.get("/healthz").json() == {"status": "ok", "failing": [], "degraded": []}
    plant.parts["worker"] = (False, "secret of /data/patients")
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "failing", "failing": ["worker"], "degraded": []}


def test_full_disk_is_not_ready_but_alive(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    client = plant.client()
    assert client.get("/readyz").json() == {"status": "ready", "lacking": []}
    plant.app.state.readiness.clock = lambda: 10**9
    plant.parts["disk"] = (False, "full")
    monkeypatch.setattr(type(plant.space), "free_bytes", property(lambda _: 1000))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["lacking"]) == (503, ["disk"])
    assert client.get("/healthz").status_code == 200


def test_database_that_cannot_be_written_is_not_ready(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Store) -> Any:
        raise StoreUnavailable("locked", allowed="", cure="")

    monkeypatch.setattr(Store, "writing", broken)
    assert plant.client().get("/readyz").json()["lacking"] == ["database"]


def test_readiness_is_asked_once_a_second_whoever_calls(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    moment, asked = 0.0, []
    readiness = Readiness(plant.app.state.site, lambda: moment)
    monkeypatch.setattr(readiness, "_lacking", lambda: asked.append(moment) or [])
    for moment in (0.0, 0.5, 0.99, 1.0, 1.5):  # noqa: B007 - the clock reads it
        readiness()
    assert asked == [0.0, 1.0]


def test_database_that_hangs_holds_up_one_caller_only(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    readiness = Readiness(plant.app.state.site, lambda: 0.0)
    others = []
    monkeypatch.setattr(readiness, "_lacking", lambda: others.append(readiness()) or ["database"])
    assert readiness() == ["database"]
    assert others == [["answer"]]  # nobody waits; before the first answer it is not ready


def test_metrics_count_what_there_is(plant: Plant) -> None:
    before = numbers(plant)
    assert before["iscl_jobs", "done"] == before["iscl_oldest_waiting_seconds",] == 0
    done, waiting = plant.synthetic(), plant.synthetic()
    plant.done(done)
    plant.settled(waiting)
    plant.intake.record_refusal("CT", Verdict("busy", "full"))
    plant.parts["sender"] = (False, "")
    found = numbers(plant)
    assert found["iscl_jobs", "done"] == found["iscl_jobs", "queued"] == 1
    assert found["iscl_series", "settled"] == 2
    assert found["iscl_deliveries", "pacs", "confirmed"] == 5
    assert found["iscl_instances_received_total", "CT"] == 10
    assert found["iscl_refusals_total", "busy"] == 1
    assert found["iscl_last_job_seconds_per_slice",] == 2.5
    assert found["iscl_data_free_bytes",] > 0
    assert found["iscl_oldest_waiting_seconds",] > 0
    assert found["iscl_part_ok", "worker"] == 1
    assert found["iscl_part_ok", "sender"] == 0
    plant.synthetic()
    assert numbers(plant)["iscl_instances_received_total", "CT"] == 15  # the new ones are added to those counted


def test_metrics_tell_of_no_patient_or_object(plant: Plant) -> None:
    plant.done(plant.synthetic(description="Thorax of Mustermann"))
    text = plant.client().get("/metrics").text
    assert "Mustermann" not in text
    assert not re.search(r"\d+\.\d+\.\d+\.\d+", text)


def test_metrics_may_ask_for_a_token(plant: Plant, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    plant.with_web(metrics_token_file=token)
    client = plant.client("admin")
    for shown in ("", "Bearer ", "Bearer wrong", "Basic open sesame", "open sesame"):
        assert client.get("/metrics", headers={"authorization": shown}).status_code == 401, shown
    assert numbers(plant, "open sesame")


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_token_file_that_says_nothing_is_refused_at_the_start(
    plant: Plant, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigRefusal, match="metrics_token_file"):
        plant.with_web(metrics_token_file=path)
