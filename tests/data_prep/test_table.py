from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.table import SeriesRow, read_table, write_table
from iscl_monai.errors import DatalistRefusal

ROWS = [
    SeriesRow(path="/a", series_uid="1.2.840.10008", study_uid="1.2", patient="007", verdict="fit", kvp=120.0),
    SeriesRow(
        path="/b, c", series_uid="", study_uid="", patient="", verdict="gap: 1 slice", contrast=True, kernel="B\\3"
    ),
]


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_written_is_read(tmp_path: Path, which: int) -> None:
    assert read_table(write_table(ROWS, tmp_path / "series")[which]) == ROWS
    assert read_table(tmp_path) == ROWS
    assert [row.fit for row in ROWS] == [True, False]
    write_table(ROWS[:1], tmp_path / "series")
    assert read_table(tmp_path) == ROWS[:1]


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("path,patient,verdict,slices\n/scans/a,p1,fit,12\n")
    expected = replace(SeriesRow(path="/scans/a", series_uid="", study_uid="", patient="p1", verdict="fit"), slices=12)
    assert read_table(tmp_path / "own.csv") == [expected]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("path,patient\n/a,p\n", "verdict"),
        ("path,patient,verdict,slicse\n/a,p,fit,1\n", "slicse"),
        ("path,patient,verdict,slices\n/a,p,fit,many\n", "many"),
        ("path,patient,verdict\n,p,fit\n", "row 1"),
        ("path,patient,verdict,dose_fraction\n/a,p,fit,0\n", "dose_fraction=0.0; allowed: more than 0"),
        ("path,patient,verdict,dose_fraction\n/a,p,gap,1.5\n", "dose_fraction=1.5"),
        ("path,patient,verdict,dose_fraction\n/a,p,fit,nan\n", "dose_fraction=nan"),
        ("path,patient,verdict,z_lowest_mm\n/a,p,fit,-inf\n", "z_lowest_mm=-inf"),
        ("path,patient,verdict,z_highest_mm\n/a,p,fit,nan\n", "z_highest_mm=nan"),
        ("path,patient,verdict,z_lowest_mm,z_highest_mm\n/a,p,fit,3,2\n", "z_highest_mm=2"),
        ("path,patient,verdict,slices\n/a,p,fit,10000000000\n", "slices=10000000000"),
        ("path,patient,verdict,slices\n/a,p,fit,-5\n", "slices=-5"),
        ("path,patient,verdict,average\n/a,p,fit,0\n", "average=0"),
        ("", "table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(DatalistRefusal, match=word):
        read_table(tmp_path / "own.csv")
    with pytest.raises(DatalistRefusal, match="absent"):
        read_table(tmp_path / "absent.csv")
