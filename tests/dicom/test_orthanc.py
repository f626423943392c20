"""Source and derived series in a real PACS: one study, its own series, and every bit as written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom.derived import derivation, read
from dicom.orthanc import Orthanc, running
from dicom.scanners import SCANNERS, Pair
from pydicom.dataset import Dataset

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import write_derived_series


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="module", params=SCANNERS)
def stored(request: pytest.FixtureRequest, pair_of: Callable[[str], Pair], orthanc: Orthanc) -> Iterator[Pair]:
    """A pair whose files, residuals too, are in the PACS, which holds nothing else. Tests leave it so."""
    pair = pair_of(request.param)
    for path in [*pair.sources(), *(path for _, path in pair.files())]:
        orthanc.store(path)
    yield pair
    for patient in orthanc.answer("/patients"):
        orthanc.ask("/tools/bulk-delete", f'{{"Resources": ["{patient}"]}}'.encode())


def derived_of(pair: Pair) -> list[Path]:
    return sorted(pair.derived.glob("*.dcm"))


def test_they_are_series_of_the_same_study(stored: Pair, orthanc: Orthanc) -> None:
    sources = [read(path) for path in stored.sources()]
    assert len(orthanc.answer("/patients")) == 1
    studies = [orthanc.answer(f"/studies/{study}") for study in orthanc.answer("/studies")]
    assert {study["MainDicomTags"]["StudyInstanceUID"] for study in studies} == {
        dataset.StudyInstanceUID for dataset in sources
    }
    series = [orthanc.answer(f"/series/{one}") for study in studies for one in study["Series"]]
    counts = sorted(len(one["Instances"]) for one in series)
    assert counts == [len(sources)] * 3  # source, derived, residual
    labelled = [one for one in series if "AI DENOISED ISCL" in one["MainDicomTags"].get("SeriesDescription", "")]
    assert len(labelled) == 1
    for instance in labelled[0]["Instances"]:
        tags = orthanc.answer(f"/instances/{instance}/simplified-tags")
        assert tags["ImageType"].startswith("DERIVED\\SECONDARY\\")
        assert tags["ImageComments"].startswith(DISCLAIMER)


def test_wado_gives_back_every_bit(stored: Pair, orthanc: Orthanc) -> None:
    files = {read(path).SOPInstanceUID: read(path) for path in derived_of(stored)}
    first = next(iter(files.values()))
    came = orthanc.retrieve_series(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert {dataset.SOPInstanceUID for dataset in came} == set(files)
    with without_warnings():
        for dataset in came:
            written = files[dataset.SOPInstanceUID]
            assert list(dataset) == list(written)
            np.testing.assert_array_equal(dataset.pixel_array, written.pixel_array)


PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "InstanceNumber")
SAME = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "RescaleSlope", "RescaleIntercept", "Rows", "Columns")


def test_metadata_tell_the_same_place(stored: Pair, orthanc: Orthanc) -> None:
    first = read(derived_of(stored)[0])
    sources = {read(path).SOPInstanceUID: read(path) for path in stored.sources()}
    with without_warnings():
        metadata = orthanc.metadata(first.StudyInstanceUID, first.SeriesInstanceUID)
        assert len(metadata) == len(sources)
        for dataset in metadata:
            source = sources.pop(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)
            for keyword in (*PLACE, *SAME):
                assert value(dataset, keyword) == value(source, keyword), keyword
    assert sources == {}  # each has its derived slice


def value(dataset: Dataset, keyword: str) -> object:
    found = dataset.get(keyword)
    return list(found) if isinstance(found, (list, tuple)) or hasattr(found, "append") else found


def test_by_rest_and_wado_uri_a_file_comes_back_byte_for_byte(stored: Pair, orthanc: Orthanc) -> None:
    for path in derived_of(stored)[:2]:
        dataset = read(path)
        (instance,) = orthanc.answer("/tools/lookup", dataset.SOPInstanceUID.encode())
        assert orthanc.ask(f"/instances/{instance['ID']}/file", accept="*/*")[0] == path.read_bytes()
        names = {
            "study": dataset.StudyInstanceUID,
            "series": dataset.SeriesInstanceUID,
            "object": dataset.SOPInstanceUID,
        }
        asked = "&".join(f"{name}UID={uid}" for name, uid in names.items())
        wado = f"/wado?requestType=WADO&contentType=application/dicom&{asked}"
        assert orthanc.ask(wado, accept="*/*")[0] == path.read_bytes()
        assert orthanc.ask(f"/instances/{instance['ID']}/preview", accept="image/png")[0].startswith(b"\x89PNG")


def test_a_repeat_is_the_same_object_and_other_work_another(stored: Pair, orthanc: Orthanc, tmp_path: Path) -> None:
    with without_warnings():
        series = read_series(stored.source, geometry="slices")
        for name, other in (("first", {}), ("again", {}), ("other", {"parameters": {"strength": "0.2"}})):
            write_derived_series(series, series.hu, tmp_path / name, derivation=derivation(**other))
    before = set(orthanc.answer("/instances"))
    counts = []
    for name in ("first", "again", "other"):
        for path in (tmp_path / name).iterdir():
            orthanc.answer("/instances", path.read_bytes())
        counts.append(len(orthanc.answer("/instances")) - len(before))
    added = sorted(set(orthanc.answer("/instances")) - before)
    orthanc.ask("/tools/bulk-delete", json.dumps({"Resources": added}).encode())
    assert counts == [len(series.files), len(series.files), 2 * len(series.files)]
