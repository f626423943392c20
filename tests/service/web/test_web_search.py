"""Series are found, by people who may know whose they are; numbers of patients are in no row and no address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from service.web.conftest import add_people
from service.web.plant import Plant, csrf, post

from iscl_monai.service.database.store import DATABASE
from iscl_monai.service.receiving.patient import age_years, without_number
from iscl_monai.service.web.progress import describe_seconds
from iscl_monai.service.web.search import Search

NUMBER, ACCESSION = "MRN-0048151", "A-2026-77"


@pytest.fixture
def plant(tmp_path: Path, digest: str) -> Plant:
    plant = add_people(Plant(tmp_path), digest)

    def of_patient(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PatientID, dataset.AccessionNumber = NUMBER, ACCESSION
        dataset.StudyDescription, dataset.StudyDate = f"Thorax {NUMBER.lower()} follow-up", "20261103"
        dataset.PatientAge, dataset.PatientBirthDate = "", "19801104"

    plant.synthetic(change=of_patient, description=f"Lung 100%_soft {NUMBER}")
    plant.synthetic(description="Abdomen", change=lambda dataset, _: setattr(dataset, "StudyDate", "20261001"))
    return plant


def found(plant: Plant, role: str = "operator", **form: Any) -> list[str]:
    """Descriptions of the series that a search shows."""
    client = plant.client(role)
    answer = post(client, "/search", **form)
    assert answer.status_code == 303, answer.text
    assert NUMBER not in answer.headers["location"]
    assert ACCESSION not in answer.headers["location"]
    text = client.get(answer.headers["location"]).text
    return [one for one in ("Lung", "Abdomen") if f">{one}" in text]


@pytest.mark.parametrize(
    ("form", "series"),
    [
        ({}, ["Lung", "Abdomen"]),
        ({"text": "lung"}, ["Lung"]),
        ({"text": "FOLLOW"}, ["Lung"]),
        ({"text": "100%_"}, ["Lung"]),
        ({"text": "1__%"}, []),
        ({"text": "' OR 1=1 --"}, []),
        ({"since": "2026-11-03", "until": "2026-11-03"}, ["Lung"]),
        ({"since": "2026-11-04"}, []),
        ({"until": "2026-11-02"}, ["Abdomen"]),
        ({"since": "nonsense"}, ["Lung", "Abdomen"]),
        ({"number": NUMBER}, ["Lung"]),
        ({"number": f" {NUMBER.lower()} "}, ["Lung"]),
        ({"number": ACCESSION}, ["Lung"]),
        ({"number": NUMBER[:-1]}, []),
        ({"number": NUMBER, "text": "abdomen"}, []),
    ],
)
def test_what_a_search_finds(form: dict[str, str], series: list[str], plant: Plant) -> None:
    assert found(plant, **form) == series


def test_a_viewer_searches_by_description_alone(plant: Plant) -> None:
    assert found(plant, "viewer", text="lung") == ["Lung"]
    client = plant.client("viewer")
    assert "Patient ID" not in client.get("/").text
    assert post(client, "/search", number=NUMBER).status_code == 403


def test_who_searched_by_a_number_is_in_the_audit_and_the_number_is_not(plant: Plant) -> None:
    found(plant, number=NUMBER)
    assert plant.audited() == [("operator", "search by number", "1 series")]


def test_the_number_is_on_no_page_and_in_no_row(plant: Plant) -> None:
    client = plant.client("operator")
    for path in ("/", "/series/1", "/rules?series=1"):
        assert NUMBER.casefold() not in client.get(path).text.casefold()
    assert "Lung 100%_soft ***" in client.get("/").text
    plant.store.close()
    for file in plant.store.data.glob(f"{DATABASE}*"):
        assert NUMBER.encode() not in file.read_bytes()
        assert b"19801104" not in file.read_bytes()


def test_the_search_stays_while_the_page_lives(plant: Plant) -> None:
    client = plant.client("operator")
    location = post(client, "/search", text="lung", since="2026-11-01").headers["location"]
    text = client.get(location).text
    assert 'hx-get="/queue?text=lung&amp;since=2026-11-01&amp;show=all' in text
    part = client.get(location.replace("/?", "/queue?"), headers={"hx-request": "true"}).text
    assert "Lung" in part
    assert "Abdomen" not in part


def test_a_digest_that_is_none_is_not_searched_for() -> None:
    assert not Search.of({"number": "x", "since": "2026-1-1", "until": "", "text": "  "})
    assert Search.of({"text": "a b&c"}).query == "text=a+b%26c&"


@pytest.mark.parametrize(
    ("text", "number", "hidden"),
    [
        ("Thorax 0048151", "0048151", "Thorax ***"),
        ("Thorax 48151", "0048151", "Thorax ***"),
        ("Thorax 1048151", "0048151", "Thorax 1048151"),
        ("mrn-1 Thorax", "MRN-1", "*** Thorax"),
        ("Thorax 5 mm", "5", "Thorax 5 mm"),
        ("Thorax", "", "Thorax"),
        ("a.c abc", "a.c", "*** abc"),
    ],
)
def test_a_number_is_hidden_in_descriptions(text: str, number: str, hidden: str) -> None:
    assert without_number(text, number) == hidden


@pytest.mark.parametrize(
    ("age", "born", "studied", "years"),
    [
        ("045Y", "", "", "45"),
        ("006M", "", "", "0.5"),
        ("", "19801104", "20261103", "45"),
        ("", "19801103", "20261103", "46"),
        ("", "20261103", "19801104", ""),
        ("45", "", "20261103", ""),
        ("", "19801399", "20261103", ""),
    ],
)
def test_ages(age: str, born: str, studied: str, years: str) -> None:
    assert age_years(age, born, studied) == years


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "about 1 s"), (89, "about 89 s"), (180, "about 3 min"), (7200, "about 2.0 h")]
)
def test_times_left(seconds: float, words: str) -> None:
    assert describe_seconds(seconds) == words


def test_progress_worker_and_disk_are_shown(plant: Plant) -> None:
    plant.parts = {"worker": (True, "model loaded"), "disk": (True, "12 GB free"), "sender": (True, "")}
    job = plant.settled(1)
    plant.move_job(job, "running", progress={"done": 12, "of": 300, "left_s": 170})
    client = plant.client("viewer")
    text = client.get("/").text
    assert "model loaded" in text
    assert "12 GB free" in text
    for path in ("/", "/series/1"):
        assert "12 of 300 slices, about 3 min left" in client.get(path).text
    with plant.store.writing() as change:
        from iscl_monai.service.database.tables import jobs

        change.execute(jobs.update().values(progress={"waits_for": 9}))
    assert "lets the more urgent job 9 pass" in client.get("/").text


def test_cancel_and_remove_ask_first(plant: Plant) -> None:
    job = plant.settled(1)
    client = plant.client("operator")
    asked = post(client, f"/jobs/{job}/cancel", back="/series/1")
    assert asked.status_code == 200
    assert f"Cancel job {job}?" in asked.text
    assert 'value="/series/1"' in asked.text
    assert plant.job(job)["state"] == "queued"
    elsewhere = post(client, f"/jobs/{job}/cancel", back="//evil.example")
    assert "evil" not in elsewhere.text
    assert post(client, f"/jobs/{job}/cancel", back="/series/1", sure="yes").headers["location"] == "/series/1"
    assert plant.job(job)["state"] == "cancelled"
    admin = plant.client("admin")
    token = csrf(admin)
    asked = admin.post("/users/remove", data={"csrf": token, "name": "viewer"}, headers={"origin": "http://testserver"})
    assert "Remove viewer?" in asked.text
    assert "viewer" in admin.get("/users").text


def test_notes_of_the_comparison_are_on_the_page(plant: Plant) -> None:
    job = plant.done(1)
    with plant.store.writing() as change:
        from iscl_monai.service.database.tables import jobs

        result = {**plant.job(job)["result"], "notes": ["kernel Br40 was not in the training"]}
        change.execute(jobs.update().where(jobs.c.id == job).values(result=result))
    assert "Note: kernel Br40 was not in the training." in plant.client("viewer").get("/series/1").text
