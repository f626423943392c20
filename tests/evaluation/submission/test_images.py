"""Denoised scans of any method: found by source series, patient or name; checked before they are measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from dicom.synthetic import Series
from evaluation.test_plausible import body

from iscl_monai.data import ScanPair
from iscl_monai.errors import ConfigRefusal, ImageRefusal, Refusal
from iscl_monai.evaluation.scans import read_scan
from iscl_monai.evaluation.submission import DenoisedFolder, ReadScans, SubmittedImages, check_not_reference
from iscl_monai.inference import denoise_volume

Volume = npt.NDArray[np.float32]
PATIENTS = ("a", "b", "c", "c")
"""Of the four pairs: the last has two scans."""


def truth(index: int) -> Volume:
    """Each patient another body: the lung elsewhere."""
    return np.roll(body(), 9 * index, axis=1)


def noisy(index: int) -> Volume:
    return np.asarray(truth(index) + np.random.default_rng(index).normal(0, 40, truth(index).shape), np.float32)


def denoised(index: int) -> Volume:
    return (noisy(index) + truth(index)) / 2


def save(path: Path, hu: npt.NDArray[Any]) -> Path:
    """HU (slice, row, column) as NIfTI, rows towards the back, columns to the left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0).astype(np.float32), np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> list[ScanPair]:
    """``scans/low0.nii.gz`` to ``low3``, and their references."""
    return [
        ScanPair(
            noisy=save(tmp_path / "scans" / f"low{index}.nii.gz", noisy(index)),
            clean=save(tmp_path / "scans" / f"full{index}.nii.gz", truth(index)),
            patient=patient,
        )
        for index, patient in enumerate(PATIENTS)
    ]


def folder_of(place: Path, names: tuple[str, ...]) -> Path:
    for index, name in enumerate(names):
        save(place / name, denoised(index))
    return place


BY_SCAN = tuple(f"low{index}.nii.gz" for index in range(4))


def read(folder: Path, pairs: list[ScanPair]) -> list[Volume]:
    reading = ReadScans(DenoisedFolder.find(folder, pairs))
    return [reading(pair, read_scan(pair.noisy)) for pair in pairs]


@pytest.mark.parametrize(
    "names",
    [
        BY_SCAN,
        ("a.nii.gz", "b.nii", "low2.nii.gz", "low3.nii.gz"),
        ("a/low0.nii.gz", "b/anything.nii.gz", "c/low2.nii.gz", "c/low3.nii"),
        ("out/a/x.nii.gz", "out/b/x.nii.gz", "out/c/low2/x.nii.gz", "out/c/low3/x.nii.gz"),
    ],
    ids=["by scan", "by patient", "in folders of patients", "in folders of scans"],
)
def test_names_of_patients_and_scans_find_them(pairs: list[ScanPair], tmp_path: Path, names: tuple[str, ...]) -> None:
    found = read(folder_of(tmp_path / "theirs", names), pairs)
    for index, hu in enumerate(found):
        np.testing.assert_allclose(hu, denoised(index), atol=1e-3)


def test_a_series_is_found_by_the_source_it_names(tmp_path: Path) -> None:
    """As ``iscl-monai denoise`` writes it, whatever its folder is called; or by its own UID, where that was kept."""
    (tmp_path / "theirs").mkdir()
    listed = []
    for index in range(3):
        series = Series(slots=range(3), rows=32, columns=32)
        series.write(tmp_path / f"low{index}")
        listed.append(ScanPair(noisy=tmp_path / f"low{index}", clean=tmp_path / "none", patient="same"))
    for index, name in ((1, "x"), (0, "y"), (2, "z")):
        shutil.copytree(tmp_path / f"low{index}", tmp_path / "theirs" / name)
        if name == "z":
            continue
        for file in (tmp_path / "theirs" / name).iterdir():
            dataset = pydicom.dcmread(file)
            source = pydicom.Dataset()
            source.SeriesInstanceUID, dataset.SeriesInstanceUID = dataset.SeriesInstanceUID, f"1.2.3.{index + 1}"
            dataset.ReferencedSeriesSequence = [source]
            dataset.save_as(file)
    scans = DenoisedFolder.find(tmp_path / "theirs", listed).scans
    assert [one.path.name for one in scans] == ["y", "x", "z"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (BY_SCAN[:3], "no denoised scan of patient c, noisy scan low3.nii.gz"),
        ((*BY_SCAN[:2], "c.nii.gz", "x.nii.gz"), "no denoised scan of patient c, noisy scan low2.nii.gz"),
        ((*BY_SCAN, "nobody.nii.gz"), r"nobody\.nii\.gz belongs to no pair; allowed: scans of a, b, c"),
        (("a/one.nii.gz", "a/two.nii.gz", *BY_SCAN[1:]), "2 denoised scans of patient a"),
    ],
    ids=["missing", "which of two", "foreign", "twice"],
)
def test_what_is_missing_or_foreign_is_named(
    pairs: list[ScanPair], tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "theirs"
    for name in names:
        save(folder / name, denoised(0))
    with pytest.raises(ConfigRefusal, match=message):
        DenoisedFolder.find(folder, pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: hu[::-1], "with slices flipped"),
        (lambda hu: hu[:, ::-1], "with rows flipped"),
        (lambda hu: hu[1:], "has shape"),
        (lambda hu: hu + 1024, "subtract 1024"),
        (lambda hu: hu / 1000, "before any windowing, scaling"),
        (lambda hu: np.where(hu > 600, np.nan, hu), "NaN or infinite"),
    ],
    ids=["order", "flipped", "slices", "stored values", "normalised", "nan"],
)
def test_what_is_no_image_of_the_noisy_scan_is_refused(
    pairs: list[ScanPair], tmp_path: Path, change: Callable[[Volume], Volume], message: str
) -> None:
    folder = folder_of(tmp_path / "theirs", BY_SCAN)
    save(folder / "low1.nii.gz", change(denoised(1)))
    with pytest.raises(Refusal, match=message):
        read(folder, pairs)


def test_swapped_patients_are_refused(pairs: list[ScanPair], tmp_path: Path) -> None:
    """Their slices lie at the same places: only the voxels tell whose image it is."""
    folder = folder_of(tmp_path / "theirs", BY_SCAN)
    save(folder / "low1.nii.gz", denoised(0))
    save(folder / "low0.nii.gz", denoised(1))
    with pytest.raises(ImageRefusal, match=r"the denoised scan of \w is .* from the noisy scan of \w"):
        read(folder, pairs)


def test_the_reference_is_refused(pairs: list[ScanPair]) -> None:
    check_not_reference(denoised(0), truth(0), pairs[0])
    with pytest.raises(ImageRefusal, match="is its reference"):
        check_not_reference(truth(0), truth(0), pairs[0])


def test_as_a_denoiser_it_knows_its_own_slices_and_no_others(pairs: list[ScanPair], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "theirs", BY_SCAN)
    images = SubmittedImages(DenoisedFolder.find(folder, pairs), pairs, name="theirs")
    np.testing.assert_allclose(denoise_volume(noisy(2), images), denoised(2), atol=1e-3)
    with pytest.raises(ImageRefusal, match="a folder cannot denoise new images"):
        images.change_hu(noisy(2)[0] + 1)
    before = images.parameters
    save(folder / "low3.nii.gz", denoised(3) + 1)
    assert SubmittedImages(DenoisedFolder.find(folder, pairs), pairs, name="theirs").parameters != before
