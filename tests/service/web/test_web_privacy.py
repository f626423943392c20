"""What the log must not tell, whatever the libraries would like to."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator

import pydicom
import pytest
from pydicom.dataelem import DataElement
from service.web.plant import Plant, post

from iscl_monai.dicom.headers import read_header
from iscl_monai.service import log


@pytest.fixture
def log_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a node with its log set up writes; everything is as it was afterwards."""
    root, library = logging.getLogger(), logging.getLogger("pydicom")
    before = root.level, library.level
    written = io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", written)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        log.set_up()
        yield written
    root.setLevel(before[0])
    library.setLevel(before[1])
    log.structlog.reset_defaults()


def test_values_of_a_patient_do_not_get_into_the_log(plant: Plant, log_output: io.StringIO) -> None:
    def change(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PatientName = "Mustermann^Erika"
        odd = DataElement("FrameOfReferenceUID", "UI", "1.2.Mustermann", validation_mode=0)  # pydicom warns, and quotes
        dataset[odd.tag] = odd

    series = plant.synthetic(change=change)
    plant.settled(series)
    log_output.truncate(0)
    assert "Mustermann" in post(plant.client("operator"), f"/series/{series}/patient").text
    for path in plant.store.data.rglob("*.dcm"):
        assert read_header(path).frame_of_reference_uid == "1.2.Mustermann"
    log.log.info("test.told", patient_name="Mustermann", series=series)
    assert '"test.told"' in log_output.getvalue()
    assert "Mustermann" not in log_output.getvalue()
