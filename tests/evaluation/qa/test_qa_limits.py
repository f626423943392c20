"""A limits file: as shipped, as edited, and as misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from iscl_monai.errors import ConfigRefusal, OutputRefusal
from iscl_monai.evaluation.qa import Limits, write_limits


def test_every_limit_is_proposed_and_explained() -> None:
    proposed = Limits.proposed()
    assert all(value is not None for value in proposed.numbers().values())
    assert set(proposed.reasons) == set(proposed.numbers()) - {"lowest_dose"}
    assert all(len(reason.reason) > 15 for reason in proposed.reasons.values())
    assert {"physics", "standard", "wish"} <= {reason.kind for reason in proposed.reasons.values()}


def test_what_is_written_is_read_again_and_may_be_edited(tmp_path: Path) -> None:
    file = write_limits(tmp_path / "limits.toml")
    assert Limits.read(file) == Limits.proposed()
    text = file.read_text(encoding="utf-8").replace("limit = 0.93", "limit = 0.8")
    file.write_text(text.partition("[repeat_hu_max]")[0], encoding="utf-8")
    assert Limits.read(file).border_steepness_min == 0.8
    assert Limits.read(file).repeat_hu_max is None
    with pytest.raises(OutputRefusal, match="exists"):
        write_limits(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f50_ration_min = 0.9", "did you mean f50_ratio_min"),
        ("zzz = 1", "take the line out"),
        ("f50_ratio_min = -1", "0 or more"),
        ("f50_ratio_min = true", "0 or more"),
        ("lowest_dose = 10", "10 % is 0.1"),
        ("f50_ratio_min = nan", "0 or more"),
        ('f50_ratio_min = "0.9"', "0 or more"),
        ("f50_ratio_min 0.9", "mend that line"),
        ("[f50_ratio_min]\nlimits = 0.9", "did you mean limit"),
        ("[f50_ratio_min]\nkind = 'wish'", "a line limit = NUMBER"),
        ("[f50_ratio_min]\nlimit = 0.9\nkind = 'whim'", "physics, standard, published, wish"),
        ("[f50_ratio_min]\nlimit = 0.9\nkind = 'whim'", r"limits.toml: \[f50_ratio_min\]: a limit of kind 'whim'"),
        ("", "one limit or more"),
        ("lowest_dose = 0.1", "one limit or more"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigRefusal, match=message):
        Limits.read(file)


def test_a_plain_number_keeps_its_kind_and_a_section_may_change_it(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("f50_ratio_min = 0.8\n[repeat_hu_max]\nlimit = 1\nkind = 'wish'\n", encoding="utf-8")
    limits = Limits.read(file)
    assert limits.reasons["f50_ratio_min"] == Limits.proposed().reasons["f50_ratio_min"]
    assert limits.reasons["repeat_hu_max"].kind == "wish"


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_bytes(b"\xef\xbb\xbff50_ratio_min = 0.8\n")
    assert Limits.read(file) == Limits(f50_ratio_min=0.8)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefusal, match="--write-limits"):
        Limits.read(tmp_path / "none.toml")
