"""Voxels in another scale or another way round are refused; noise and bad denoising are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from iscl_monai.data import ScanPair
from iscl_monai.errors import ImageRefusal
from iscl_monai.evaluation.benchmark.score import loaded
from iscl_monai.evaluation.pairs import denoised_pairs, read_pair
from iscl_monai.evaluation.plausible import check_same_image, check_same_units
from iscl_monai.quality.protocol import TRUTH_REAL_ANATOMY

Volume = npt.NDArray[np.float32]


def body(side: int = 96, slices: int = 7) -> Volume:
    """A body with one lung, bone at the back, and an upper end; nothing is symmetric. HU (slice, row, column)."""
    rows, columns = np.mgrid[:side, :side] / side
    inside = np.hypot((rows - 0.5) / 0.42, (columns - 0.48) / 0.46) < 1
    image = np.where(inside, 40.0, -1000.0)
    volume = np.repeat(image[None], slices, 0)
    for index in range(slices):
        volume[index][np.hypot(rows - 0.4, columns - 0.3) < 0.03 + 0.025 * index] = -850
        volume[index][np.hypot(rows - 0.78, columns - 0.55) < 0.07] = 700
    return volume.astype(np.float32)


def noisy(sigma_hu: float, volume: Volume | None = None, seed: int = 3) -> Volume:
    volume = body() if volume is None else volume
    return (volume + np.random.default_rng(seed).normal(0, sigma_hu, volume.shape)).astype(np.float32)


def check(test: Volume, reference: Volume) -> None:
    check_same_image(test, reference, names=("test", "reference"))


WRONG: dict[str, tuple[Callable[[Volume], Volume], str]] = {
    "thousandths": (lambda hu: hu / 1000, "changes by 0.001"),
    "tenths": (lambda hu: hu / 10, "changes by 0.1"),
    "stored": (lambda hu: hu + 1024, "lies .1024 HU"),
    "negated": (lambda hu: -hu, "changes by -"),
    "windowed": (lambda hu: np.clip((hu + 160) / 400, 0, 1), "changes by"),
    "columns": (lambda hu: hu[:, :, ::-1], "better with columns flipped"),
    "rows": (lambda hu: hu[:, ::-1], "better with rows flipped"),
    "slices": (lambda hu: hu[::-1], "better with slices flipped"),
    "transposed": (lambda hu: hu.transpose(0, 2, 1), "better transposed"),
    "turned": (lambda hu: hu[:, ::-1, ::-1], "better with rows flipped, with columns flipped"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("sigma_hu", [0, 20])
def test_another_scale_or_orientation_is_refused(wrong: str, sigma_hu: float) -> None:
    change, message = WRONG[wrong]
    with pytest.raises(ImageRefusal, match=message):
        check(change(noisy(sigma_hu)), noisy(5))


@pytest.mark.parametrize("side", [97, 200, 256])
def test_sizes_that_blocks_do_not_fill(side: int) -> None:
    """200 is three blocks of 66: a mirror of the thinned image would not be the thinned mirror."""
    volume = body(side, 30)
    check(noisy(30, volume), volume)
    with pytest.raises(ImageRefusal, match="slices flipped"):
        check(noisy(30, volume)[::-1], volume)
    with pytest.raises(ImageRefusal, match="columns flipped"):
        check(volume[:, :, ::-1], volume)


def blurred(volume: Volume, reach: int) -> Volume:
    for axis in (1, 2):
        volume = np.mean([np.roll(volume, step, axis) for step in range(-reach, reach + 1)], 0).astype(np.float32)
    return volume


@pytest.mark.parametrize(
    "test",
    [
        noisy(100),
        noisy(300),
        blurred(body(), 8),
        body() + np.float32(60),
        np.clip(noisy(100), -1024, 300),
        (0.7 * body()).astype(np.float32),
    ],
    ids=["100 HU", "300 HU", "blurred", "shifted", "clipped", "flattened"],
)
def test_noise_and_bad_denoising_are_not_refused(test: Volume) -> None:
    check(test, noisy(10))


def test_nothing_can_be_told_of_volumes_without_structure() -> None:
    water = np.zeros((2, 8, 8), np.float32)
    check(water, water)
    check(water, body(8, 2))  # a constant: as bad as a denoiser can be
    check(noisy(20, water), noisy(20, water, seed=4))
    for level_hu in (-1000, -2000):
        air = np.full((3, 64, 64), level_hu, np.float32)
        check(noisy(60, air), noisy(20, air, seed=4))


def test_an_offset_is_told_even_without_structure() -> None:
    water = noisy(20, np.zeros((2, 64, 64), np.float32))
    with pytest.raises(ImageRefusal, match="1024 HU"):
        check(water + np.float32(1024), water)


def saved(path: Path, volume: Volume) -> Path:
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return path


def test_every_way_to_read_a_pair_asks(tmp_path: Path) -> None:
    full = saved(tmp_path / "full.nii", noisy(5))
    good = saved(tmp_path / "good.nii", noisy(20))
    flipped = saved(tmp_path / "flipped.nii", noisy(20)[:, :, ::-1])
    thousandths = saved(tmp_path / "thousandths.nii", noisy(20) / 1000)
    read_pair(good, full, good)
    for bad in (flipped, thousandths):
        with pytest.raises(ImageRefusal, match=bad.name):
            read_pair(bad, full)
        with pytest.raises(ImageRefusal, match=bad.name):
            read_pair(good, full, bad)
        pair = ScanPair(noisy=bad, clean=full, patient="a")
        with pytest.raises(ImageRefusal, match=bad.name):
            next(denoised_pairs([pair], lambda _, noisy: noisy.hu))
        with pytest.raises(ImageRefusal, match=bad.name):
            next(iter(loaded([pair])))


UNPROVEN_TRUTH = "no air near -1000 HU"


def truth_beside(folder: Path, truth_hu: Volume) -> ScanPair:
    """A pair whose scans are proven Hounsfield units, and whose truth has to be taken by its looks."""
    full, low, truth = (
        saved(folder / f"{name}.nii", hu) for name, hu in (("full", noisy(5)), ("low", noisy(20)), ("truth", truth_hu))
    )
    return ScanPair(noisy=low, clean=full, patient="a", truth=truth, truth_protocol=TRUTH_REAL_ANATOMY.name)


def test_the_reference_vouches_for_a_truth_that_looks_like_no_patient(tmp_path: Path) -> None:
    truth_hu = body().clip(-940)  # no air near -1000: alone it would not be believed
    pair = truth_beside(tmp_path, truth_hu)
    with pytest.raises(ImageRefusal, match=UNPROVEN_TRUTH):
        read_pair(tmp_path / "truth.nii", tmp_path / "truth.nii")
    read = next(iter(loaded([pair])))
    assert read.truth_hu is not None
    assert np.array_equal(read.truth_hu, truth_hu)
    evaluated = next(denoised_pairs([pair], lambda _, noisy: noisy.hu))
    assert evaluated.truth is not None
    assert np.array_equal(evaluated.truth.hu, truth_hu)


def tissue_changed(change: Callable[[Volume], Volume]) -> Callable[[Volume], Volume]:
    return lambda hu: np.where(hu > -300, change(hu), hu).astype(np.float32)


def every_other(offset_hu: float) -> Callable[[Volume], Volume]:
    return lambda hu: hu + np.float32(offset_hu) * np.where(np.arange(len(hu)) % 2, 1, -1)[:, None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: hu * np.float32(0.8), "changes by 0.8"),
        (lambda hu: hu * np.float32(1.3), "changes by 1.3"),
        (lambda hu: hu + np.float32(60), "lies .60 HU"),
        (lambda hu: hu - np.float32(60), "lies -60 HU"),
        (every_other(150), "lies .150 HU"),
        (tissue_changed(lambda hu: hu * np.float32(0.5)), "lies -20 HU|changes by 0.5"),
        (tissue_changed(lambda hu: 0 * hu), "lies -40 HU"),
        (tissue_changed(lambda hu: hu + np.float32(60)), "lies .60 HU"),
        (lambda hu: 0 * hu, "a mask or a picture"),
        (lambda hu: 0 * hu - 1000, "lies -1040 HU"),
        (lambda hu: hu[:, ::-1], "rows flipped"),
    ],
)
def test_a_truth_in_other_units_than_its_reference_is_refused(
    change: Callable[[Volume], Volume], message: str, tmp_path: Path
) -> None:
    pair = truth_beside(tmp_path, change(body()))
    with pytest.raises(ImageRefusal, match=message):
        next(iter(loaded([pair])))
    with pytest.raises(ImageRefusal, match=message):
        next(denoised_pairs([pair], lambda _, noisy: noisy.hu))


@pytest.mark.parametrize(
    ("truth", "reference"),
    [
        (body(), noisy(100)),
        (body(), np.clip(noisy(200), -1024, 3071)),
        (body(), np.where(body() < -950, -1024, noisy(10)).astype(np.float32)),
        (np.where(body() < -950, -2000, body()).astype(np.float32), noisy(10)),
        (blurred(body(), 1), noisy(10)),
    ],
    ids=["100 HU of noise", "200 HU, clipped", "masked air", "padding", "blurred"],
)
def test_a_truth_beside_noise_masks_and_padding_is_accepted(truth: Volume, reference: Volume) -> None:
    check_same_units(truth, reference, names=("truth", "reference"))
