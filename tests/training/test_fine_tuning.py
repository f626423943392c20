"""What fine-tuning says in the end, and by which figure it tells whether weights became better."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine

from iscl_monai.errors import CheckpointRefusal
from iscl_monai.training.fine_tuning import FineTuning, _patients_of
from iscl_monai.training.validation import TRUTH_ERROR, score


def compared(history: list[dict[str, float]], caplog: pytest.LogCaptureFixture) -> str:
    tuning = FineTuning.__new__(FineTuning)
    tuning.validation = SimpleNamespace(history=history)  # type: ignore[assignment]
    engine = Engine(lambda *_: None)
    engine.logger = logging.getLogger("tuning")
    with caplog.at_level(logging.INFO, logger="tuning"):
        tuning._compare(engine)
    return caplog.text


def entry(epoch: float, psnr_db: float, error_hu: float | None = None) -> dict[str, float]:
    return {"epoch": epoch, "psnr_db": psnr_db} | ({} if error_hu is None else {TRUTH_ERROR: error_hu**2})


@pytest.mark.parametrize(
    ("history", "words", "not_said"),
    [
        ([entry(0, 40, 5.0), entry(1, 39, 4.0)], ["epoch 1", "error to the truth 5.00 -> 4.00 HU"], "judged by PSNR"),
        ([entry(0, 40, 5.0), entry(1, 42, 6.0)], ["no epoch was better"], "judged by PSNR"),
        ([entry(0, 40), entry(1, 42)], ["epoch 1", "psnr_db +2.00", "judged by PSNR", "dose or truth"], "no epoch"),
        ([{"epoch": 0.0}, {"epoch": 1.0}], ["nobody knows"], "epoch 1"),
        ([entry(1, 40)], ["nobody knows"], "epoch 1"),
    ],
)
def test_what_is_said(
    history: list[dict[str, float]], words: list[str], not_said: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = compared(history, caplog)
    assert all(one in text for one in words), text
    assert not_said not in text


def test_the_error_to_the_truth_decides_where_it_is_known() -> None:
    assert score(entry(0, 30, 4.0)) > score(entry(1, 40, 5.0))
    assert score(entry(0, 40)) > score(entry(1, 30))
    values: Any = score({})
    assert values != values


@pytest.mark.parametrize(
    ("file", "record", "patients"),
    [("model.pt", "training.json", ("a", "b")), ("released.pt", "released.json", ("a", "b")), ("model.pt", "", ())],
)
def test_whom_the_start_was_trained_on_is_known_by_its_record(
    file: str, record: str, patients: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if record:
        (tmp_path / record).write_text('{"patients": ["a", "b"]}')
    assert _patients_of(tmp_path / file) == patients
    assert ("whom" in caplog.text) == (not record)


@pytest.mark.parametrize("damaged", ["{", "[]", '{"patients": 3}', "{}"])
def test_a_damaged_record_of_the_start_is_refused(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(damaged)
    with pytest.raises(CheckpointRefusal, match=r"training\.json: no list of patients"):
        _patients_of(tmp_path / "model.pt")
