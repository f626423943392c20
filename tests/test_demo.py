"""The demo, tiny: the same commands, configs and report as `make demo`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iscl_monai import demo
from iscl_monai.dicom.series import read_series
from iscl_monai.report.write import DISCLAIMER


@pytest.mark.filterwarnings("ignore")
def test_the_demo_ends_with_a_report_and_says_whether_it_gained(
    tmp_path: Path, tiny_patients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["patch_size=64", "batch_size=2", "warm_up_steps=1"]
    short = ["epochs=1", "steps_per_epoch=2", f"dataset_dir={tiny_patients}"]
    code = demo.main(["--folder", str(tmp_path / "demo"), "--set", *tiny, *short])
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert DISCLAIMER in page
    assert "Patient" in page
    assert "Patient P16, DICOM" not in page
    assert "Patient P15, DICOM" in page
    assert "AI DENOISED ISCL" in page
    series = read_series(tmp_path / "demo" / "denoised")
    assert series.hu.shape == (2, 96, 96)
    assert series.study_uid == read_series(tiny_patients / "patients" / "P15" / "low").study_uid
    printed = capsys.readouterr().out
    gain_db = float(printed.split("(hu-body): ")[1].split(" dB")[0])
    noisy, released, tuned = (float(hu) for hu in re.findall(r"([\d.]+) HU", printed.split("error to the truth")[1]))
    assert tuned <= released < noisy
    assert code == (0 if gain_db >= 1 else 1)
