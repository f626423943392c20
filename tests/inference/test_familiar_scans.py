"""The released weights on real scans: a head is told to be unlike their training, trunks like it are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_data import real

from iscl_monai.dicom.find import find_series
from iscl_monai.inference.familiarity import Comparison, TrainingRecord
from iscl_monai.inference.plan import plan
from iscl_monai.released import ENSEMBLE

BUNDLE = Path(__file__).parents[2] / "bundles" / "iscl"
PARTS = "train/acrin_flt_breast_001", "acrin_flt_breast_001"


def compared(scan: Path, folder: Path, count: int = 5) -> Comparison:
    """A few slices of a series with the training of the released weights."""
    (series,) = find_series(scan).series
    step = len(series.files) // count
    folder.mkdir()
    for path in sorted(series.files)[step // 2 :: step]:
        (folder / path.name).symlink_to(path)
    (one,) = plan(folder, training=TrainingRecord.of_bundle(BUNDLE, ENSEMBLE)).series
    return one.comparison


@pytest.mark.parametrize(
    ("archive", "below", "body_part"),
    [("qa/ge_head_tilt", "ge_head_tilt", "HEAD"), (PARTS[0], f"{PARTS[1]}/brain", "BREAST")],
)
def test_a_head_is_unlike_by_its_skull_whatever_its_header_says(
    archive: str, below: str, body_part: str, tmp_path: Path
) -> None:
    found = compared(real(archive) / below, tmp_path / "few")
    short = " ".join(one.short for one in found.unlike)
    assert "share of bone 1." in short
    assert "body part not seen" in short
    assert f"body part {body_part}" in " ".join(one.sentence for one in found.unlike)


@pytest.mark.parametrize(
    ("archive", "below", "noted"),
    [
        (PARTS[0], f"{PARTS[1]}/chest_150mA", "body part BREAST"),
        (PARTS[0], f"{PARTS[1]}/abdomen_pelvis_80mA", "body part BREAST"),
        ("train/rider_pilot_0109", "", ""),
    ],
)
def test_a_trunk_is_like_it_whatever_its_header_says(archive: str, below: str, noted: str, tmp_path: Path) -> None:
    found = compared(real(archive) / below, tmp_path / "few")
    assert found.unlike == ()
    assert found.unmeasured == ""
    assert [noted in note for note in found.notes] == [True] * bool(noted)
