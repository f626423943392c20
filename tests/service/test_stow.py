"""DICOMweb destinations: every object has its own answer, and a search proves that it is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import running
from service.peers import Call, House, Job, http, until


def test_a_real_dicomweb_server_gets_everything_and_finds_it(tmp_path: Path) -> None:
    folder = tmp_path / "orthanc"
    folder.mkdir()
    with running(folder) as server:
        home = House(tmp_path / "data", web(f"{server.root}/dicom-web"))
        with home.sending():
            job = home.job(40)
            job.becomes("done")
        assert server.sop_instance_uids() == sorted(job.uids)
    assert {row["proof"] for row in job.rows()} == {"QIDO-RS"}


def web(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "pacs", "url": url, "confirm": "query", **more}


class Archive:
    """A DICOMweb server that does what a test wants first, and then what it should."""

    def __init__(self, *first: tuple[int, bytes] | None) -> None:
        self.first = list(first)
        self.has: list[str] = []
        self.hides: set[str] = set()
        self.refuses: dict[str, int] = {}
        self.status: int | None = None

    def __call__(self, call: Call) -> tuple[int, bytes] | None:
        if call.method == "GET":
            shown = [] if "offset=0" not in call.path else [uid for uid in self.has if uid not in self.hides]
            return 200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in shown]).encode()
        if self.first:
            return self.first.pop(0)
        uids = call.sop_instance_uids()
        kept = [uid for uid in uids if uid not in self.refuses]
        self.has += kept
        values: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": [item(uid) for uid in kept]}}
        if len(kept) < len(uids):
            failed = [item(uid, self.refuses[uid]) for uid in uids if uid in self.refuses]
            values["00081198"] = {"vr": "SQ", "Value": failed}
        return (self.status or (200 if len(kept) == len(uids) else 202 if kept else 409)), json.dumps(values).encode()


def item(uid: str, reason: int | None = None) -> dict[str, Any]:
    values: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    return values if reason is None else {**values, "00081197": {"vr": "US", "Value": [reason]}}


def served(tmp_path: Path, archive: Archive, sending: dict[str, Any] | None = None, **more: Any) -> Iterator[Any]:
    with http(archive) as (root, calls):
        home = House(tmp_path / "data", web(root, **more), sending=sending)
        with home.sending():
            yield home, home.job(), calls


@pytest.mark.parametrize(
    "trouble",
    [(503, b""), (507, b""), (500, b"oh"), (401, b""), (429, b""), (302, b""), None],
    ids=["503", "507", "500", "401", "429", "302", "cut"],
)
def test_trouble_of_a_server_passes(tmp_path: Path, trouble: tuple[int, bytes] | None) -> None:
    archive = Archive(trouble, trouble)
    for _, job, _ in served(tmp_path, archive, sending={"refused_tries": 1}):
        job.becomes("done")
        assert sorted(archive.has) == sorted(job.uids)


def test_trouble_that_stays_is_told(tmp_path: Path) -> None:
    archive = Archive(*[(503, b"")] * 99)
    for _, job, _ in served(tmp_path, archive, sending={"tries": 3}):
        assert "answers 503: Service Unavailable" in job.becomes("failed")["reason"]


def test_each_object_has_its_own_answer(tmp_path: Path) -> None:
    archive = Archive()
    with http(archive) as (root, _):
        home = House(tmp_path / "data", web(root), sending={"refused_tries": 2})
        job = home.job()
        bad, full = job.derived[0].sop_instance_uid, job.derived[1].sop_instance_uid
        archive.refuses = {bad: 0xC000, full: 0xA700}
        with home.sending():
            until(lambda: job.rows()[0]["state"] == "failed" and job.rows()[2]["state"] != "waiting")
            assert job.rows()[0]["reason"].endswith("0xC000: Cannot Understand")
            until(lambda: "0xA700" in job.rows()[1]["reason"])
            del archive.refuses[full]
            job.becomes("failed")
    assert sorted(archive.has) == sorted(job.uids - {bad})


def test_one_bad_object_in_a_request_is_told_from_the_others(tmp_path: Path) -> None:
    """A server that answers 400 and no word: the objects go one by one."""
    archive = Archive()
    with http(lambda call: (400, b"") if bad in call_uids(call) else archive(call)) as (root, _):
        home = House(tmp_path / "data", web(root), sending={"refused_tries": 2})
        job = home.job()
        bad = job.derived[0].sop_instance_uid
        with home.sending():
            row = job.becomes("failed")
    assert sorted(archive.has) == sorted(job.uids - {bad})
    assert row["reason"] == "1 of 3 objects not delivered; pacs: the server answers 400"


def call_uids(call: Call) -> list[str]:
    return call.sop_instance_uids() if call.method == "POST" else []


def test_what_the_search_does_not_find_is_sent_again_and_fails_in_the_end(tmp_path: Path) -> None:
    archive = Archive()
    with http(archive) as (root, _):
        home = House(tmp_path / "data", web(root, commitment_timeout_s=0.1), sending={"refused_tries": 2})
        job = home.job()
        archive.hides = {job.derived[1].sop_instance_uid}
        with home.sending():
            row = job.becomes("failed")
    assert "the peer's search does not find it" in row["reason"]
    assert archive.has.count(job.derived[1].sop_instance_uid) == 2


def test_the_token_is_sent_and_read_anew(tmp_path: Path) -> None:
    archive, token = Archive(), tmp_path / "token"
    token.write_text("old\n")

    def guarded(call: Call) -> tuple[int, bytes] | None:
        return archive(call) if call.headers.get("authorization") == "Bearer new" else (401, b"")

    with http(guarded) as (root, _):
        home = House(tmp_path / "data", web(root, token_file=str(token)))
        job: Job = home.job()
        with home.sending():
            until(lambda: "does not accept our token" in job.rows()[0]["reason"])
            token.write_text("new\n")
            job.becomes("done")
    assert sorted(archive.has) == sorted(job.uids)


def test_a_search_that_fails_leaves_a_reason_and_no_done_job(tmp_path: Path) -> None:
    archive = Archive()
    with http(lambda call: (503, b"") if call.method == "GET" else archive(call)) as (root, _):
        home = House(tmp_path / "data", web(root))
        job = home.job()
        with home.sending():
            until(lambda: min(row["attempts"] for row in job.rows()) >= 2)
            assert job.row()["state"] == "sending"
    assert job.states() == {"sent"}
    assert "answers 503" in job.rows()[0]["reason"]
    assert sorted(archive.has) == sorted(job.uids)


@pytest.mark.parametrize("ends", ["502", "cut"])
def test_an_object_that_breaks_the_server_keeps_no_other_out(ends: str, tmp_path: Path) -> None:
    poison: list[str] = []
    stored: list[str] = []

    def answer(call: Call) -> tuple[int, bytes] | None:
        uids = call.sop_instance_uids()
        if poison[0] in uids:
            return (502, b"") if ends == "502" else None
        stored.extend(uids)
        items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
        return 200, json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()

    with http(answer) as (url, _):
        home = House(tmp_path / "data", {"name": "pacs", "url": url, "confirm": "status"})
        first = home.job(3)
        poison.append(sorted(first.uids)[1])
        others = [home.job(3), home.job(3)]
        with home.sending():
            for job in others:
                job.becomes("done")
            until(lambda: sorted(stored) == sorted(set().union(*(job.uids for job in (first, *others))) - {poison[0]}))


@pytest.mark.parametrize("code", [404, 400, 500])
def test_a_series_that_cannot_be_searched_spoils_no_other_proof(code: int, tmp_path: Path) -> None:
    odd: list[str] = []
    stored: list[str] = []

    def answer(call: Call) -> tuple[int, bytes]:
        if call.method == "POST":
            stored.extend(call.sop_instance_uids())
            items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in call.sop_instance_uids()]
            return 200, json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()
        if odd[0] in call.path:
            return code, b""
        return 200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in stored]).encode()

    with http(answer) as (url, _):
        home = House(tmp_path / "data", web(url))
        first = home.job(2)
        odd.append(first.derived[0].series_uid)
        others = [home.job(2), home.job(2)]
        with home.sending():
            for job in others:
                job.becomes("done")
            until(lambda: all(row["reason"] for row in first.rows()))
        assert {row["state"] for row in first.rows()} <= {"sent", "waiting", "failed"}
