"""A derived series appears whole, flushed and read back, or not at all; its source is never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from dicom.derived import derivation, read
from dicom.synthetic import Series, setting
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from iscl_monai.dicom.compare import first_difference
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import CTSeries, read_series
from iscl_monai.dicom.write import write_and_verify, write_derived_series
from iscl_monai.durable import whole_folder
from iscl_monai.errors import DicomRefusal, ImageRefusal, OutputRefusal

MADE = Series(rows=16, columns=12, signed=True)
TESTS = Path(__file__).resolve().parents[1]

KILLED = """
import os, signal, sys
import numpy as np
from dicom.derived import derivation
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import write_derived_series

class Fatal(np.ndarray):
    def __getitem__(self, index):
        if index == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(self)[index]

series = read_series(sys.argv[1])
write_derived_series(series, series.hu.view(Fatal), sys.argv[2], derivation=derivation())
"""

REFUSED = """
import os, sys
from dicom.derived import derivation
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.write import write_derived_series
from iscl_monai.errors import OutputRefusal

series = read_series(sys.argv[1])
try:
    write_derived_series(series, series.hu, sys.argv[2], derivation=derivation())
except OutputRefusal as refusal:
    print(refusal, "; left:", os.listdir(os.path.dirname(sys.argv[2])))
"""


@pytest.fixture
def series(tmp_path: Path) -> CTSeries:
    MADE.write(tmp_path / "source")
    return read_series(tmp_path / "source")


def digests(folder: Path) -> dict[Path, str]:
    return {path: sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def nothing_left(folder: Path) -> bool:
    """Whether only the source is there, hidden folders counted."""
    return [path.name for path in folder.iterdir()] == ["source"]


# --- what is written ---------------------------------------------------------------------------------


def test_no_change_gives_every_stored_bit_back(tmp_path: Path, series: CTSeries) -> None:
    before = digests(tmp_path / "source")
    files = write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    assert files == tuple(sorted((tmp_path / "derived").iterdir()))
    for source, derived in zip(series.files, files, strict=True):
        assert read(derived).PixelData == read(source).PixelData
    assert digests(tmp_path / "source") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["derived", "source"]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    slope=st.sampled_from((1.0, 0.5, -1.0, 2.0002442)),
    signed=st.booleans(),
    rle=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_values_come_back_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, slope: float, signed: bool, rle: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("half")
    middle = Series(rows=10, columns=12, slopes=[slope] * 5, signed=signed, rle=rle, seed=seed, order=[3, 1, 4, 0, 2])
    middle.write(folder / "source")
    series = read_series(folder / "source")
    wanted = np.clip(series.hu + np.random.default_rng(seed).normal(0, 30, series.hu.shape), *reachable(slope))
    write_derived_series(series, wanted.astype(np.float32), folder / "derived", derivation=derivation())
    derived = read_series(folder / "derived")
    assert np.abs(derived.hu - wanted).max() <= abs(slope) / 2 + 1e-3
    assert derived.positions_mm == series.positions_mm
    np.testing.assert_array_equal(derived.affine_lps, series.affine_lps)


def reachable(slope: float) -> tuple[float, float]:
    """What unsigned 16 bits hold; signed ones hold all of what the synthetic slices use."""
    return (-1024, 1e4) if slope > 0 else (-1e4, -1024)


def test_padding_stays_and_none_is_made(tmp_path: Path) -> None:
    def pad(dataset: FileDataset, index: int) -> None:
        dataset.PixelPaddingValue = -1500
        pixels = dataset.pixel_array.copy()
        pixels[:2] = -1500
        pixels[5] = -1499
        dataset.PixelData = pixels.tobytes()

    Series(rows=16, columns=12, signed=True, change=pad).write(tmp_path / "source")
    series = read_series(tmp_path / "source")
    write_derived_series(series, series.hu - 1, tmp_path / "derived", derivation=derivation())
    derived = read_series(tmp_path / "derived")
    np.testing.assert_array_equal(derived.padded, series.padded)
    np.testing.assert_array_equal(derived.hu[:, :2], series.hu[:, :2])
    np.testing.assert_array_equal(derived.hu[:, 5], series.hu[:, 5])  # its neighbour is padding: it stays
    np.testing.assert_array_equal(derived.hu[:, 6:], series.hu[:, 6:] - 1)


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["shape", "NaN", "infinity", "too much", "too little"])
def test_an_array_that_does_not_fit_is_refused(tmp_path: Path, series: CTSeries, wrong: str) -> None:
    hu = series.hu.copy()
    if wrong == "shape":
        hu = hu[1:]
    else:
        values = {"NaN": np.nan, "infinity": np.inf, "too much": 32767, "too little": -40000}
        hu[3, 2, 1] = values[wrong]  # 32767 HU are 33791 stored
    with pytest.raises(ImageRefusal, match="do:") as refusal:
        write_derived_series(series, hu, tmp_path / "derived", derivation=derivation())
    if wrong == "shape":
        assert refusal.value.cure == "give the whole series, in the order read_series gave it"
    assert nothing_left(tmp_path)


def test_padding_may_hold_any_value(tmp_path: Path) -> None:
    Series(rows=16, columns=12, signed=True, change=setting(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)).write(
        tmp_path / "source"
    )
    series = read_series(tmp_path / "source")
    files = write_derived_series(series, series.hu * 0 + 9e9, tmp_path / "derived", derivation=derivation())
    assert [read(file).PixelData for file in files] == [read(file).PixelData for file in series.files]


@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_nothing_is_overwritten(tmp_path: Path, series: CTSeries, taken: str) -> None:
    place = tmp_path / "derived"
    if taken == "file":
        place.write_text("mine")
    elif taken == "folder":
        place.mkdir()
        (place / "mine").write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    before = digests(tmp_path)
    with pytest.raises(OutputRefusal, match="exists"):
        write_derived_series(series, series.hu, place, derivation=derivation())
    assert digests(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["derived", "source"]


def test_an_empty_folder_is_a_free_place(tmp_path: Path, series: CTSeries) -> None:
    (tmp_path / "derived").mkdir()
    assert len(write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())) == 5


def test_of_two_at_once_one_wins_and_the_other_is_refused(tmp_path: Path) -> None:
    with ExitStack() as slow_run:
        slow = slow_run.enter_context(whole_folder(tmp_path / "out"))
        with whole_folder(tmp_path / "out") as fast:
            assert slow.exists()  # it is locked, so no leftover
            (fast / "fast").write_text("")
        with pytest.raises(OutputRefusal, match="cannot be written"):
            slow_run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fast"]


def test_a_slice_that_cannot_be_copied_leaves_nothing(tmp_path: Path, series: CTSeries) -> None:
    raw = series.files[3].read_bytes()
    series.files[3].write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DicomRefusal) as caught:
        write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    assert caught.value.file == str(series.files[3])
    assert nothing_left(tmp_path)


def test_a_slice_that_is_gone_is_refused(tmp_path: Path, series: CTSeries) -> None:
    series.files[3].unlink()
    with pytest.raises(DicomRefusal):
        write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())


def test_a_file_that_reads_back_differently_is_refused(tmp_path: Path, series: CTSeries) -> None:
    dataset = read(series.files[0])
    write_and_verify(dataset, tmp_path / "good.dcm", source="here")
    assert first_difference(dataset, read(tmp_path / "good.dcm")) is None
    for keyword, value in [("PatientName", "Other"), ("PixelData", dataset.PixelData[:-2] + b"\1\1"), ("KVP", None)]:
        other = read(tmp_path / "good.dcm")
        setattr(other, keyword, value)
        assert keyword in str(first_difference(dataset, other))
    # pydicom writes this mixture as question marks.
    dataset.SpecificCharacterSet, dataset.InstitutionName = "ISO_IR 13", "\uff91\uff88 CT"
    with pytest.raises(OutputRefusal, match="InstitutionName"), without_warnings():
        write_and_verify(dataset, tmp_path / "bad.dcm", source="here")


# --- what happens meanwhile --------------------------------------------------------------------------


def run(script: str, *arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    if before:
        command = ["unshare", "-rm", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_kill_leaves_no_destination_and_the_next_run_removes_the_rest(tmp_path: Path, series: CTSeries) -> None:
    before = digests(tmp_path / "source")
    done = run(KILLED, tmp_path / "source", tmp_path / "derived", 3)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "derived").exists()
    (leftover,) = (path for path in tmp_path.iterdir() if path.name != "source")
    assert len(list(leftover.iterdir())) == 3
    assert leftover.name.startswith(".derived.")
    write_derived_series(series, series.hu, tmp_path / "derived", derivation=derivation())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["derived", "source"]
    assert digests(tmp_path / "source") == before


@pytest.mark.parametrize(("mount", "words"), [("size=16k", "No space left on device"), ("ro", "Read-only file system")])
def test_a_disk_that_is_full_or_cannot_be_written(tmp_path: Path, series: CTSeries, mount: str, words: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f"mount -t tmpfs -o {mount} tmpfs {disk}"
    if not shutil.which("unshare") or run("", before=mounted).returncode != 0:
        pytest.skip("no mount namespaces here")
    done = run(REFUSED, tmp_path / "source", disk / "derived", before=mounted)
    assert words in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("do: make room or give another place ; left: []")


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path, series: CTSeries) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputRefusal, match="cannot be written"):
        write_derived_series(series, series.hu, tmp_path / "file" / "derived", derivation=derivation())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source"]
