"""Shadow rules decide nothing; rules are read anew without a restart, whole or not at all."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.synthetic import Series
from pydantic import ValidationError
from service.peers import until
from service.rows import Place, rows_of, scan, settings_for
from service.test_backup import settings_file
from service.test_work import settle
from sqlalchemy import select

from iscl_monai.errors import ConfigRefusal, NotAllowedNow
from iscl_monai.service.database.tables import audit, jobs, series
from iscl_monai.service.node import Node
from iscl_monai.service.notify.causes import causes_of_jobs
from iscl_monai.service.rules import Rule, matching_rule, measured_tags_are_tested
from iscl_monai.service.settings_file import read_settings
from iscl_monai.service.working.completion import Completion
from iscl_monai.service.working.measured_tags import measure
from iscl_monai.service.working.queue import process_again

DERIVED = {"name": "derived", "process": False, "when": {"ImageType": "DERIVED"}, "quiet_s": 10}
ALL = {"name": "all", "when": {"Modality": "CT"}, "send_to": ["pacs"], "quiet_s": 10, "priority": "urgent"}
GENTLE = {"name": "gentle", "when": {"Modality": "CT"}, "shadow": True, "strength": 0.5, "hold_unlike": True}


def made(tmp_path: Path, *rules: dict[str, Any], **more: Any) -> Place:
    tmp_path.mkdir(exist_ok=True)
    place = Place(tmp_path / "data", rules=list(rules))
    place.take(scan(tmp_path / "scan", 1, **more))
    settle(place)
    return place


def jobs_of(place: Place) -> list[tuple[str, int, int, list[str]]]:
    rows = rows_of(place.store, select(jobs).order_by(jobs.c.id))
    return [(row["rule"], row["shadow"], row["priority"], row["send_to"]) for row in rows]


def test_a_shadow_rule_makes_a_job_of_its_own_last_of_all_for_nobody(tmp_path: Path) -> None:
    place = made(tmp_path, GENTLE, ALL)
    assert jobs_of(place) == [("gentle", 1, 2, []), ("all", 0, 0, ["pacs"])]


def test_what_is_left_alone_on_purpose_has_no_shadow_and_what_no_rule_fits_has(tmp_path: Path) -> None:
    alone = {**DERIVED, "when": {"Modality": "CT"}}
    assert jobs_of(made(tmp_path / "a", alone, GENTLE)) == []
    place = made(tmp_path / "b", DERIVED, GENTLE)
    assert [job[0] for job in jobs_of(place)] == ["gentle"]
    assert rows_of(place.store, select(series.c.reason)) == [{"reason": "no rule fits"}]


def test_late_slices_supersede_the_shadow_too_and_its_hold_spreads_to_nobody(tmp_path: Path) -> None:
    uids = ("1.2.3", "1.2.3.4")
    place = made(tmp_path, GENTLE, ALL, uids=uids)
    place.take(scan(tmp_path / "late", 1, first=1, uids=uids))
    settle(place)
    rows = rows_of(place.store, select(jobs.c.rule, jobs.c.state, jobs.c.hold_unlike).order_by(jobs.c.id))
    assert [(row["rule"], str(row["state"]), row["hold_unlike"]) for row in rows] == [
        ("gentle", "superseded", 1),
        ("all", "superseded", 0),
        ("gentle", "queued", 1),
        ("all", "queued", 0),
    ]


def test_a_rule_that_a_person_chose_and_that_became_a_shadow_decides_nothing_any_more(tmp_path: Path) -> None:
    """By a reload, before late slices come: they would be denoised by a trial, and sent to nobody."""
    uids = ("1.2.3", "1.2.3.4")
    place = made(tmp_path, ALL, {**GENTLE, "shadow": False, "send_to": ["pacs"]}, uids=uids)
    with place.store.writing() as change:
        process_again(change, 1, "gentle", "anna")
    settle(place)
    assert jobs_of(place)[-1] == ("gentle", 0, 1, ["pacs"])
    place.settings = settings_for(place.settings.data, rules=[ALL, GENTLE])
    place.take(scan(tmp_path / "late", 1, first=1, uids=uids))
    settle(place)
    assert jobs_of(place)[2:] == [("gentle", 1, 2, []), ("all", 0, 0, ["pacs"])]


def test_a_shadow_job_calls_nobody(tmp_path: Path) -> None:
    place = made(tmp_path, GENTLE, ALL)
    with place.store.writing() as change:
        for number in (1, 2):
            change.move(jobs, number, "running")
            change.move(jobs, number, "failed")
    assert [cause.key for cause in causes_of_jobs(place.store)] == ["job 2 failed"]


@pytest.mark.parametrize("wrong", [{"shadow": True, "process": False}, {"shadow": False}])
def test_what_a_shadow_rule_may_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({"name": "r", **wrong})
    shadow = Rule(name="r", shadow=True)
    assert matching_rule([shadow], {}) is None


def noisy(sigma_hu: float) -> Any:
    def change(dataset: Any, index: int) -> None:
        noise = sigma_hu * np.random.default_rng(index).standard_normal((64, 64))
        dataset.PixelData = (1064 + noise).astype(np.uint16).tobytes()
        dataset.Manufacturer, dataset.ConvolutionKernel = "SIEMENS", "I30f\\2"

    return change


def test_noise_and_reconstruction_are_measured_and_decide(tmp_path: Path) -> None:
    loud = {"name": "loud", "when": {"noise": ">=20", "reconstruction": "!"}, "send_to": ["pacs"], "quiet_s": 10}
    for name, sigma_hu, rule in (("a", 40.0, "loud"), ("b", 5.0, "all")):
        place = made(tmp_path / name, loud, ALL, rows=64, columns=64, change=noisy(sigma_hu))
        settle(place)
        assert [job[0] for job in jobs_of(place)] == [rule]
        (row,) = rows_of(place.store, select(series.c.tags))
        assert float(row["tags"]["noise"]) == pytest.approx(sigma_hu, rel=0.3)


def test_what_cannot_be_measured_is_empty_and_holds_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    assert measure([tmp_path / "junk.dcm"]) == {"reconstruction": "", "noise": ""}
    assert measure([]) == {"reconstruction": "", "noise": ""}
    place = Place(tmp_path / "data", rules=[{**ALL, "when": {"noise": "<5"}}, ALL | {"name": "rest"}])
    place.take(scan(tmp_path / "scan", 1))
    asked: list[int] = []

    def measured(files: Any) -> dict[str, str]:
        asked.append(len(files))
        return {"reconstruction": "", "noise": ""}

    completion = Completion(place.settings, place.store, place.arrivals, lambda: None, measured)
    for _ in range(4):
        place.clock.now += 1000
        completion.step()
    assert asked == [1], "once, not at every look"
    assert [job[0] for job in jobs_of(place)] == ["rest"]


def test_nothing_is_measured_when_no_rule_asks() -> None:
    assert not measured_tags_are_tested([Rule.model_validate(ALL)])
    assert measured_tags_are_tested([Rule.model_validate({**ALL, "when": {"noise": "<5"}})])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return settings_file(tmp_path, tmp_path / "data")


@pytest.fixture
def node(path: Path) -> Any:
    node = Node(read_settings(path), settings_file=path)
    yield node
    node.stop()


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_new_rules_are_shown_then_used_everywhere_with_audit(node: Node, path: Path) -> None:
    assert node.reload is not None
    assert node.reload.preview().differences == ()
    edit(path, 'name = "all"', 'name = "other"\nstrength = 0.5')
    found = node.reload.preview()
    assert [line[:8] for line in found.differences] == ["- rule 1", "+ rule 1"]
    assert node.completion.settings.rule("other") is None, "looking changes nothing"
    node.reload.reload("anna", found.digest)
    for settings in (node.completion.settings, node.app.state.site.settings, node.reload.settings):
        assert settings.rules[0].name == "other"
    assert node.reload.preview().differences == ()
    (row,) = rows_of(node.store, select(audit))
    assert (row["who"], row["action"]) == ("anna", "reload rules")
    assert "+ rule 1, other" in row["detail"]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('name = "all"', 'name = "all"\nstrength = 7', "less than or equal to 1"),
        ('send_to = ["pacs"]', 'send_to = ["packs"]', "no peer"),
        ('ae_title = "PACS"', 'ae_title = "PACS2"', "peers changed, too"),
        ("reserve_mb = 1", "reserve_mb = 1\n[retention]\ndone_h = 5\n[sending]", "retention changed, too"),
        ("data =", "data", "TOML"),
    ],
)
def test_what_is_wrong_or_needs_a_restart_is_refused_and_the_old_rules_stay(
    before: str, after: str, reason: str, node: Node, path: Path
) -> None:
    old = node.completion.settings
    if before == "reserve_mb = 1":
        edit(path, "[web]", "[retention]\ndone_h = 5\n[web]")
    else:
        edit(path, before, after)
    assert node.reload is not None
    with pytest.raises(ConfigRefusal, match=reason):
        node.reload.reload("anna")
    node.reload.reload_by_signal()
    assert node.completion.settings is old
    assert rows_of(node.store, select(audit)) == []


def test_a_file_that_changes_between_looking_and_using_is_not_used(node: Node, path: Path) -> None:
    assert node.reload is not None
    edit(path, 'name = "all"', 'name = "seen"')
    found = node.reload.preview()
    edit(path, 'name = "seen"', 'name = "unseen"')
    with pytest.raises(NotAllowedNow, match="has changed"):
        node.reload.reload("anna", found.digest)
    assert node.completion.settings.rules[0].name == "all"


def test_sighup_reloads(node: Node, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "start", lambda: None)
    monkeypatch.setattr(node, "stop", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    edit(path, 'name = "all"', 'name = "by-signal"')

    def send() -> None:
        try:
            until(lambda: signal.getsignal(signal.SIGHUP) is not before[signal.SIGHUP])
            os.kill(os.getpid(), signal.SIGHUP)
            until(lambda: node.completion.settings.rules[0].name == "by-signal")
        finally:
            node._request_stop()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        node.run()
    finally:
        sender.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert node.completion.settings.rules[0].name == "by-signal"


def test_age_accession_and_study_decide(tmp_path: Path) -> None:
    def change(dataset: Any, _: int) -> None:
        dataset.PatientAge, dataset.AccessionNumber, dataset.StudyDescription = "012Y", "R-77", "Knee"

    child = {
        **ALL,
        "name": "child",
        "when": {"PatientAge": "<16", "AccessionNumber": "~^R-", "StudyDescription": "knee"},
    }
    place = Place(tmp_path / "data", rules=[child, ALL])
    place.take(Series(slots=range(1), rows=32, columns=32, change=change).write(tmp_path / "scan"))
    settle(place)
    assert [job[0] for job in jobs_of(place)] == ["child"]
