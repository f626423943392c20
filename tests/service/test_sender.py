"""Objects reach every destination once, whatever it does; what does not is told, with its reason."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dicom.orthanc import Dicom, free_port, running
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from service.certificates import Certificates, make_certificates
from service.peers import House, Pacs, peer, until
from sqlalchemy import update

from iscl_monai.service.database.store import Move
from iscl_monai.service.database.tables import deliveries
from iscl_monai.service.dicom_settings import TLS
from iscl_monai.service.tls import server_context
from iscl_monai.service.working.queue import cancel, release, retry

TRUSTED: dict[str, Any] = {"confirm": "status"}


def house(folder: Path, pacs: Pacs, **more: Any) -> House:
    return House(folder / "data", peer(port=pacs.port, **TRUSTED), **more)


def test_everything_arrives_once_as_the_bytes_it_was(tmp_path: Path) -> None:
    pacs, sent = Pacs(), []
    home = house(tmp_path, pacs)
    pacs.status = lambda uid, association: 0
    jobs = [home.job(4), home.job(2)]
    with pacs.running(), home.sending():
        for job in jobs:
            sent += [row["sop_instance_uid"] for row in job.rows() if job.becomes("done")]
    assert sorted(pacs.took) == sorted(sent) == sorted(set(sent))
    assert len(pacs.associations) == 1
    assert {row["proof"] for job in jobs for row in job.rows()} == {"status of the peer"}


def test_a_job_made_while_it_runs_is_sent_without_being_told(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    with pacs.running(), home.sending():
        job = home.job()
        job.becomes("done")
    assert set(pacs.took) == job.uids


def test_a_peer_that_is_down_gets_everything_when_it_is_up(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    job = home.job()
    with home.sending():
        until(lambda: min(row["attempts"] for row in job.rows()) >= 2)
        assert job.row()["state"] == "sending"
        assert all(f"no connection with PACS at 127.0.0.1:{pacs.port}" in row["reason"] for row in job.rows())
        with pacs.running():
            job.becomes("done")
    assert sorted(pacs.took) == sorted(job.uids)


def test_a_peer_that_stays_down_is_given_up_and_the_job_says_why(tmp_path: Path) -> None:
    home = house(tmp_path, Pacs(), sending={"tries": 3})
    job = home.job()
    with home.sending():
        row = job.becomes("failed")
    assert {row["attempts"] for row in job.rows()} == {3}
    assert row["reason"].startswith("3 of 3 objects not delivered; pacs: no connection")


def test_a_slow_peer_holds_up_nobody_else(tmp_path: Path) -> None:
    go, slow, fast = threading.Event(), Pacs(ae_title="SLOW"), Pacs(ae_title="FAST")
    slow.status = lambda uid, association: 0 if go.wait(60) else 0xC000
    home = House(tmp_path / "data", peer("slow", slow.port, **TRUSTED), peer("fast", fast.port, **TRUSTED))
    job = home.job(3, ("slow", "fast"))
    with slow.running(), fast.running(), home.sending():
        until(lambda: set(fast.took) == job.uids and len(slow.offered) == 1)
        assert not slow.took
        go.set()
        job.becomes("done")
    assert sorted(slow.took) == sorted(fast.took) == sorted(job.uids)


def test_a_node_that_stops_does_not_wait_for_a_slow_peer_and_goes_on_later(tmp_path: Path) -> None:
    go, pacs = threading.Event(), Pacs()
    pacs.status = lambda uid, association: 0 if len(pacs.offered) != 2 or go.wait(60) else 0xC000
    home = house(tmp_path, pacs)
    job = home.job(4)
    with pacs.running():
        with home.sending():
            until(lambda: len(pacs.offered) == 2)
        assert not go.is_set()  # nobody had to be answered for that
        assert [row["state"] for row in job.rows()] == ["sent", *["waiting"] * 3]
        go.set()
        with home.sending():
            job.becomes("done")
    assert set(pacs.took) == job.uids
    assert pacs.took.count(job.derived[0].sop_instance_uid) == 1


def test_out_of_resources_is_tried_again_and_ends_well(tmp_path: Path) -> None:
    pacs = Pacs()
    pacs.status = lambda uid, association: 0xA700 if len(pacs.offered) < 9 else 0
    home = house(tmp_path, pacs, sending={"refused_tries": 1})
    job = home.job()
    with pacs.running(), home.sending():
        job.becomes("done")
    assert sorted(pacs.took) == sorted(job.uids)


def test_one_object_that_never_fits_does_not_keep_the_others_out(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    big, other = home.job(3), home.job(2)
    pacs.status = lambda uid, association: 0xA700 if uid == big.derived[0].sop_instance_uid else 0
    with pacs.running(), home.sending():
        other.becomes("done")
        until(lambda: set(pacs.took) == (big.uids | other.uids) - {big.derived[0].sop_instance_uid})
        assert "0xA700: Refused: Out of Resources" in big.rows()[0]["reason"]
        assert big.row()["state"] == "sending"


def test_a_refused_object_fails_visibly_and_the_others_arrive(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs, sending={"refused_tries": 3})
    job = home.job()
    bad = job.derived[1].sop_instance_uid
    pacs.status = lambda uid, association: 0xC000 if uid == bad else 0
    with pacs.running(), home.sending():
        row = job.becomes("failed")
        assert row["reason"] == "1 of 3 objects not delivered; pacs: 0xC000: Cannot Understand"
        assert sorted(pacs.took) == sorted(job.uids - {bad})
        assert pacs.offered.count(bad) == 3
        pacs.status = lambda uid, association: 0
        with home.store.writing() as change:
            retry(change, job.id, "somebody")
        job.becomes("done")
    assert sorted(pacs.took) == sorted(job.uids)


def test_an_outage_before_does_not_shorten_patience_with_a_refusal(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs, sending={"refused_tries": 3})
    job = home.job(1)
    with home.store.writing() as change:
        change.execute(update(deliveries).values(attempts=900))
    pacs.status = lambda uid, association: 0xC000 if len(pacs.offered) < 3 else 0
    with pacs.running(), home.sending():
        job.becomes("done")


def test_warnings_are_success_and_stay_visible(tmp_path: Path) -> None:
    pacs = Pacs(status=lambda uid, association: 0xB000)
    home = House(tmp_path / "data", peer(port=pacs.port))
    job = home.job()
    with pacs.running(), home.sending():
        until(lambda: set(pacs.took) == job.uids)
        until(lambda: all("commitment" in row["reason"] for row in job.rows()))  # which it does not know
    assert job.states() == {"sent"}
    assert sorted(pacs.took) == sorted(job.uids)


def test_a_connection_cut_in_mid_series_costs_one_object_twice_at_most(tmp_path: Path) -> None:
    pacs = Pacs()

    def cut(uid: str, association: Any) -> int:
        if len(pacs.offered) == 3:
            association.abort(block=False)
        return 0

    pacs.status = cut
    home = house(tmp_path, pacs)
    job = home.job(6)
    with pacs.running(), home.sending():
        job.becomes("done")
    assert set(pacs.took) == job.uids
    assert len(pacs.took) - len(job.uids) <= 1


def test_an_object_that_breaks_the_peer_each_time_does_not_keep_the_others_out(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    job = home.job(4)
    bad = job.derived[0].sop_instance_uid

    def status(uid: str, association: Any) -> int:
        if uid == bad:
            association.abort(block=False)
            return 0xC000
        return 0

    pacs.status = status
    with pacs.running(), home.sending():
        until(lambda: set(pacs.took) == job.uids - {bad})
    assert job.rows()[0]["state"] == "waiting"
    assert "on its way" in job.rows()[0]["reason"]


def test_a_peer_that_rejects_us_is_told_with_its_reason(tmp_path: Path) -> None:
    pacs = Pacs(ae_title="OTHER", strict=True)
    home = house(tmp_path, pacs)
    job = home.job()
    with pacs.running(), home.sending():
        until(lambda: min(row["attempts"] for row in job.rows()) >= 2)
    assert "rejects the association: Called AE title not recognised" in job.rows()[0]["reason"]
    assert job.row()["state"] == "sending"


def test_a_sop_class_that_is_not_accepted_fails_its_objects_alone(tmp_path: Path) -> None:
    pacs = Pacs(storage=())
    home = house(tmp_path, pacs, sending={"refused_tries": 2})
    job = home.job()
    with pacs.running(), home.sending():
        row = job.becomes("failed")
    assert "accepts none of the SOP Classes" in row["reason"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_peer_may_know_one_syntax_only(tmp_path: Path, syntax: str) -> None:
    pacs = Pacs(storage=(CTImageStorage,), syntaxes=(syntax,))
    home = house(tmp_path, pacs)
    job = home.job()
    with pacs.running(), home.sending():
        job.becomes("done")
    assert sorted(pacs.took) == sorted(job.uids)


def test_a_file_that_is_gone_fails_at_once_and_the_others_arrive(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    job = home.job()
    (home.settings.data / job.derived[0].file).unlink()
    with pacs.running(), home.sending():
        row = job.becomes("failed")
    assert row["reason"] == "1 of 3 objects not delivered; pacs: its file is not there any more"
    assert set(pacs.took) == job.uids - {job.derived[0].sop_instance_uid}


def test_a_cancelled_job_is_sent_no_further(tmp_path: Path) -> None:
    go, pacs = threading.Event(), Pacs()
    pacs.status = lambda uid, association: 0 if go.wait(60) else 0xC000
    home = house(tmp_path, pacs)
    job, next_job = home.job(5), home.job(2)
    with pacs.running(), home.sending():
        until(lambda: len(pacs.offered) == 1)
        with home.store.writing() as change:
            cancel(change, job.id, "somebody")
        go.set()
        next_job.becomes("done")
    assert set(pacs.took) - next_job.uids == {job.derived[0].sop_instance_uid}
    assert job.row()["state"] == "cancelled"


def test_what_is_held_goes_to_nobody_until_it_is_released(tmp_path: Path) -> None:
    pacs = Pacs()
    home = house(tmp_path, pacs)
    kept, next_job = home.job(2, state="held"), home.job(2)
    with pacs.running(), home.sending() as sender:
        next_job.becomes("done")
        sender.wake()
        last = home.job(1)
        last.becomes("done")
        assert set(pacs.offered) == next_job.uids | last.uids
        assert kept.row()["state"] == "held"
        with home.store.writing() as change:
            release(change, kept.id, "somebody")
        kept.becomes("done")
    assert kept.uids <= set(pacs.took)


def test_a_destination_that_the_settings_lost_fails_visibly(tmp_path: Path) -> None:
    home = house(tmp_path, Pacs())
    job = home.job(2, ("archive",))
    with home.sending():
        row = job.becomes("failed")
    assert row["reason"] == "2 of 2 objects not delivered; archive: the settings have no peer archive that can receive"


def test_what_is_urgent_goes_first(tmp_path: Path) -> None:
    from iscl_monai.service.database.tables import jobs

    pacs = Pacs()
    home = house(tmp_path, pacs)
    normal, urgent = home.job(2), home.job(2)
    with home.store.writing() as change:
        change.execute(update(jobs).where(jobs.c.id == urgent.id).values(priority=0))
    with pacs.running(), home.sending():
        normal.becomes("done")
    assert set(pacs.took[:2]) == urgent.uids


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_goes_to_whom_it_trusts_alone(tmp_path: Path, certificates: Certificates) -> None:
    def files_of(who: Any, authority: Path) -> dict[str, Path]:
        return {"certificate": who.certificate, "key": who.key, "ca": authority}

    good, bad = Pacs(ae_title="GOOD"), Pacs(ae_title="BAD")
    peers = [peer(one.ae_title.lower(), one.port, tls=True, **TRUSTED) for one in (good, bad)]
    node = {"tls": files_of(certificates.node, certificates.authority)}
    home = House(tmp_path / "data", *peers, node=node)
    job = home.job(3, ("good", "bad"))
    right = server_context(TLS(**files_of(certificates.pacs, certificates.authority)))
    wrong = server_context(TLS(**files_of(certificates.stranger, certificates.authority)))
    with good.running(ssl_context=right), bad.running(ssl_context=wrong), home.sending():
        until(lambda: set(good.took) == job.uids and job.rows()[3]["attempts"] >= 2)
        assert "CERTIFICATE_VERIFY_FAILED" in job.rows()[3]["reason"].replace(" ", "_").upper()
    assert not bad.offered


def test_a_peer_that_hangs_in_mid_object_is_left_and_gets_it_later(tmp_path: Path) -> None:
    """Its machine still takes what the network buffers hold, and then nothing: no answer, no error, no end."""
    folder, port = tmp_path / "orthanc", free_port()
    folder.mkdir()
    pacs = peer(port=port, ae_title="ORTHANC", **TRUSTED)
    home = House(tmp_path / "data", pacs, node={"timeout_s": 1, "port": free_port()})
    with running(folder, Dicom(port=port)) as server, ExitStack() as stack:
        halted: list[int] = []

        def halt(move: Move, committed: bool) -> None:
            """Called between the first object and the second one."""
            if move.after == "sent" and committed and not halted:
                halted.append(move.row)
                signalled(signal.SIGSTOP)

        def signalled(what: int) -> None:
            assert server.process is not None
            server.process.send_signal(what)

        home.store.observe(halt)
        job = home.job(2, rows=2048, columns=2048)
        stack.enter_context(home.sending())
        until(lambda: max(row["attempts"] for row in job.rows()) >= 2)
        signalled(signal.SIGCONT)
        job.becomes("done")
        assert server.sop_instance_uids() == sorted(job.uids)
