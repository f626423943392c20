"""Sections that would count a scan double, or measure it against itself; and what weights say they have seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iscl_monai.data import Datalist, ScanPair
from iscl_monai.errors import CheckpointRefusal, DatalistRefusal, LeakRefusal
from iscl_monai.evaluation.pairs import pairs_in
from iscl_monai.evaluation.training_record import refuse_seen


def pair(noisy: str = "low", patient: str = "a", clean: str = "full", **more: Any) -> ScanPair:
    return ScanPair(noisy=Path(noisy), clean=Path(clean), patient=patient, **more)


def listed(*pairs: ScanPair) -> int:
    return len(pairs_in(Datalist(noisy=(), clean=(), test=pairs), "test"))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((pair(), pair()), "listed twice"),
        ((pair(), pair("low/../low")), "listed twice"),
        ((pair(z_range_mm=(0, 10)), pair(z_range_mm=(10, 20))), "listed twice"),
        ((pair(z_range_mm=(0, 10)), pair()), "listed twice"),
        ((pair(noisy_series_uid="1.2"), pair()), "listed twice"),
        ((pair(), pair(patient="b")), "of patients 'a' and 'b'"),
        ((pair(z_range_mm=(0, 10)), pair(patient="b", z_range_mm=(30, 40))), "of patients"),
        ((pair(), pair("full", "b")), "both noisy and clean"),
        ((pair("full", noisy_series_uid="1.2"),), "both noisy and clean"),
    ],
)
def test_a_scan_counts_once_and_is_not_its_own_reference(pairs: tuple[ScanPair, ...], message: str) -> None:
    with pytest.raises(DatalistRefusal, match=message):
        listed(*pairs)


def test_parts_series_and_shared_references_are_fine() -> None:
    assert listed(pair(z_range_mm=(0, 10)), pair(z_range_mm=(10.5, 20))) == 2
    assert listed(pair(noisy_series_uid="1.2"), pair(noisy_series_uid="1.3")) == 2
    assert listed(pair("full", noisy_series_uid="1.2", clean_series_uid="1.3"), pair("low2", "b")) == 2


def seen(folder: Path, record: Any, *patients: str, split: str = "") -> str:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return refuse_seen(folder, patients, split_protocol=split)


@pytest.mark.parametrize("record", [{}, {"patients": []}, {"patients": [" "]}, {"split_protocol": "ldct-bench"}])
def test_a_record_without_patients_clears_nobody(tmp_path: Path, record: Any) -> None:
    assert "nothing could be checked" in seen(tmp_path, record, "a")


def test_names_are_one_whatever_their_case_and_blanks(tmp_path: Path) -> None:
    with pytest.raises(LeakRefusal, match="have seen Patient One"):
        seen(tmp_path, {"patients": [" PATIENT one "]}, "Patient One")
    with pytest.raises(LeakRefusal, match="C121 in its training set"):
        seen(tmp_path, {"split_protocol": "iscl-tmi2021"}, " c121", split="ldct-bench")


def test_a_split_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefusal, match="split_protocol 'mine'"):
        seen(tmp_path, {"patients": ["x"], "split_protocol": "mine"}, "a")
