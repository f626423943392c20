"""From a change in Hounsfield units to stored integers: nearest, in range, and padding neither lost nor made."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom.derived import write_source
from dicom.synthetic import Change, Series, setting
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.dicom.headers import read_header
from iscl_monai.dicom.pixels import load_slice
from iscl_monai.dicom.series import read_series
from iscl_monai.dicom.stored import StoredSlice
from iscl_monai.dicom.write import write_derived_series
from iscl_monai.errors import DicomRefusal

SLOPES = (1.0, -1.0, 2.0, 0.5, -0.25, 0.1, 2.0002442, 32.1216)


@dataclass(frozen=True)
class Padding:
    """Lowest and highest stored value that means padding."""

    lowest: int
    highest: int


def stored_slice(
    values: npt.ArrayLike, *, slope: float = 1.0, bits: int = 12, signed: bool = False, padding: Padding | None = None
) -> StoredSlice:
    stored = np.array(values, np.int16 if signed else np.uint16)[None]
    limits = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    padded = (stored >= padding.lowest) & (stored <= padding.highest) if padding else None
    return StoredSlice(
        stored=stored,
        padded=padded if padded is not None and padded.any() else None,
        padding_range=(padding.lowest, padding.highest) if padding else None,
        stored_range=limits,
        slope=slope,
        intercept=-1024.0,
    )


def changed(slice_: StoredSlice, change_hu: npt.ArrayLike) -> list[int]:
    after = slice_.changed(np.array(change_hu, np.float64)[None])
    assert after.dtype == slice_.stored.dtype
    return list(map(int, after[0]))


@pytest.mark.parametrize(
    ("slope", "change_hu", "steps"),
    [
        (1.0, [0.4, 0.6, 1.4, 1.6], [0, 1, 1, 2]),
        (1.0, [-0.4, -0.6, -1.4, -1.6], [0, -1, -1, -2]),
        (2.0, [0.9, 1.1, -0.9, -1.1], [0, 1, 0, -1]),
        (0.5, [0.2, 0.3, -0.2, -0.3], [0, 1, 0, -1]),
        (-1.0, [0.4, 0.6, -0.4, -0.6], [0, -1, 0, 1]),
        (-0.5, [0.2, 0.3, -0.2, -0.3], [0, -1, 0, 1]),
        (32.1216, [16.0, 16.1, -16.0, -16.1], [0, 1, 0, -1]),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_changes_are_rounded_to_the_nearest_step(
    slope: float, change_hu: list[float], steps: list[int], signed: bool
) -> None:
    slice_ = stored_slice([100] * 4, slope=slope, signed=signed)
    assert changed(slice_, change_hu) == [100 + step for step in steps]


CASES = st.fixed_dictionaries(
    {
        "slope": st.sampled_from(SLOPES),
        "bits": st.sampled_from((12, 16)),
        "signed": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
        "scale_hu": st.sampled_from((0.0, 0.3, 40.0, 5000.0, 1e7)),
        "padding": st.sampled_from(("none", "lowest", "highest", "middle", "range")),
    }
)


@settings(max_examples=200, deadline=None)
@given(case=CASES)
def test_whatever_the_encoding(case: dict[str, float]) -> None:
    random = np.random.default_rng(int(case["seed"]))
    bits, signed, slope = int(case["bits"]), bool(case["signed"]), float(case["slope"])
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    padding = {
        "none": None,
        "lowest": Padding(lowest, lowest),
        "highest": Padding(highest, highest),
        "middle": Padding(lowest + 500, lowest + 500),
        "range": Padding(lowest, lowest + 9),
    }[str(case["padding"])]
    # Near the padding and both ends, where it is hard, and anywhere.
    near = [lowest, highest, lowest + 500] + [value + random.integers(-12, 13) for value in (lowest, highest)] * 8
    values = np.clip([*near, *random.integers(lowest, highest, 40)], lowest, highest)
    slice_ = stored_slice(values, slope=slope, bits=bits, signed=signed, padding=padding)
    change_hu = random.normal(0, 1, len(values)) * case["scale_hu"]
    for before, after, change in zip(map(int, values), changed(slice_, change_hu), change_hu, strict=True):
        check(before, after, float(change), slope, (lowest, highest), padding)


def check(
    before: int, after: int, change_hu: float, slope: float, limits: tuple[int, int], padding: Padding | None
) -> None:
    """An oracle in exact fractions."""
    lowest, highest = limits
    assert lowest <= after <= highest
    if padding and padding.lowest <= before <= padding.highest:
        assert after == before
        return
    if change_hu == 0:
        assert after == before
        return
    exact = before + Fraction(change_hu) / Fraction(slope)
    wanted = min(max(exact, Fraction(lowest)), Fraction(highest))
    if padding and padding.lowest - Fraction(1, 2) <= wanted <= padding.highest + Fraction(1, 2):
        assert after in (padding.lowest - 1, padding.highest + 1, round(wanted))
        assert not padding.lowest <= after <= padding.highest
        assert (after < padding.lowest) == (before < padding.lowest)
        return
    assert abs(after - wanted) <= Fraction(1, 2) + Fraction(1, 10**6)


def test_no_pixel_becomes_padding_and_none_jumps_across_it() -> None:
    one_value = stored_slice([499, 501, 500], padding=Padding(500, 500))
    assert changed(one_value, [1.2, -1.2, 7.0]) == [499, 501, 500]
    above_all = stored_slice([4000, 4095], padding=Padding(4095, 4095))
    assert changed(above_all, [900.0, -900.0]) == [4094, 4095]
    below_all = stored_slice([100, -2048], signed=True, padding=Padding(-2048, -2048))
    assert changed(below_all, [-9000.0, 9000.0]) == [-2047, -2048]
    undeclared = stored_slice([0, 3], padding=None)
    assert changed(undeclared, [5.0, -9.0]) == [5, 0]


def test_values_stop_at_the_ends_of_the_stored_bits() -> None:
    assert changed(stored_slice([10, 4090]), [-99.0, 99.0]) == [0, 4095]
    assert changed(stored_slice([-2040, 2040], signed=True), [-99.0, 99.0]) == [-2048, 2047]
    assert changed(stored_slice([10, 65530], bits=16), [-1e12, 1e12]) == [0, 65535]


@pytest.mark.parametrize(
    ("signed", "values", "expected"), [(False, (0, 4095), (0, 65535)), (True, (-2000, 2000), (-32768, 32767))]
)
def test_a_file_tells_its_range_and_padding(
    tmp_path: Path, signed: bool, values: tuple[int, int], expected: tuple[int, int]
) -> None:
    path = write_source(
        tmp_path, setting(PixelPaddingValue=values[0], PixelPaddingRangeLimit=values[0] + 5), signed=signed
    )
    slice_, dataset = load_slice(read_header(path))
    assert slice_.stored_range == expected
    assert slice_.padding_range == (values[0], values[0] + 5)
    inside = (slice_.stored >= values[0]) & (slice_.stored <= values[0] + 5)
    assert slice_.padded is None if not inside.any() else np.array_equal(slice_.padded, inside)
    assert dataset.PixelRepresentation == int(signed)


def padded_source(folder: Path, hu: npt.NDArray[np.integer], padding: int) -> StoredSlice:
    """A file whose stored values are HU, and whose padding value is one of them."""
    rows, columns = hu.shape
    path = write_source(
        folder,
        setting(
            PixelPaddingValue=padding,
            PixelData=hu.astype("<i2").tobytes(),
            Rows=rows,
            Columns=columns,
            RescaleIntercept=0,
        ),
        signed=True,
    )
    return load_slice(read_header(path))[0]


def tissue(seed: int = 0, side: int = 64) -> npt.NDArray[np.integer]:
    return np.rint(np.random.default_rng(seed).normal(5, 20, (side, side))).astype(np.int16)


@pytest.mark.parametrize("padding", [0, 40, -100, 300, -700])
def test_scattered_pixels_of_a_value_that_tissue_has_are_no_padding(tmp_path: Path, padding: int) -> None:
    hu = tissue() + padding
    assert (hu == padding).sum() > 20
    slice_ = padded_source(tmp_path, hu.astype(np.int16), padding)
    assert slice_.padded is None
    assert slice_.padding_range is None
    after = slice_.changed(np.full(hu.shape, -1.0))
    np.testing.assert_array_equal(after, hu - 1)


def test_a_region_in_the_middle_is_no_padding_even_of_one_value(tmp_path: Path) -> None:
    hu = tissue()
    hu[20:40, 20:40] = 0
    assert padded_source(tmp_path, hu, 0).padded is None


@pytest.mark.parametrize("padding", [0, -1000, -2000])
def test_what_lies_around_the_image_is_padding_whatever_its_value(tmp_path: Path, padding: int) -> None:
    hu = tissue()
    rows, columns = np.mgrid[:64, :64] - 31.5
    around = np.hypot(rows, columns) > 31
    hu[around] = padding
    slice_ = padded_source(tmp_path, hu, padding)
    assert slice_.padded is not None
    assert slice_.padded[around].all()
    assert (slice_.padded & ~around).sum() <= 8  # touching it
    after = slice_.changed(np.full(hu.shape, 7.0))
    np.testing.assert_array_equal(after[around], padding)
    if padding == 0:
        assert (after == hu + 7)[~slice_.padded].all()


def test_scattered_pixels_of_a_value_beside_the_body_stay_padding(tmp_path: Path) -> None:
    """Below air nothing else has such a value, so it needs no region."""
    hu = tissue()
    hu[::9, ::9] = -2000
    slice_ = padded_source(tmp_path, hu, -2000)
    np.testing.assert_array_equal(slice_.padded, hu == -2000)
    assert slice_.padding_range == (-2000, -2000)


# --- bits that hold no pixel --------------------------------------------------------------------------


def overlay_in_bit(place: int) -> Change:
    """An overlay in an unused bit of the pixels, as scanners of the nineties wrote it."""

    def change(dataset: FileDataset, index: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.uint16) & 0xFFF
        dataset.PixelData = (pixels | (np.arange(len(pixels)) % 3 == 0) << place).astype(np.uint16).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.add_new(0x60000010, "US", dataset.Rows)
        dataset.add_new(0x60000011, "US", dataset.Columns)
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", place)

    return change


@pytest.mark.parametrize("place", [12, 13, 14, 15])
def test_a_declared_overlay_in_a_high_bit_is_masked(tmp_path: Path, place: int) -> None:
    made = Series(change=overlay_in_bit(place))
    made.write(tmp_path / "in")
    np.testing.assert_array_equal(read_series(tmp_path / "in").hu, made.hu())


def test_an_overlay_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    def silent(dataset: FileDataset, index: int) -> None:
        overlay_in_bit(13)(dataset, index)
        del dataset[0x60000102]

    Series(change=silent).write(tmp_path / "in")
    with pytest.raises(DicomRefusal, match="BitsStored"):
        read_series(tmp_path / "in")


@pytest.mark.parametrize("below", [1, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_pixels_at_the_high_end_of_their_word_are_read(tmp_path: Path, below: int, signed: bool) -> None:
    """PS3.5 8.1.1: HighBit tells where they are; the derived image has them at the low end."""

    def shifted(dataset: FileDataset, index: int) -> None:
        kind = np.int16 if signed else np.uint16
        pixels = np.frombuffer(dataset.PixelData, kind) & 0x7FF
        dataset.PixelData = (pixels << below).astype(kind).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11 + below

    made = Series(signed=signed, change=shifted)
    made.write(tmp_path / "in")
    series = read_series(tmp_path / "in")
    np.testing.assert_array_equal(series.hu, (made.stored() & 0x7FF) - 1024.0)
    nothing = Derivation.by_network(model="nothing", version="1", weights_digest="0" * 64)
    write_derived_series(series, series.hu, tmp_path / "out", derivation=nothing)
    np.testing.assert_array_equal(read_series(tmp_path / "out").hu, series.hu)
    assert pydicom.dcmread(tmp_path / "out" / "00001.dcm").HighBit == 11
