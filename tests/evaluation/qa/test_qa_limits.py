"""A limits file: as shipped, as edited, and as misspelt."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest

from iscl_monai.errors import ConfigRefusal, OutputRefusal
from iscl_monai.evaluation.qa import Limits, write_limits


def test_every_limit_is_proposed_and_explained() -> None:
    proposed = asdict(Limits.proposed())
    assert set(proposed) == {field.name for field in fields(Limits)}
    assert all(value is not None for value in proposed.values())


def test_what_is_written_is_read_again_and_may_be_edited(tmp_path: Path) -> None:
    file = write_limits(tmp_path / "limits.toml")
    assert Limits.read(file) == Limits.proposed()
    text = file.read_text(encoding="utf-8").replace("f50_ratio_min = 0.9", "f50_ratio_min = 0.8")
    file.write_text(text.replace("repeat_hu_max", "# repeat_hu_max"), encoding="utf-8")
    assert Limits.read(file).f50_ratio_min == 0.8
    assert Limits.read(file).repeat_hu_max is None
    with pytest.raises(OutputRefusal, match="exists"):
        write_limits(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("f50_ration_min = 0.9", "did you mean f50_ratio_min"),
        ("zzz = 1", "take the line out"),
        ("f50_ratio_min = -1", "0 or more"),
        ("f50_ratio_min = true", "0 or more"),
        ("lowest_dose = 10", "10 % is 0.1"),
        ("f50_ratio_min = nan", "0 or more"),
        ('f50_ratio_min = "0.9"', "0 or more"),
        ("f50_ratio_min 0.9", "mend that line"),
        ("", "one limit or more"),
        ("lowest_dose = 0.1", "one limit or more"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigRefusal, match=told):
        Limits.read(file)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_bytes(b"\xef\xbb\xbff50_ratio_min = 0.8\n")
    assert Limits.read(file) == Limits(f50_ratio_min=0.8)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="--write-limits"):
        Limits.read(tmp_path / "none.toml")
