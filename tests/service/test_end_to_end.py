"""Real scans through a real PACS: in, denoised, back in the same study, committed."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom.orthanc import Dicom, Orthanc, running
from dicom.synthetic import setting
from dicom.validators import new_complaints, tool
from pydicom.dataset import FileDataset
from real_data import real
from service.certificates import Certificates, make_certificates
from service.rows import new_uid, scan
from service.whole import NodeUnderTest, derived_sources, sent_uids, stopped_at_the_end, storescu, until

# The same as deploy/route.lua, by the name that the tests give the node.
ROUTE = (Path(__file__).parents[2] / "deploy" / "route.lua").read_text(encoding="utf-8").replace("'iscl'", "'ISCL'")


@pytest.fixture(scope="module")
def routing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A PACS that gives each stable CT series to the node, by the script that we ship."""
    with running(tmp_path_factory.mktemp("routing"), Dicom(lua=ROUTE)) as server:
        yield server


def push(server: Orthanc, files: list[Path]) -> None:
    tool("dcmdump")
    subprocess.run(
        ["/usr/bin/storescu", "-aet", "SCANNER", "-aec", "ORTHANC", "127.0.0.1", str(server.dicom_port), *files],
        check=True,
        capture_output=True,
    )


def study_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)


def dicom_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and pydicom.misc.is_dicom(path))


def gated_lung() -> list[Path]:
    """One phase of a 4D lung scan; a part of it, since a CPU does a slice in half a second."""
    folder = real("train/4dlung_113")
    return dicom_files(folder)[:12]


def tilted_from_the_third_on(dataset: FileDataset, index: int) -> None:
    if index > 2:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0.96592583, 0.25881905]


SCANS = {"GE head, tilted gantry": lambda: dicom_files(real("qa/ge_head_tilt")), "4D lung": gated_lung}


@pytest.mark.parametrize("name", SCANS)
def test_pushed_to_the_pacs_it_is_back_denoised_and_committed(
    name: str, routing: Orthanc, bundle: Path, tmp_path: Path
) -> None:
    files = SCANS[name]()
    study = study_of(files[0])
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, routing, traced=True)) as node:
        node.start()
        push(routing, files)
        node.wait_done()
        assert sorted(derived_sources(routing, study)) == sorted(sent_uids(files))
        assert {row["proof"] for row in node.rows("SELECT proof FROM deliveries")} == {"storage commitment"}
        check_valid(files, routing, study, tmp_path)
        series = node.rows("SELECT state, reason FROM series")
        until(lambda: len(node.rows("SELECT id FROM series")) >= 1)
        assert {row["state"] for row in series} == {"settled"}
        assert node.stop() == 0
    (job,) = node.rows("SELECT result FROM jobs")
    assert json.loads(job["result"])["slices"] == len(files)


SERIES: dict[str, dict[str, Any]] = {
    "thorax": {},
    "bolus monitoring": {"slots": [0] * 6},
    "three phases": {"slots": [*range(4)] * 3},
    "perfusion": {"slots": [place for place in range(3) for _ in range(4)]},
    "sequential head": {"slots": [0, 1, 2, 7, 8, 9], "change": tilted_from_the_third_on},
    "an odd value 3": {"change": setting(ImageType=["ORIGINAL", "PRIMARY", "OTHER"])},
}


def test_a_contrast_study_is_denoised_slice_by_slice(pacs: Orthanc, bundle: Path, tmp_path: Path) -> None:
    """Thorax, monitoring, phases, perfusion, head: as many slices come back as went in."""
    study, files = new_uid(), []
    for number, (name, kind) in enumerate(SERIES.items()):
        files += scan(tmp_path / name, uids=(study, new_uid()), **{"slots": range(5), "seed": number, **kind})
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs)) as node:
        node.start()
        assert storescu(files, node.port)
        node.wait_done(jobs=len(SERIES))
        assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))
        assert node.states("jobs") == {"done": len(SERIES)}


def check_valid(files: list[Path], server: Orthanc, study: str, folder: Path) -> None:
    """dciodvfy finds no error in a derived object that its source has not."""
    by_source = {uid: path for path in files for uid in sent_uids([path])}
    (derived_series,) = {
        row["MainDicomTags"]["SeriesInstanceUID"]
        for row in server.answer("/series?expand")
        if "AI DENOISED ISCL" in row["MainDicomTags"].get("SeriesDescription", "")
        and server.answer(f"/studies/{row['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"] == study
    }
    for derived in server.retrieve_series(study, derived_series)[:3]:
        path = folder / "derived.dcm"
        derived.save_as(path, enforce_file_format=True)
        source = by_source[derived.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert new_complaints(source, path) == []
        assert derived.StudyInstanceUID == study


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_over_tls_both_ways(certificates: Certificates, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    dicom = Dicom(tls=(certificates.pacs.certificate, certificates.pacs.key, certificates.authority))
    (tmp_path / "pacs").mkdir()
    with (
        running(tmp_path / "pacs", dicom) as server,
        stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, server, traced=True)) as node,
    ):
        secured = node.settings()
        secured["peers"][0]["tls"] = True
        own = {"certificate": certificates.node.certificate, "key": certificates.node.key, "ca": certificates.authority}
        node.more = {"peers": secured["peers"], "node": {"tls": {name: str(path) for name, path in own.items()}}}
        node.start()
        server.introduce("ISCL", node.port, UseDicomTls=True)
        client = ["+tls", certificates.client.key, certificates.client.certificate, "+cf", certificates.authority]
        assert not storescu(files, node.port), "in clear"
        assert not storescu(files, node.port, more=["+tla", "+cf", str(certificates.authority)]), "no certificate"
        stranger = ["+tls", certificates.stranger.key, certificates.stranger.certificate, "-ic"]
        assert not storescu(files, node.port, more=[str(one) for one in stranger]), "of another authority"
        assert node.states("series") == {}
        assert storescu(files, node.port, more=[str(one) for one in client])
        node.wait_done()
        assert sorted(derived_sources(server, study)) == sorted(sent_uids(files))
        assert node.stop() == 0


def test_over_dicomweb_both_ways(pacs: Orthanc, certificates: Certificates, bundle: Path, tmp_path: Path) -> None:
    study = new_uid()
    files = scan(tmp_path / "scan", uids=(study, new_uid()))
    with stopped_at_the_end(NodeUnderTest(tmp_path / "node", bundle, pacs, traced=True)) as node:
        peers = [{"name": "pacs", "url": f"{pacs.root}/dicom-web", "confirm": "query"}]
        token = "a token of thirty-two characters"
        clients = [{"name": "router", "token_sha256": sha256(token)}]
        web = {"clients": clients, "certificate": str(certificates.node.certificate), "key": str(certificates.node.key)}
        node.more = {"peers": peers, "web": {"port": node.web_port, **web}}
        node.start()
        trusted = ssl.create_default_context(cafile=str(certificates.authority))
        answer = stow(f"https://localhost:{node.web_port}/dicom-web/studies", files, token, trusted)
        assert len(answer["00081199"]["Value"]) == len(files)
        node.wait_done()
        assert sorted(derived_sources(pacs, study)) == sorted(sent_uids(files))
        assert {row["proof"] for row in node.rows("SELECT proof FROM deliveries")} == {"QIDO-RS"}
        assert node.stop() == 0


def sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def stow(url: str, files: list[Path], token: str, context: ssl.SSLContext) -> Any:
    parts = b"".join(b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + f.read_bytes() + b"\r\n" for f in files)
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=edge',
        "Authorization": f"Bearer {token}",
        "Accept": "application/dicom+json",
    }
    request = urllib.request.Request(url, data=parts + b"--edge--\r\n", headers=headers)
    with urllib.request.urlopen(request, timeout=60, context=context) as response:
        return json.loads(response.read())
