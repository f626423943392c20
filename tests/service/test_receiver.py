"""What honest peers send is kept to the last byte, or refused with a reason; success is never told too early."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom.orthanc import Orthanc
from dicom.synthetic import setting
from dicom.validators import tool
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from real_data import real
from service.receiving import (
    CT,
    VERIFICATION,
    Door,
    certificates,
    dcmtk,
    opened,
    receiving,
    settings_of,
    slices,
    until,
)

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.database import store as store_module
from iscl_monai.service.database.store import DATABASE
from iscl_monai.service.database.tables import audit, refusals
from iscl_monai.service.receiving.callers import Callers
from iscl_monai.service.receiving.intake import Verdict
from iscl_monai.service.receiving.limits import RepeatFilter
from iscl_monai.service.receiving.responses import status_of
from iscl_monai.service.sending.commitment_reports import CommitmentReporter
from iscl_monai.service.sending.dimse import DimseClient, presentation_contexts
from iscl_monai.service.tls import client_context

COMMITMENT = "1.2.840.10008.1.20.1"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    (tmp_path / "node").mkdir()
    with receiving(settings_of(tmp_path / "node")) as running:
        yield running


def same_data_set(kept: bytes, sent: Path) -> bool:
    """Whether two files hold the same elements, whatever their file meta information says."""
    one, other = pydicom.dcmread(BytesIO(kept)), pydicom.dcmread(sent)
    return one == other and one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


# What is taken


@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_series_from_dcmtk_is_kept(door: Door, tmp_path: Path, program: str) -> None:
    files = slices(tmp_path / "sent", 4)
    done = dcmtk(program, door, "--", *files)
    assert done.returncode == 0, done.stderr
    kept = door.stored()
    assert {uid_of(path) for path in files} == set(kept)
    assert all(same_data_set(kept[uid_of(path)], path) for path in files)
    assert not door.leftovers()
    assert len(door.arrived) == 4
    assert {row["sender"] for row in door.rows()} == {"CT1"}


def test_real_scan_is_kept(door: Door) -> None:
    files = sorted(path for path in real("qa/ge_head_tilt").rglob("*") if path.suffix == ".dcm")
    assert len(files) > 20
    done = dcmtk("dcmsend", door, "--", *files)
    assert done.returncode == 0, done.stderr
    kept = door.stored()
    assert {uid_of(path) for path in files} == set(kept)
    assert all(same_data_set(kept[uid_of(path)], path) for path in files)


def test_echo_from_dcmtk(door: Door) -> None:
    assert dcmtk("echoscu", door, "--").returncode == 0
    assert dcmtk("echoscu", door, "--", title="NOBODY").returncode != 0


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
    ids=lambda syntax: syntax.keyword,
)
def test_syntax_is_kept_as_it_comes(door: Door, tmp_path: Path, syntax: Any) -> None:
    (path,) = slices(tmp_path / "sent", 1, rows=64, columns=64)
    dataset = pydicom.dcmread(path)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
    changed = tmp_path / "changed"
    pydicom.dcmwrite(changed, dataset, little_endian=None, implicit_vr=None)
    with door.association(CT, syntaxes=[syntax]) as association:
        assert association.send_c_store(changed).Status == 0
    (row,) = door.rows()
    assert row["transfer_syntax_uid"] == syntax
    (kept,) = door.stored().values()
    assert same_data_set(kept, changed)
    assert kept[kept.index(b"DICM") :][-200:] == changed.read_bytes()[-200:]


def test_success_is_not_told_before_the_object_is_taken(door: Door, tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "sent", 1)
    seen: list[int] = []
    accept = door.intake.accept
    answers: list[Any] = []
    may_go = threading.Event()

    def slow(*arguments: Any, **more: Any) -> Verdict:
        seen.append(len(answers))
        may_go.wait(30)
        return accept(*arguments, **more)

    door.intake.accept = slow  # type: ignore[method-assign]
    sender = threading.Thread(target=lambda: answers.extend(door.send(path)))
    sender.start()
    until(lambda: seen)
    assert not answers
    assert not door.rows()
    may_go.set()
    sender.join()
    assert [answer.Status for answer in answers] == [0]
    assert len(door.rows()) == 1


def test_same_object_again_is_a_success_and_one_row(door: Door, tmp_path: Path) -> None:
    files = slices(tmp_path / "sent", 2)
    assert [answer.Status for answer in door.send(*files, *files)] == [0, 0, 0, 0]
    assert len(door.rows()) == 2
    assert not door.leftovers()
    assert len(door.arrived) == 2


def test_other_object_of_the_same_uid_is_refused_and_the_first_stays(door: Door, tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "sent", 1)
    assert door.send(path)[0].Status == 0
    before = door.stored()
    dataset = pydicom.dcmread(path)
    dataset.PatientName = "Somebody^Else"
    dataset.save_as(path)
    answer = door.send(path)[0]
    assert answer.Status == 0xC001
    assert answer.ErrorComment.startswith("PatientName differs from the object")
    assert len(answer.ErrorComment) <= 64
    assert door.stored() == before
    assert not door.leftovers()
    (reason,) = door.reasons()
    assert "correct it in the PACS" in reason


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PatientID": "P2"}, "PatientID"),
        ({"PatientName": "A^B", "PatientBirthDate": "19500101"}, "PatientName, PatientBirthDate"),
        ({"StudyDescription": "corrected"}, "StudyDescription"),
        ({"AccessionNumber": "17"}, "AccessionNumber"),
        ({"PixelData": bytes(6 * 4 * 2)}, "its pixels"),
        ({"RescaleIntercept": -1000}, "RescaleIntercept"),
    ],
)
def test_another_version_is_refused_with_what_differs(
    door: Door, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    (path,) = slices(tmp_path / "sent", 1)
    assert door.send(path)[0].Status == 0
    dataset = pydicom.dcmread(path)
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    assert door.send(path)[0].Status == 0xC001
    (reason,) = door.reasons()
    assert reason.startswith(f"{named} differs from the object")


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_lossless_encoding_of_what_is_here_is_a_duplicate(door: Door, tmp_path: Path, syntax: UID) -> None:
    (path,) = slices(tmp_path / "sent", 1, rows=64, columns=64)
    assert door.send(path)[0].Status == 0
    before = door.stored()
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    with door.association(CT, syntaxes=[syntax]) as association:
        assert association.send_c_store(path).Status == 0
    assert door.stored() == before
    assert not door.reasons()
    dataset.PixelData = dataset.PixelData[:-40] + bytes(40)
    dataset.save_as(path)
    with door.association(CT, syntaxes=[syntax]) as association:
        assert association.send_c_store(path).Status == 0xC001


def test_a_fault_of_ours_is_answered_logged_and_listed_and_others_are_taken(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pynetdicom would answer for us that the object cannot be understood, and nobody would know."""
    files = slices(tmp_path)
    poison = pydicom.dcmread(files[1]).SOPInstanceUID
    record = door.intake._rows._write

    def fail(change: Any, new: Any) -> Any:
        recorded = record(change, new)
        if new.tags["SOPInstanceUID"] == poison:
            raise ValueError("some fault")
        return recorded

    monkeypatch.setattr(door.intake._rows, "_write", fail)
    answers = door.send(*files)
    assert [answer.Status for answer in answers] == [0, 0xA700, 0], "the sender keeps it, and may try again"
    assert answers[1].ErrorComment == "a fault of ours (ValueError), see the log"
    assert door.reasons() == ["a fault of ours (ValueError), see the log"]
    assert door.intake.refusals.counts == {"busy": 1}
    assert len(door.stored()) == 2
    assert door.leftovers() == []
    monkeypatch.undo()
    assert door.send(files[1])[0].Status == 0


def test_two_senders_of_the_same_object_at_once(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    scanners = [{"name": f"s{n}", "ae_title": f"CT{n}", "from_hosts": ["127.0.0.1"]} for n in (1, 2, 3)]
    files = slices(tmp_path / "sent", 6)
    with receiving(settings_of(tmp_path / "node", scanners)) as door:
        answers: dict[str, list[int]] = {}

        def send(title: str) -> None:
            answers[title] = [answer.Status for answer in door.send(*files, sender=title)]

        threads = [threading.Thread(target=send, args=(f"CT{n}",)) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {f"CT{n}": [0] * 6 for n in (1, 2, 3)}
        assert {uid_of(path) for path in files} == set(door.stored())
        assert len(door.rows()) == 6
        assert not door.leftovers()


# What is not


def test_object_that_is_not_the_announced_one(door: Door, tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "sent", 1)
    dataset = pydicom.dcmread(path)
    with door.association(CT) as association:
        real_uid = dataset.SOPInstanceUID
        answer = _send_as(association, dataset, CT, generate_uid())
        assert (answer.Status, answer.ErrorComment) == (
            0xA900,
            "the object is not the one that the request named",
        )
        assert _send_as(association, dataset, CT, real_uid).Status == 0
        assert _send_as(association, dataset, MR, real_uid).Status == 0x0122
        enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
        assert _send_as(association, dataset, enhanced, real_uid).Status == 0xA900
    assert len(door.rows()) == 1
    assert not door.leftovers()
    assert len(door.reasons()) == 3


def _send_as(association: Any, dataset: Any, sop_class: str, uid: str) -> Any:
    """C-STORE whose command names another class or instance than the data set has."""
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    context = association.accepted_contexts[0]
    request = C_STORE()
    request.MessageID, request.Priority = 7, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
    syntax = context.transfer_syntax[0]
    request.DataSet = BytesIO(encode(dataset, syntax.is_implicit_VR, True) or b"")
    association._reactor_checkpoint.clear()
    until(lambda: association._is_paused)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert answer is not None
    return answer


def test_empty_object_is_refused(door: Door) -> None:
    with door.association(CT) as association:
        empty = pydicom.Dataset()
        empty.PatientID = ""
        answer = _send_as(association, empty, CT, generate_uid())
    assert answer.Status == 0xA900 or answer.Status >= 0xC000
    assert not door.rows()
    assert not door.leftovers()
    assert len(door.reasons()) == 1


def test_object_without_rows_is_refused_with_a_reason(door: Door, tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "sent", 1, change=setting(Rows=None))
    answer = door.send(path)[0]
    assert (answer.Status, answer.ErrorComment) == (0xC000, "it ends early, or has no Rows")
    assert not door.leftovers()


def test_status_of_every_verdict() -> None:
    assert status_of(Verdict("stored")) == 0x0000
    assert status_of(Verdict("duplicate")) == 0x0000
    assert status_of(Verdict("busy", "", CT)) == 0xA700
    assert status_of(Verdict("unsuitable", "", CT)) == 0xC000
    assert status_of(Verdict("unsuitable", "", CT, mismatch=True)) == 0xA900
    assert status_of(Verdict("unsuitable", "", MR)) == 0x0122


def test_other_classes_are_not_accepted_and_listed_once(door: Door) -> None:
    for _ in range(3):
        with door.association(CT, MR, VERIFICATION) as association:
            assert {context.abstract_syntax for context in association.accepted_contexts} == {CT, VERIFICATION}
    assert door.reasons() == ["offered and not taken: MR Image Storage"]


def test_syntax_that_cannot_be_read_is_not_accepted_and_listed(door: Door) -> None:
    with door.association(CT, VERIFICATION, syntaxes=["1.2.840.10008.1.2.4.94"]) as association:
        assert not association.is_established
    assert ["CT Image Storage in JPIP Referenced" in reason for reason in door.reasons()] == [True]


def test_half_an_object_leaves_nothing(door: Door, tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "sent", 1, rows=600, columns=600)
    with door.association(CT) as association:
        _send_half(association, path)
        until(lambda: list((door.settings.data / "coming").iterdir()))  # it has begun to come
        association.abort()
    until(lambda: not door.receiver.connections.associations)
    assert not door.rows()
    assert not door.leftovers()
    assert door.echo() == 0


def _send_half(association: Any, path: Path) -> None:
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    dataset = pydicom.dcmread(path)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, dataset.SOPInstanceUID
    request.DataSet = BytesIO(path.read_bytes())
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = association.accepted_contexts[0]
    fragments = list(message.encode_msg(context.context_id, 16384))
    assert len(fragments) > 10
    for fragment in fragments[:-5]:
        association.dul.send_pdu(fragment)


# Who may speak


def rejected(door: Door, **how: str) -> tuple[int, int, int]:
    with door.association(VERIFICATION, **how) as association:
        assert association.is_rejected
        primitive = association.acceptor.primitive
        return primitive.result, primitive.result_source, primitive.diagnostic


def test_unknown_callers_are_rejected_with_the_right_reason(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    peers = [
        {"name": "scanner", "ae_title": "CT1", "from_hosts": ["127.0.0.1"]},
        {"name": "elsewhere", "ae_title": "CT2", "from_hosts": ["192.0.2.7", "198.51.100.0/24"]},
        {"name": "silent", "ae_title": "CT3", "host": "127.0.0.1", "port": 104, "may_send": False},
    ]
    with receiving(settings_of(tmp_path / "node", peers)) as door:
        assert door.echo() == 0
        assert rejected(door, sender="NOBODY") == (1, 1, 3)
        assert rejected(door, sender="CT2") == (1, 1, 3)
        assert rejected(door, sender="CT3") == (1, 1, 3)
        assert rejected(door, called="OTHER") == (1, 1, 7)
        assert len(door.rows(audit)) == 4
        assert {row["object"] for row in door.rows(audit)} == {"127.0.0.1"}
        assert door.echo() == 0


def test_flood_of_rejections_is_noted_once(door: Door) -> None:
    for _ in range(12):
        assert door.echo(sender="NOBODY") is None
    assert len(door.rows(audit)) == 1


def test_more_associations_than_allowed_are_told_to_come_later(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with receiving(settings_of(tmp_path / "node", max_associations=2)) as door:
        with door.association(VERIFICATION), door.association(VERIFICATION):
            assert rejected(door) == (2, 3, 1)
        until(lambda: not door.receiver.connections.associations)
        assert door.echo() == 0


def test_addresses_of_a_peer() -> None:
    peers = [
        {"name": "name", "ae_title": "A", "host": "scanner.example", "port": 104},
        {"name": "net", "ae_title": "B", "from_hosts": ["10.1.0.0/16", "2001:db8::/32"]},
        {"name": "here", "ae_title": "C", "from_hosts": ["localhost4.example"]},
    ]
    now, known = [0.0], {"scanner.example": ["192.0.2.1"], "localhost4.example": ["127.0.1.1"]}
    asked: list[str] = []

    def resolve(name: str) -> list[str]:
        asked.append(name)
        return known[name]

    callers = Callers(settings_of(Path(), peers), clock=lambda: now[0], resolve=resolve)
    assert callers.peer("A ", "192.0.2.1").name == "name"  # type: ignore[union-attr]
    assert callers.peer("A", "::ffff:192.0.2.1") is not None
    assert callers.peer("B", "10.1.255.3") is not None
    assert callers.peer("B", "2001:db8::9%eth0") is not None
    assert callers.peer("B", "10.2.0.1") is None
    assert callers.peer("C", "::1") is not None
    assert callers.peer("D", "10.1.0.1") is None
    assert callers.knows_address("192.0.2.1")
    assert not callers.knows_address("192.0.2.2")
    known["scanner.example"] = ["192.0.2.2"]
    before = len(asked)
    assert callers.peer("A", "192.0.2.2") is None  # asked a moment ago
    assert len(asked) == before
    now[0] = 11.0
    assert callers.peer("A", "192.0.2.2") is not None
    assert callers.peer("A", "192.0.2.1") is None


def test_repeats_are_counted_and_not_recorded() -> None:
    now = [0.0]
    repeats = RepeatFilter(every_s=10, most=3, clock=lambda: now[0])

    def recorded(*events: str) -> list[int | None]:
        return [repeats.unrecorded(event, "group") for event in events]

    assert recorded("a", "a", "b", "c") == [0, None, 0, 0]
    assert recorded("d", "e", "f") == [0, None, None], "the others are recorded as one"
    now[0] = 10
    assert recorded("a", "a", "d") == [1, None, 0]


def test_repeats_of_one_silence_no_other() -> None:
    now = [0.0]
    repeats = RepeatFilter(every_s=10, most=3, most_groups=5, clock=lambda: now[0])
    for number in range(1000):
        repeats.unrecorded(f"title {number}", "10.0.0.1")
        repeats.unrecorded("title", f"192.0.2.{number}")
    assert repeats.unrecorded("wrong title", "scanner", known=True) == 0
    assert len(repeats._recorded) <= 7, "and memory is bounded"
    assert sum(len(events) for events in repeats._recorded.values()) <= 7 * 4
    now[0] = 10
    assert repeats.unrecorded("title", "198.51.100.1") == 0, "strangers who have gone make room"


def test_peer_that_may_send_from_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="from where may it send"):
        settings_of(Path(), [{"name": "scanner", "ae_title": "CT1"}])


# Start and stop


def test_taken_port_is_refused_in_one_line(door: Door, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = opened(settings_of(tmp_path / "other", port=door.port))
    with pytest.raises(ConfigRefusal, match=f"127.0.0.1:{door.port}: Address already in use") as refused:
        other.receiver.start()
    assert "\n" not in str(refused.value)
    other.receiver.stop()
    assert not other.receiver.alive


def test_stop_lets_an_association_finish(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    door = opened(settings_of(tmp_path / "node"))
    door.receiver.start()
    assert door.receiver.alive
    (path,) = slices(tmp_path / "sent", 1)
    with door.association(CT) as association:
        stopping = threading.Thread(target=door.receiver.stop, args=(60.0,))
        stopping.start()
        until(lambda: door.echo() is None)  # nobody is let in any more
        assert [association.send_c_store(path).Status for _ in range(20)] == [0] * 20
    stopping.join()
    assert len(door.rows()) == 1
    door.receiver.stop()  # once more does no harm


def test_stop_aborts_what_does_not_finish(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    door = opened(settings_of(tmp_path / "node"))
    door.receiver.start()
    with door.association(VERIFICATION) as association:
        door.receiver.stop(grace_s=0.0)
        until(lambda: association.is_aborted)
    assert not door.receiver.connections.associations


# Disk and database


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_reserve_is_kept_free(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    settings = settings_of(tmp_path / "node")
    full = settings.disk.model_copy(update={"reserve_mb": 2**30, "resume_mb": 2**30})
    (path,) = slices(tmp_path / "sent", 1)
    with receiving(settings.model_copy(update={"disk": full})) as door:
        answer = door.send(path)[0]
        assert answer.Status == 0xA700
        assert "kept free" in answer.ErrorComment or "left on the disk" in answer.ErrorComment
        assert not door.rows()
        assert not door.leftovers()
        assert [row["status"] for row in door.rows(refusals)] == ["busy"]
        door.intake.space.limits = settings.disk
        assert door.send(path)[0].Status == 0


def test_full_disk_takes_nothing_and_works_again_after(tmp_path: Path) -> None:
    with small_disk(tmp_path / "node", "8m"):
        settings = settings_of(tmp_path / "node")
        files = slices(tmp_path / "sent", 12, rows=1024, columns=512)  # 1 MB each
        with receiving(settings) as door:
            door.intake.space.no_room_reason = lambda coming_bytes=0: ""  # type: ignore[method-assign]
            statuses = [answer.Status for answer in door.send(*files)]
            assert statuses[0] == 0
            assert statuses[-1] == 0xA700
            assert set(statuses) == {0, 0xA700}
            kept = door.stored()
            taken = {uid_of(path) for path, status in zip(files, statuses, strict=True) if status == 0}
            assert set(kept) == taken
            assert all(same_data_set(kept[uid_of(path)], path) for path in files if uid_of(path) in taken)
            assert not door.leftovers()
            for row in door.rows()[:4]:
                (settings.data / row["file"]).unlink()
            assert door.send(files[-1])[0].Status == 0


def test_locked_database_takes_nothing_and_works_again_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WAIT_MS", 100)
    (tmp_path / "node").mkdir()
    (path,) = slices(tmp_path / "sent", 1)
    with receiving(settings_of(tmp_path / "node")) as door:
        with contextlib.closing(sqlite3.connect(door.settings.data / DATABASE, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            answer = door.send(path)[0]
            assert answer.Status == 0xA700
            assert not door.rows()  # readers do not wait
            assert "cannot write its database" in answer.ErrorComment
            assert not door.leftovers()
            holder.execute("ROLLBACK")
        assert not door.rows()
        assert door.send(path)[0].Status == 0
        assert len(door.rows()) == 1


# TLS


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with certificates(tmp_path_factory.mktemp("certificates")) as folder:
        return folder


def tls(folder: Path, who: str = "node") -> dict[str, Path]:
    return {
        "certificate": folder / f"{who}.crt",
        "key": folder / f"{who}.key",
        "ca": folder / "authority.crt",
    }


def test_tls_with_dcmtk(tmp_path: Path, signed: Path) -> None:
    (tmp_path / "node").mkdir()
    files = slices(tmp_path / "sent", 3)
    trusted = ("+cf", signed / "authority.crt")
    with receiving(settings_of(tmp_path / "node", tls=tls(signed))) as door:
        peer = ("+tls", signed / "peer.key", signed / "peer.crt", *trusted)
        done = dcmtk("storescu", door, *peer, "--", *files)
        assert done.returncode == 0, done.stderr
        assert len(door.stored()) == 3
        stranger = ("+tls", signed / "stranger.key", signed / "stranger.crt", *trusted)
        assert dcmtk("echoscu", door, *stranger, "--").returncode != 0
        assert dcmtk("echoscu", door, "+tla", *trusted, "--").returncode != 0  # shows no certificate
        assert dcmtk("echoscu", door, "--").returncode != 0  # no TLS
        assert dcmtk("echoscu", door, *peer, "--").returncode == 0


def test_tls_1_1_is_refused(tmp_path: Path, signed: Path) -> None:
    (tmp_path / "node").mkdir()
    common = ["-cert", signed / "peer.crt", "-key", signed / "peer.key", "-CAfile", signed / "authority.crt"]
    with receiving(settings_of(tmp_path / "node", tls=tls(signed))) as door:
        for version, works in (("-tls1_2", True), ("-tls1_1", False)):
            command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{door.port}", version, *common]
            ciphers = ["-cipher", "DEFAULT:@SECLEVEL=0"]
            said = subprocess.run(
                [*map(str, command), *ciphers], input="", capture_output=True, text=True, check=False, timeout=60
            )
            assert ("Verify return code: 0" in said.stdout and "Cipher is (NONE)" not in said.stdout) == works


def test_tls_as_a_client_checks_the_name(tmp_path: Path, signed: Path) -> None:
    (tmp_path / "node").mkdir()
    settings = settings_of(tmp_path / "node", tls=tls(signed))
    assert settings.node.tls is not None
    context = client_context(settings.node.tls)
    with receiving(settings) as door:
        assert door.echo(tls_args=(context, "127.0.0.1")) == 0
        assert door.echo(tls_args=(context, "pacs.example")) is None


@pytest.mark.parametrize("spoilt", ["certificate", "key", "ca", "mixed", "encrypted"])
def test_unusable_certificates_are_refused_in_one_line(tmp_path: Path, signed: Path, spoilt: str) -> None:
    (tmp_path / "node").mkdir()
    settings = tls(signed)
    bad = tmp_path / "bad.pem"
    if spoilt == "mixed":
        settings["key"] = signed / "peer.key"
    elif spoilt == "encrypted":
        settings["key"] = bad
        secret = ["-aes256", "-passout", "pass:secret", "-out", str(bad)]
        subprocess.run(
            [tool("openssl"), "rsa", "-in", str(signed / "node.key"), *secret], check=True, capture_output=True
        )
    else:
        bad.write_text("no certificate")
        settings[spoilt] = bad
    door = opened(settings_of(tmp_path / "node", tls=settings))
    with pytest.raises(ConfigRefusal, match=r"\[node\.tls\]") as refused:
        door.receiver.start()
    assert "\n" not in str(refused.value)
    settings["ca"] = tmp_path / "absent"
    with pytest.raises(ConfigRefusal, match="absent: No such file"):
        opened(settings_of(tmp_path / "node", tls=settings)).receiver.start()


def test_nothing_about_a_patient_is_logged(door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = slices(tmp_path / "good", 1, change=setting(PatientName="Secret^Name", PatientID="SECRET77"))
    bad = slices(tmp_path / "bad", 1, change=setting(PatientName="Secret^Name", PatientID="SECRET77", Rows=None))
    assert [answer.Status for answer in door.send(*good, *bad)] == [0, 0xC000]
    said = capsys.readouterr()
    assert "association.accepted" in said.out
    assert "object.refused" in said.out
    everything = said.out + said.err + str(door.rows(refusals)) + str(door.rows(audit)) + str(door.rows())
    assert "secret" not in everything.lower()


# A real PACS


def test_orthanc_sends_and_commitment_goes_both_ways(tmp_path: Path, pacs: Orthanc) -> None:
    """It asks us to keep what it sent, and hears that we do; we ask it, and hear that it does but for one."""
    (tmp_path / "node").mkdir()
    orthanc = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port}
    files = slices(tmp_path / "sent", 3)
    with receiving(settings_of(tmp_path / "node", [orthanc])) as door:
        pacs.introduce("ISCL", door.port)
        wanted = {"Resources": [pacs.store(path) for path in files], "Synchronous": True, "StorageCommitment": True}
        answer = pacs.answer("/modalities/ISCL/store", json.dumps(wanted).encode())
        reporter = CommitmentReporter(door.settings, door.store)
        reporter.start()
        place = f"/storage-commitment/{answer['StorageCommitmentTransactionUID']}"
        until(lambda: pacs.answer(place)["Status"] != "Pending")
        assert reporter.stop()
        assert pacs.answer(place)["Status"] == "Success"
        assert len(pacs.answer(place)["Success"]) == 3
        assert set(door.stored()) == {uid_of(path) for path in files}
        unknown = generate_uid()
        action = Dataset()
        action.TransactionUID = generate_uid()
        action.ReferencedSOPSequence = [Dataset() for _ in range(4)]
        for item, uid in zip(action.ReferencedSOPSequence, [*map(uid_of, files), unknown], strict=True):
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        client = DimseClient(door.settings, door.settings.peers[0])
        with client.association(presentation_contexts([COMMITMENT])) as association:
            status, _ = association.send_n_action(action, 1, COMMITMENT, COMMITMENT + ".1")
            assert status.Status == 0
        ((transaction, confirmed, failed),) = until(lambda: door.reports)
    assert transaction == action.TransactionUID
    assert sorted(confirmed) == sorted(map(uid_of, files))
    assert failed == {unknown: "0x0112 no such object instance"}
