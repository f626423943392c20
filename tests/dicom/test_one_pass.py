"""Header and pixels in one open of each file: the same answers as two opens would give, and no more memory for junk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom.derived import derivation, read
from dicom.synthetic import Series, only, setting
from opens import opens
from pydicom.dataset import FileDataset

from iscl_monai.dicom import one_pass
from iscl_monai.dicom.one_pass import OnePass
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import write_derived_series
from iscl_monai.errors import ConfigRefusal, DicomRefusal


def read_only(words: list[str]) -> int:
    """For :func:`opens`."""
    read_series(words[0], series_uid=words[1] if words[1:] else None)
    return 0


def read_and_derive(words: list[str]) -> int:
    """For :func:`opens`."""
    series = read_series(words[0])
    write_derived_series(series, series.hu, words[1], derivation=derivation())
    return 0


@pytest.mark.slow
def test_every_file_is_opened_once_to_read_and_once_to_derive(tmp_path: Path) -> None:
    Series(rows=16, columns=16, rle=True).write(tmp_path / "scan")
    (counts,) = opens(tmp_path / "scan", "dicom.test_one_pass:read_only", [tmp_path / "scan"])
    assert list(counts.values()) == [1] * 5
    (counts,) = opens(tmp_path / "scan", "dicom.test_one_pass:read_and_derive", [tmp_path / "scan", tmp_path / "out"])
    assert list(counts.values()) == [2] * 5


def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are decoded from now on."""
    paths: list[Path] = []
    decode = one_pass.decode_slice

    def decode_and_note(header: Any, content: bytes) -> Any:
        paths.append(header.path)
        return decode(header, content)

    monkeypatch.setattr(one_pass, "decode_slice", decode_and_note)
    return paths


def test_only_what_is_asked_for_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Series(description="wanted").write(tmp_path / "b")
    other = Series(description="other", seed=1).write(tmp_path / "a")
    paths = loaded(monkeypatch)
    series = read_series(tmp_path, series_uid=read(wanted[0]).SeriesInstanceUID)
    assert sorted(paths) == sorted(wanted)
    paths.clear()
    read_series(tmp_path / "a", z_range_mm=(101, 105))
    assert sorted(paths) == sorted(other[1:3])
    np.testing.assert_array_equal(series.hu, Series().hu())


def test_nothing_is_kept_of_several_series(tmp_path: Path) -> None:
    Series(description="one").write(tmp_path / "a")
    Series(description="two").write(tmp_path / "b")
    reader = OnePass()
    for path in sorted(tmp_path.rglob("slice*")):
        reader.read(path)
    assert reader._kept == {}
    with pytest.raises(DicomRefusal, match="not chosen among 2"):
        read_series(tmp_path)


def test_a_slice_that_was_not_kept_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    made = Series()
    paths = made.write(tmp_path / "scan")
    reader = OnePass(z_range_mm=(0, 1))
    slice_, _ = reader.take(reader.read(paths[0]))
    np.testing.assert_array_equal(slice_.stored, made.stored()[0])
    header = reader.read(paths[1])
    paths[1].unlink()
    with pytest.raises(DicomRefusal, match="not readable"):
        reader.take(header)


def test_headers_are_judged_before_pixels(tmp_path: Path) -> None:
    def cut(dataset: FileDataset, index: int) -> None:
        dataset.PixelData = dataset.PixelData[:-10]

    Series(change=only(1, cut)).write(tmp_path / "cut")
    with pytest.raises(DicomRefusal, match="PixelData"):
        read_series(tmp_path / "cut")
    Series(change=only(1, cut), slots=[0, 1, 2, 4, 5]).write(tmp_path / "both")
    with pytest.raises(DicomRefusal, match="ImagePositionPatient"):
        read_series(tmp_path / "both")
    with pytest.raises(ConfigRefusal):
        read_series(tmp_path / "cut", z_range_mm=(1,))  # type: ignore[arg-type]


def test_further_numbers_of_every_slice(tmp_path: Path) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        setting(XRayTubeCurrent=100 + index, SliceLocation=index / 2)(dataset, index)

    Series(slots=range(3), order=[2, 0, 1], change=change).write(tmp_path / "scan")
    numbers = read_series(tmp_path / "scan").numbers
    assert dict(numbers) == {
        "SliceLocation": (0.0, 0.5, 1.0),
        "XRayTubeCurrent": (100.0, 101.0, 102.0),
        "Exposure": (None, None, None),
    }


@pytest.mark.parametrize("change", [{"PatientName": "Somebody^Else"}, {"PixelData": None}])
def test_what_is_derived_comes_from_what_was_read(tmp_path: Path, change: dict[str, Any]) -> None:
    paths = Series(rows=16, columns=16).write(tmp_path / "scan")
    series = read_series(tmp_path / "scan")
    dataset = read(paths[2])
    pixels = dataset.pixel_array.copy()
    pixels[3, 3] += 1
    setting(**{**change, **({"PixelData": pixels.tobytes()} if "PixelData" in change else {})})(dataset, 2)
    dataset.save_as(paths[2])
    with pytest.raises(DicomRefusal, match="another one than when its pixels were read") as caught:
        write_derived_series(series, series.hu, tmp_path / "out", derivation=derivation())
    assert caught.value.file == str(paths[2])
    assert not (tmp_path / "out").exists()
