"""Each source file is opened once to be read and once to be copied, and what changes in between is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from opens import opens
from test_dose_archive import row
from test_dose_series import headers, simulate, source

from data_prep.dose import series as module
from data_prep.table import write_table
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.errors import DicomRefusal

SLICES = 7


def test_every_source_file_is_opened_at_most_twice(tmp_path: Path) -> None:
    scan = source(tmp_path / "scan", slices=SLICES)
    table, _ = write_table([row(scan, 0)], tmp_path / "table")
    words = ["dose", scan, tmp_path / "low", "--fraction", 0.25]
    of_table = ["dose", table, tmp_path / "made", "--fraction", 0.25, "--thickness", 3]
    plain, averaged, nifti, of_pair, again = opens(
        scan,
        "data_prep.__main__:main",
        [*words, "--report", tmp_path / "low.html"],
        ["dose", scan, tmp_path / "clean", "--fraction", 1, "--average", 3],
        ["dose", scan, tmp_path / "low.nii.gz", "--fraction", 0.25, "--average", 2],
        of_table,
        of_table,
    )
    assert list(plain.values()) == [2] * SLICES
    # Of the averages only the middle slices are copied; the last slice belongs to no group, and is read all the same.
    assert sorted(averaged.values()) == [1] * (SLICES - 2) + [2] * 2
    assert list(nifti.values()) == [1] * SLICES
    assert of_pair == averaged  # two series, made side by side
    assert list(again.values()) == [1] * SLICES  # nothing has changed
    assert len(list((tmp_path / "made").glob("*/*.dcm"))) == 4


def test_a_series_among_others_is_opened_no_more_often(tmp_path: Path) -> None:
    for number in range(3):
        source(tmp_path / "scans" / str(number), slices=3, series_uid=f"1.2.{number}")
    words = ["dose", tmp_path / "scans", tmp_path / "low", "--fraction", 0.5, "--series-uid", "1.2.1"]
    (counts,) = opens(tmp_path / "scans", "data_prep.__main__:main", words)
    assert {name: 2 if name.startswith("1/") else 1 for name in counts} == counts
    assert len(counts) == 9


def change_pixels(dataset: pydicom.FileDataset) -> None:
    pixels = dataset.pixel_array.copy()
    pixels[32, 32] += 1
    dataset.PixelData = pixels.tobytes()


def change_name(dataset: pydicom.FileDataset) -> None:
    dataset.PatientName = "Somebody^Else"


@pytest.mark.parametrize("change", [change_pixels, change_name])
def test_a_file_that_changes_after_it_was_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pydicom.FileDataset], None]
) -> None:
    scan = source(tmp_path / "scan")
    load, changed = module.load_slice, sorted(scan.iterdir())[2]

    def change_before(header: Any, **options: Any) -> tuple[StoredSlice, pydicom.FileDataset]:
        if header.path == changed:
            dataset = pydicom.dcmread(changed)
            change(dataset)
            dataset.save_as(changed)
        return load(header, **options)

    monkeypatch.setattr(module, "load_slice", change_before)
    with pytest.raises(DicomRefusal, match="another one than when its pixels were read") as caught:
        simulate(scan, tmp_path / "low", fraction=0.5)
    assert caught.value.file == str(changed)
    assert not (tmp_path / "low").exists()
    monkeypatch.undo()
    assert len(headers(simulate(scan, tmp_path / "low", fraction=0.5))) == 6  # of what is there now
