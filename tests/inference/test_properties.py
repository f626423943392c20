"""What holds for every series: nothing lost, nothing touched that may not be, the same whatever the circumstances."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from dicom.synthetic import Series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.write import write_derived_series
from iscl_monai.inference import Denoiser, denoise_series, denoise_volume

FEW = settings(max_examples=15, deadline=None)
NOTHING = Derivation.by_network(model="nothing", version="1", weights_digest="0" * 64)
AIR_HU = -980.0
RENAMED = {"headers", "digests", "series_uid", "description"}


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def anatomy(slices: int, rows: int, columns: int, seed: int = 0) -> npt.NDArray[np.int16]:
    """Tissue, bone, lung and air with noise, HU."""
    chance = np.random.default_rng(seed)
    coarse = chance.choice([-1010, -1000, -850, -100, 40, 990], size=(slices, rows // 12 + 1, columns // 12 + 1))
    image = np.kron(coarse, np.ones((1, 12, 12)))[:, :rows, :columns]
    return np.rint(image + 30 * chance.standard_normal(image.shape)).clip(-1024, 3000).astype(np.int16)


def scan(hu: npt.NDArray[np.int16], **options: object) -> Series:
    """A series of these Hounsfield units, unsigned with the usual intercept."""

    def paint(dataset: FileDataset, index: int) -> None:
        dataset.PixelData = (hu[index] + 1024).astype(np.uint16).tobytes()

    count, rows, columns = hu.shape
    return Series(slots=range(count), rows=rows, columns=columns, change=paint, **options)  # type: ignore[arg-type]


def results(folder: Path) -> dict[tuple[float, ...] | None, tuple[str, str, bytes]]:
    """Series, instance and pixels, by the place in the patient."""
    headers = [read_header(path) for path in sorted(folder.glob("*.dcm"))]
    return {
        header.position: (header.series_uid, header.sop_instance_uid, load_slice(header)[0].stored.tobytes())
        for header in headers
    }


def slices(folder: Path) -> list[StoredSlice]:
    return [load_slice(read_header(path))[0] for path in sorted(folder.iterdir()) if path.is_file()]


# --- read(write(series)) == series ------------------------------------------------------------------


@st.composite
def orientations(draw: st.DrawFn) -> tuple[float, ...]:
    """Any pair of orthogonal unit vectors."""
    turned, _ = np.linalg.qr(np.reshape([draw(st.floats(-1, 1, width=16)) for _ in range(6)], (3, 2)))
    axes = turned.T if np.isfinite(turned).all() else np.eye(3)[:2]
    return tuple(np.round(axes, 9).ravel().tolist())


@FEW
@given(
    orientation=orientations(),
    slopes=st.lists(st.sampled_from([1.0, 0.5, 2.25, -1.0, 0.37, 1e-3]), min_size=3, max_size=3),
    signed=st.booleans(),
    intercept=st.sampled_from([-1024.0, 0.0, -8192.5]),
    padding=st.one_of(st.none(), st.tuples(st.integers(0, 4095), st.integers(0, 4095))),
)
def test_reading_what_was_written_unchanged_gives_the_same_series(
    orientation: tuple[float, ...],
    slopes: list[float],
    signed: bool,
    intercept: float,
    padding: tuple[int, int] | None,
) -> None:
    def pad(dataset: FileDataset, index: int) -> None:
        for tag, value in zip((0x00280120, 0x00280121), padding or (), strict=False):
            dataset[tag] = DataElement(tag, "SS" if signed else "US", value)

    made = Series(
        slots=range(3), orientation=orientation, slopes=slopes, signed=signed, intercept=intercept, change=pad
    )
    with place() as folder:
        made.write(folder / "source")
        before = read_series(folder / "source")
        write_derived_series(before, before.hu, folder / "output", derivation=NOTHING)
        after = read_series(folder / "output")
        stored = [[load_slice(read_header(path))[0].stored for path in one.files] for one in (before, after)]
    np.testing.assert_array_equal(*stored)
    for name in {field.name for field in fields(before)} - RENAMED:
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name), err_msg=name)


# --- the same whatever the circumstances ------------------------------------------------------------


@FEW
@given(data=st.data(), order=st.permutations(range(4)), named=st.booleans())
def test_names_folders_and_order_of_the_files_change_nothing(
    denoiser: Denoiser, data: st.DataObject, order: list[int], named: bool
) -> None:
    made = scan(anatomy(4, 20, 24), series_uid="1.2.3" if named else "")
    with place() as folder:
        paths = made.write(folder / "one")
        denoise_series(folder / "one", folder / "first", denoiser=denoiser, workers=1)
        for index, path in zip(order, paths, strict=True):
            # Without a series UID, the folder is what tells a series.
            below = data.draw(st.sampled_from(["", "a", "b/c"])) if named else ""
            target = folder / "other" / below / f"{data.draw(st.sampled_from('xyz'))}{index}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        denoise_series(folder / "other", folder / "second", denoiser=denoiser, workers=1)
        assert results(folder / "first") == results(folder / "second")
        assert len(results(folder / "first")) == 4


@FEW
@given(count=st.integers(1, 4), rows=st.integers(16, 40), columns=st.integers(16, 40), data=st.data())
def test_neighbours_change_nothing(
    denoiser: Denoiser, count: int, rows: int, columns: int, data: st.DataObject
) -> None:
    volume_hu = anatomy(count, rows, columns, seed=count)
    index = data.draw(st.integers(0, count - 1))
    whole = denoise_volume(volume_hu, denoiser)
    np.testing.assert_array_equal(whole[index], denoise_volume(volume_hu[index : index + 1], denoiser)[0])
    assert whole.dtype == np.float32
    assert whole.shape == volume_hu.shape


def test_the_number_of_threads_changes_nothing(denoiser: Denoiser, tmp_path: Path) -> None:
    hu = anatomy(5, 90, 70)
    scan(hu).write(tmp_path / "source")
    found = []
    before = torch.get_num_threads()
    for number, (workers, threads) in enumerate([(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (3, 3)]):
        torch.set_num_threads(threads)
        try:
            denoise_series(tmp_path / "source", tmp_path / str(number), denoiser=denoiser, workers=workers)
            assert torch.get_num_threads() == threads
            volume_hu = denoise_volume(hu, denoiser, workers=workers)
        finally:
            torch.set_num_threads(before)
        found.append((results(tmp_path / str(number)), volume_hu.tobytes()))
    assert found == [found[0]] * len(found)


IN_A_PROCESS = """
import sys, numpy
from iscl_monai.inference import Denoiser, denoise_volume
volume = numpy.load(sys.argv[2])
sys.stdout.buffer.write(denoise_volume(volume, Denoiser.from_bundle(sys.argv[1], device="cpu")).tobytes())
"""


def test_the_environment_of_the_process_changes_nothing(bundle: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    volume_hu = anatomy(3, 90, 70)
    np.save(tmp_path / "volume.npy", volume_hu)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS, str(bundle), str(tmp_path / "volume.npy")],
        env=os.environ | {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"},  # here it is 2 at most, see conftest.py
        capture_output=True,
        check=True,
    )
    assert sha256(done.stdout).digest() == sha256(denoise_volume(volume_hu, denoiser).tobytes()).digest()


def test_a_repeat_gives_the_same_and_the_source_is_not_touched(denoiser: Denoiser, tmp_path: Path) -> None:
    scan(anatomy(3, 30, 20)).write(tmp_path / "source")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "source").iterdir()}
    for name in "ab":
        denoise_series(tmp_path / "source", tmp_path / name, denoiser=denoiser)
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert set((tmp_path / "source").iterdir()) == set(before)


# --- what may not be touched ------------------------------------------------------------------------


def local_mean_of(image: npt.NDArray[np.float64], side: int = 9) -> npt.NDArray[np.float64]:
    """Twice the mean over the squares around each pixel, of those pixels that there are."""
    for _ in range(2):
        padded = np.pad(image, side // 2, constant_values=np.nan)
        image = np.nanmean(np.lib.stride_tricks.sliding_window_view(padded, (side, side)), axis=(2, 3))
    return image


@FEW
@given(rows=st.integers(24, 60), columns=st.integers(24, 60), seed=st.integers(0, 99))
def test_air_and_what_the_window_cuts_off_come_back_bit_for_bit(
    denoiser: Denoiser, rows: int, columns: int, seed: int
) -> None:
    volume_hu = anatomy(1, rows, columns, seed).astype(np.float32)
    volume_hu[0, : rows // 2, : columns // 2] = np.random.default_rng(seed).normal(-1000, 25, (rows // 2, columns // 2))
    denoised_hu = denoise_volume(volume_hu, denoiser)
    seen_hu = np.pad(volume_hu[0], [(0, -rows % 4), (0, -columns % 4)], mode="symmetric").clip(-1000, 1000)
    air = local_mean_of(seen_hu.astype(np.float64))[:rows, :columns] < AIR_HU - 0.01
    cut = (volume_hu[0] < -1000) | (volume_hu[0] > 1000)
    assert (air & ~cut).any()
    np.testing.assert_array_equal(denoised_hu[0][air | cut], volume_hu[0][air | cut])
    assert (denoised_hu[0] != volume_hu[0]).mean() > 0.1


@FEW
@given(
    ends=st.tuples(st.integers(-1040, -960), st.integers(-3, 40)),
    signed=st.booleans(),
    slope=st.sampled_from([1.0, 0.5, 3.0, -1.0]),
)
def test_padding_stays_and_no_pixel_becomes_padding(
    denoiser: Denoiser, ends: tuple[int, int], signed: bool, slope: float
) -> None:
    """Even where the values of padding are those of air, which its neighbours have."""
    intercept = -2000.0 if slope > 0 else 3000.0
    first, last = (round((end - intercept) / slope) for end in (ends[0], ends[0] + ends[1]))
    plain = Series(slots=[0], rows=32, columns=32, signed=signed, slopes=[slope], intercept=intercept)

    def pad(dataset: FileDataset, index: int) -> None:
        stored = plain.stored()[0]
        stored[:6] = np.random.default_rng(index).integers(min(first, last), max(first, last) + 1, (6, 32))
        dataset.PixelData = stored.astype("<i2").tobytes()
        for tag, value in ((0x00280120, first), (0x00280121, last)):
            dataset[tag] = DataElement(tag, "SS" if signed else "US", value)

    made = replace(plain, change=pad)
    with place() as folder:
        made.write(folder / "source")
        denoise_series(folder / "source", folder / "output", denoiser=denoiser, workers=1)
        (before,), (after,) = slices(folder / "source"), slices(folder / "output")
    assert before.padded is not None
    np.testing.assert_array_equal(after.padded, before.padded)
    np.testing.assert_array_equal(after.stored[before.padded], before.stored[before.padded])
    assert (after.stored != before.stored).any()


# --- strength ---------------------------------------------------------------------------------------


def test_strength_0_gives_the_input_bit_for_bit(bundle: Path, tmp_path: Path) -> None:
    off = Denoiser.from_bundle(bundle, device="cpu", strength=0)
    volume_hu = np.random.default_rng(0).normal(0, 700, (2, 20, 24)).astype(np.float32)
    assert denoise_volume(volume_hu, off).tobytes() == volume_hu.tobytes()
    made = Series(rows=20, columns=24, slopes=[1, 0.37, -1, 1e-3, 2])
    made.write(tmp_path / "source")
    denoise_series(tmp_path / "source", tmp_path / "output", denoiser=off)
    np.testing.assert_array_equal([one.stored for one in slices(tmp_path / "output")], made.stored())


@FEW
@given(strength=st.floats(0, 1, width=32), seed=st.integers(0, 9))
def test_strength_between_is_a_straight_line(denoiser: Denoiser, bundle: Path, strength: float, seed: int) -> None:
    hu = anatomy(1, 32, 40, seed)
    some = Denoiser.from_bundle(bundle, device="cpu", strength=strength)
    full_hu = denoiser.change_hu(hu[0].astype(np.float32))
    np.testing.assert_allclose(some.change_hu(hu[0].astype(np.float32)), strength * full_hu, rtol=1e-6, atol=1e-6)
    with place() as folder:
        scan(hu).write(folder / "source")
        denoise_series(folder / "source", folder / "output", denoiser=some, workers=1)
        stored_hu = slices(folder / "output")[0].hu()
    assert np.abs(stored_hu - (hu[0] + strength * full_hu)).max() <= 0.5 + 1e-3
