"""Images that belong together are looked at voxel by voxel at the same place, however their files count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from iscl_monai.data import Datalist, PairedPatches, SimulatedNoise, SliceDataset, cached, references
from iscl_monai.errors import DatalistRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.phantom import ensure_dataset
from iscl_monai.transforms import HUWindowd, augmentation, loading, on_axes_of

WINDOW = HUWindow(-1000.0, 1000.0)
AFFINE = np.array([[0.0, -0.7, 0.0, 90.0], [-0.8, 0.0, 0.0, 70.0], [0.0, 0.0, 3.0, -40.0], [0.0, 0.0, 0.0, 1.0]])
"""Of axial DICOM slices: rows run to the back, columns to the left."""


def image(affine: np.ndarray = AFFINE) -> MetaTensor:
    values = torch.from_numpy(np.random.default_rng(0).normal(0, 100, (1, 12, 12, 4)).astype(np.float32))
    return MetaTensor(values, affine=torch.from_numpy(affine), meta={"filename_or_obj": "noisy"})


def counted_otherwise(order: tuple[int, ...], flipped: tuple[int, ...]) -> MetaTensor:
    """The same image as another file may have it."""
    made = image()
    values, affine = np.asarray(made)[0].transpose(order), AFFINE[:, [*order, 3]].copy()
    for axis in flipped:
        values = np.flip(values, axis)
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    meta = {"filename_or_obj": "truth"}
    return MetaTensor(torch.from_numpy(values.copy()[None]), affine=torch.from_numpy(affine), meta=meta)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("flipped", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_axes_are_those_of_the_first(order: tuple[int, ...], flipped: tuple[int, ...]) -> None:
    placed = on_axes_of(image(), counted_otherwise(order, flipped))
    assert torch.equal(torch.as_tensor(placed), torch.as_tensor(image()))
    assert np.allclose(placed.affine, AFFINE)


def test_another_place_is_refused() -> None:
    elsewhere = AFFINE.copy()
    elsewhere[2, 3] += 3.0
    with pytest.raises(
        DatalistRefusal, match=r"lies 3\.0 mm away from noisy; allowed: the same places, within 0\.1 mm"
    ):
        on_axes_of(image(), image(elsewhere))


def test_images_without_a_place_stay_as_they_are() -> None:
    plain = torch.zeros(1, 4, 4, 2)
    assert on_axes_of(image(), plain) is plain


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Datalist:
    """Scans of DICOM slices, with truths in NIfTI files."""
    sizes = {"size": 64, "spacing_mm": 5.0, "slices": 2, "noisy": 1, "clean": 1, "validation": 1, "test": 1}
    return Datalist.load(ensure_dataset(tmp_path_factory.mktemp("phantom"), **sizes))


def test_a_truth_in_another_kind_of_file_lies_on_its_scan(scans: Datalist) -> None:
    (pair,) = scans.validation
    assert pair.noisy.is_dir()
    assert pair.truth is not None
    assert pair.truth.name == "truth.nii"
    for item in SliceDataset([pair], noisy=[], hu_window=WINDOW):
        body = item["body"][None] if item["body"].ndim == 2 else item["body"]
        away_hu, turned_hu = (
            (truth - item["clean_hu"])[body].std() for truth in (item["truth_hu"], item["truth_hu"].transpose(-1, -2))
        )
        assert away_hu < 60 < turned_hu


def test_a_reference_in_another_kind_of_file_lies_on_its_scan(scans: Datalist) -> None:
    """Of the twin and of simulated noise: they take the two for each other voxel by voxel."""
    load = loading("image", trust_hu=True)
    noisy, quiet = (
        cached(pool, loading=load, num_workers=0, progress=False) for pool in (scans.noisy, references(scans.noisy))
    )
    order = (2, 1, 0)
    across = [{**scan, "image": _turned(scan["image"], order)} for scan in quiet]
    noise = SimulatedNoise([*noisy], across)
    assert torch.equal(noise.fields[0]["noise"], SimulatedNoise([*noisy], [*quiet]).fields[0]["noise"])
    options = {"augmentation": augmentation("image", patch_size=16), "windowing": HUWindowd("image", WINDOW)}
    first, second = (PairedPatches([*noisy], pool, **options)[3]["clean"] for pool in (across, [*quiet]))
    assert torch.equal(first, second)


def _turned(scan: MetaTensor, order: tuple[int, ...]) -> MetaTensor:
    affine = np.asarray(scan.affine)[:, [*order, 3]]
    values = torch.as_tensor(scan)[0].permute(order).contiguous()[None]
    return MetaTensor(values.as_subclass(torch.Tensor), affine=torch.from_numpy(affine), meta={"space": "RAS"})
