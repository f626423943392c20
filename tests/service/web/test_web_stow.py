"""STOW-RS: what is told to be stored is stored; everything else is refused with its reason."""

from __future__ import annotations

import base64
import email
import itertools
import json
import re
from collections.abc import Iterator
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pydicom
import pytest
from anyio import CapacityLimiter, WouldBlock
from dicom.synthetic import Series, setting
from hypothesis import given
from hypothesis import strategies as st
from service.rows import rows_of
from service.web.plant import TOKEN, Plant
from sqlalchemy import select

from iscl_monai.service import multipart
from iscl_monai.service.database.tables import instances, refusals
from iscl_monai.service.multipart import MalformedError, PartBegin, PartData, PartEnd, PartReader, parse_content_type
from iscl_monai.service.receiving import intake
from iscl_monai.service.receiving.intake import COMING
from iscl_monai.service.web import stow

BOUNDARY = "the-boundary"
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
STUDY = "1.2.826.0.1.3680043.8.498.1"
STORED, FAILED, OTHER = "00081199", "00081198", "0008119A"


def body(*parts: bytes, kind: str = "application/dicom", end: bool = True) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def ask(plant: Plant, content: Any, path: str = "/studies", **headers: str) -> Any:
    values = {"authorization": f"Bearer {TOKEN}", "content-type": TYPE, "accept": "application/dicom+json"}
    client = plant.client()
    return client.post(f"/dicom-web{path}", content=content, headers={**values, **headers})


def scan(plant: Plant, count: int = 3, **values: Any) -> list[bytes]:
    files = Series(slots=range(count), rows=16, columns=16, **values).write(plant.folder / "scan")
    return [path.read_bytes() for path in files]


def uid(data: bytes) -> str:
    return str(pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)).SOPInstanceUID)


def named(answer: Any, sequence: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def reasons(answer: Any, sequence: str) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.json().get(sequence, {}).get("Value", [])]


def stored(plant: Plant) -> set[str]:
    return {row["sop_instance_uid"] for row in rows_of(plant.store, select(instances.c.sop_instance_uid))}


def left_over(plant: Plant) -> list[Path]:
    return list((plant.store.data / COMING).iterdir())


def test_objects_are_stored_and_told(plant: Plant) -> None:
    sent = scan(plant)
    answer = ask(plant, body(*sent))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert set(named(answer, STORED)) == stored(plant) == {uid(data) for data in sent}
    assert FAILED not in answer.json()
    assert {row["sender"] for row in rows_of(plant.store, select(instances.c.sender))} == {"scanner"}
    assert left_over(plant) == []
    again = ask(plant, body(*sent))
    assert again.status_code == 200
    assert set(named(again, STORED)) == stored(plant)


def test_stored_files_are_bit_for_bit_what_was_sent(plant: Plant) -> None:
    (sent,) = scan(plant, 1)
    ask(plant, body(sent))
    (row,) = rows_of(plant.store, select(instances.c.file))
    assert (plant.store.data / row["file"]).read_bytes() == sent


def test_some_refused_is_202_and_only_what_is_ours_stands_as_stored(plant: Plant) -> None:
    good, bad = scan(plant, 2)
    (other,) = Series(slots=[0], change=setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")).write(plant.folder / "mr")
    answer = ask(plant, body(good, b"no DICOM at all", other.read_bytes(), bad))
    assert answer.status_code == 202
    assert set(named(answer, STORED)) == {uid(good), uid(bad)} == stored(plant)
    assert reasons(answer, FAILED) == [stow.NO_SUCH_CLASS]
    assert named(answer, FAILED) == [uid(other.read_bytes())]
    assert reasons(answer, OTHER) == [stow.NOT_UNDERSTOOD]
    assert len(rows_of(plant.store, select(refusals))) == 2


def test_another_study_than_the_address_names_is_a_conflict(plant: Plant) -> None:
    sent = scan(plant, 1)
    answer = ask(plant, body(*sent), path="/studies/1.2.3")
    assert answer.status_code == 409
    assert reasons(answer, FAILED) == [stow.MISMATCH]
    assert named(answer, FAILED) == [uid(sent[0])]
    assert not stored(plant)
    assert ask(plant, body(*sent), path=f"/studies/{STUDY}").status_code == 200


def test_full_disk_is_507_and_nothing_is_kept(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = scan(plant, 2)
    monkeypatch.setattr(type(plant.space), "free_bytes", property(lambda _: 1000))
    answer = ask(plant, body(*sent))
    assert answer.status_code == 507
    assert reasons(answer, OTHER) == [stow.OUT_OF_RESOURCES] * 2
    assert not stored(plant)
    assert left_over(plant) == []


def test_database_that_fails_is_busy_and_nothing_is_told_as_stored(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(intake, "record_arrival", full)
    answer = ask(plant, body(*scan(plant, 1)))
    assert answer.status_code == 507
    assert STORED not in answer.json()


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_without_the_token_nothing_is_read(plant: Plant, shown: str) -> None:
    def never() -> Iterator[bytes]:
        yield body(*scan(plant, 1))

    answer = ask(plant, never(), authorization=shown)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not stored(plant)


def test_people_are_no_machines(plant: Plant) -> None:
    client = plant.client("admin")
    answer = client.post("/dicom-web/studies", content=body(*scan(plant, 1)), headers={"content-type": TYPE})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/dicom", 415),
        ("", 415),
        ("multipart/form-data; boundary=the-boundary", 415),
        ('multipart/related; type="application/dicom+json"; boundary=the-boundary', 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=""', 400),
        (f'multipart/related; type="application/dicom"; boundary={"x" * 300}', 400),
        ("multipart/related; boundary=the-boundary", 200),
        ('Multipart/Related; Type="Application/DICOM"; Boundary="the-boundary"', 200),
    ],
)
def test_content_types(plant: Plant, kind: str, status: int) -> None:
    assert ask(plant, body(*scan(plant, 1)), **{"content-type": kind}).status_code == status


@pytest.mark.parametrize(("accept", "status"), [("*/*", 200), ("application/json", 200), ("text/html", 406)])
def test_answers_are_json_or_none(plant: Plant, accept: str, status: int) -> None:
    assert ask(plant, body(*scan(plant, 1)), accept=accept).status_code == status


def test_missing_last_boundary_keeps_what_was_complete(plant: Plant) -> None:
    first, second = scan(plant, 2)
    answer = ask(plant, body(first)[: -len(f"--{BOUNDARY}--\r\n")] + body(second)[:-40])
    assert answer.status_code == 400
    assert named(answer, STORED) == [uid(first)]
    assert stored(plant) == {uid(first)}
    assert left_over(plant) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"--the-boundary--\r\n", b"x" * 100_000, b"--the-boundary\r\n" + b"A: b\r\n" * 10_000],
)
def test_bodies_without_parts_are_400(plant: Plant, content: bytes) -> None:
    assert ask(plant, content).status_code == 400
    assert left_over(plant) == []


def test_nested_multipart_is_not_opened(plant: Plant) -> None:
    inner = body(*scan(plant, 1)).replace(BOUNDARY.encode(), b"inner")
    answer = ask(plant, body(inner, kind="multipart/related; boundary=inner"))
    assert answer.status_code == 409
    assert reasons(answer, OTHER) == [stow.NOT_UNDERSTOOD]
    assert not stored(plant)


@pytest.mark.parametrize("kind", ["text/plain", "application/dicom+json", "multipart/related; boundary=x"])
def test_parts_of_another_type_are_not_looked_into(plant: Plant, kind: str) -> None:
    assert ask(plant, body(*scan(plant, 1), kind=kind)).status_code == 409
    assert not stored(plant)


def test_a_million_parts_are_too_many(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "MOST_PARTS", 50)
    part = b"--the-boundary\r\nContent-Type: text/plain\r\n\r\n\r\n"
    answer = ask(plant, part * 10**6)
    assert answer.status_code == 413
    assert len(reasons(answer, OTHER)) == 50


def test_larger_object_than_allowed_is_refused_before_it_is_kept(plant: Plant) -> None:
    good, large = scan(plant, 2)
    plant.intake.largest_bytes = len(good)
    answer = ask(plant, body(good, large + b"\0" * 2**20))
    assert answer.status_code == 202
    assert named(answer, STORED) == [uid(good)]
    assert len(answer.json()[OTHER]["Value"]) == 1
    (refused,) = rows_of(plant.store, select(refusals))
    assert refused["reason"].startswith("more than")  # not by the intake, which only sees what is on the disk
    assert left_over(plant) == []


def test_larger_request_than_allowed_is_413(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "LARGEST_REQUEST", 5000)
    sent = body(b"x" * 10_000)
    assert ask(plant, sent).status_code == 413
    assert ask(plant, (sent[start : start + 1000] for start in range(0, len(sent), 1000))).status_code == 413
    assert left_over(plant) == []


def test_too_many_requests_at_once_are_asked_to_come_again(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    class Taken:
        def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
            raise WouldBlock

    sent = body(*scan(plant, 1))
    monkeypatch.setattr(stow, "WRITERS", Taken())
    answer = ask(plant, sent)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    monkeypatch.setattr(stow, "WRITERS", CapacityLimiter(1))
    assert [ask(plant, sent).status_code for _ in range(2)] == [200, 200]  # a place is given back


@pytest.mark.parametrize("path", ["/studies/1%2f..%2f..", "/studies/../x", "/studies/1.2.3%00", "/studies/abc"])
def test_odd_studies_are_refused(plant: Plant, path: str) -> None:
    assert ask(plant, body(*scan(plant, 1)), path=path).status_code in (400, 404, 405)
    assert not stored(plant)


@pytest.mark.parametrize(
    ("path", "status"), [("studies", 405), ("studies/1.2", 405), ("studies/1.2/series", 404), ("instances", 404)]
)
def test_objects_are_not_given_out(plant: Plant, path: str, status: int) -> None:
    client = plant.client()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert client.get(f"/dicom-web/{path}", headers=bearer).status_code == status
    assert client.get(f"/dicom-web/{path}").status_code == 401


def test_hostile_names_in_an_object_are_no_paths(plant: Plant) -> None:
    (path,) = Series(slots=[0]).write(plant.folder / "odd")
    data = path.read_bytes().replace(STUDY.encode(), b"../../../../../etc/passwd\0\0")
    assert ask(plant, body(data)).status_code == 409
    assert not stored(plant)


# The reader of parts, alone.

OTHER_BOUNDARY = "=_b"
contents = st.binary(max_size=60) | st.sampled_from(
    [b"\r\n--=_", b"--=_b", b"\r\n--=_bx", b"\r", b"\r\n", b"\r\n\r\n", b""]
)


def encoded(parts: list[bytes], preamble: bytes) -> bytes:
    made = preamble
    for part in parts:
        made += b"\r\n--=_b \t\r\nX-Y: z\r\nContent-Type: a/B; c=d\r\n\r\n" + part
    return made + b"\r\n--=_b--epilogue\r\n--=_b\r\n\r\nnot a part"


def scanned(blocks: list[bytes], boundary: bytes = b"=_b") -> list[bytes]:
    reader, found, ended = PartReader(boundary), [], 0
    for block in blocks:
        for event in reader.feed(block):
            if isinstance(event, PartBegin):
                found.append(b"")
            elif isinstance(event, PartData):
                found[-1] += event.data
            else:
                assert isinstance(event, PartEnd)
                ended += 1
                assert ended == len(found)
    reader.finish()
    return found


def outcome(blocks: list[bytes]) -> list[bytes] | str:
    try:
        return scanned(blocks)
    except MalformedError as error:
        return str(error)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    st.lists(contents, min_size=1, max_size=5),
    st.sampled_from([b"", b"preamble", b"\r\n"]),
    st.lists(st.integers(0, 999)),
)
def test_parts_come_out_as_they_went_in_however_they_are_cut(
    parts: list[bytes], preamble: bytes, places: list[int]
) -> None:
    # A boundary never stands in what it surrounds (RFC 2046 5.1.1): whoever sends chooses one that does not.
    parts = [part for part in parts if not re.search(rb"\r\n--=_b([ \t]*\r\n|--)", b"\r\n" + part + b"\r\n--")]
    parts = parts or [b""]
    data = encoded(parts, preamble)
    assert scanned(cut(data, places)) == parts
    assert scanned([data[at : at + 1] for at in range(len(data))]) == parts


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_reader_agrees_with_the_library_for_mail(parts: list[bytes]) -> None:
    head = b"\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    data = b"".join(b"--=_b" + head + base64.b64encode(part) + b"\r\n" for part in parts) + b"--=_b--\r\n"
    message = email.message_from_bytes(b'Content-Type: multipart/related; boundary="=_b"\r\n\r\n' + data, policy=HTTP)
    assert [base64.b64decode(one) for one in scanned([data])] == [one.get_content() for one in message.iter_parts()]


@given(st.binary(max_size=300), st.lists(st.integers(0, 999), max_size=5))
def test_any_bytes_are_parts_or_malformed(data: bytes, places: list[int]) -> None:
    for text in (data, b"--=_b\r\n" + data):
        assert outcome([text]) == outcome(cut(text, places))


def test_memory_does_not_grow_with_a_part() -> None:
    reader = PartReader(b"=_b")
    list(reader.feed(b"--=_b\r\n\r\n"))
    for _ in range(200):
        events = list(reader.feed(b"\r\n--=_" * 2000))
        assert sum(len(event.data) for event in events if isinstance(event, PartData)) > 10_000
        assert len(reader._buffer) < 64


def test_preamble_without_end_is_malformed_and_not_waited_for() -> None:
    reader = PartReader(b"=_b")
    for _ in range(multipart.LONGEST_PREAMBLE // 1000):
        assert list(reader.feed(b"x" * 1000)) == []
    with pytest.raises(MalformedError):
        list(reader.feed(b"x" * 1000))


def test_headers_that_do_not_end_are_malformed() -> None:
    reader = PartReader(b"=_b")
    with pytest.raises(MalformedError):
        list(reader.feed(b"--=_b\r\n" + b"x" * (multipart.LONGEST_HEADERS + 1)))


@pytest.mark.parametrize("boundary", ["a b", "a'()+_,-./:=?b", "x" * 70])
def test_boundaries_of_the_standard(boundary: str) -> None:
    kind = f'multipart/related; boundary="{boundary}"; type="application/dicom"'
    assert parse_content_type(kind) == ("multipart/related", "application/dicom", boundary.encode())


def test_answer_is_dicom_json(plant: Plant) -> None:
    answer = ask(plant, body(*scan(plant, 1)))
    dataset = pydicom.Dataset.from_json(json.dumps(answer.json()))
    assert dataset.ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
