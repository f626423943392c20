"""The chains from files to network: exact where they may be, the same for every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from dicom.synthetic import Series
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from iscl_monai.dicom.monai_io import load_ct
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.transforms import (
    BodyFractiond,
    CompactHUd,
    HUWindowd,
    RandBodyPatchd,
    augmentation,
    loading,
    preprocessing,
)

WINDOW = HUWindow(-1000, 1000)


# --- window ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-2000, 4000), min_size=1, max_size=30), st.floats(-1, 1, width=32))
def test_the_way_back_undoes_the_way_there(values: list[int], change: float) -> None:
    """Unchanged by the network: the original HU. Changed: by that many HU inside the window, else not."""
    original = torch.tensor(values, dtype=torch.float32)
    windowed = HUWindowd("image", WINDOW)({"image": original})
    assert torch.equal(windowed["image_hu"], original)
    assert windowed["image"].abs().max() <= 1
    assert torch.equal(WINDOW.apply_change(windowed["image_hu"], windowed["image"]), original)
    changed_hu = WINDOW.apply_change(windowed["image_hu"], windowed["image"] + change) - original
    inside = original.abs() <= 1000
    assert torch.equal(changed_hu[~inside], torch.zeros((~inside).sum()))
    torch.testing.assert_close(
        changed_hu[inside], torch.full_like(changed_hu[inside], change * 1000), rtol=0, atol=2e-3
    )


def test_windowing_leaves_its_input_alone() -> None:
    item = {"image": torch.tensor([500], dtype=torch.int16), "patient": "A"}
    windowed = HUWindowd("image", WINDOW)(item)
    assert windowed["image"].tolist() == [0.5]
    assert windowed["patient"] == "A"
    assert item["image"].dtype == torch.int16
    assert "image_hu" not in item


# --- what is cached ----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[-1024.0, 0.0, 3071.0], [-32768.0, 32767.0]])
def test_whole_hu_become_int16_and_lose_nothing(values: list[float]) -> None:
    compact = CompactHUd("image")({"image": torch.tensor(values)})["image"]
    assert compact.dtype == torch.int16
    assert compact.tolist() == values


@pytest.mark.parametrize("values", [[0.5, 1.0], [40000.0], [-32769.0]])
def test_other_hu_stay_as_they_are(values: list[float]) -> None:
    image = torch.tensor(values)
    compact = CompactHUd("image")({"image": image})["image"]
    assert compact.dtype == torch.float32
    assert torch.equal(compact, image)


def patient(side: int = 96, slices: int = 2) -> torch.Tensor:
    """A warm square of a quarter of the width, away from the middle, in air: (1, row, column, slice) HU."""
    image = torch.full((1, side, side, slices), -1000.0)
    quarter = side // 4
    image[:, quarter : 2 * quarter, quarter : 2 * quarter] = 40
    return image


def test_the_body_map_counts_pixels() -> None:
    image = patient()
    image[:, 24:28, 24:48] = -1000  # the upper half of three squares of 8x8
    body = BodyFractiond("image")({"image": image})["image_body"]
    assert body.shape == (12, 12, 2)
    assert body.dtype == np.float32
    expected = np.zeros((12, 12))
    expected[3:6, 3:6] = 1
    expected[3, 3:6] = 0.5
    assert np.allclose(body[:, 4], expected[:, 4, None], atol=0.01)
    assert np.allclose(body, expected[..., None], atol=0.3)  # corners are rounded by 8 pixels, as tables are thin
    assert body[0].max() == 0


# --- random patches ----------------------------------------------------------------------------------


def shares(least_body: float, tries: int, count: int = 60) -> list[float]:
    """Shares of body pixels in patches of 16."""
    item = BodyFractiond("image")({"image": patient()})
    cut = RandBodyPatchd("image", patch_size=16, least_body=least_body, tries=tries)
    cut.set_random_state(seed=0)
    return [float((cut(item)["image"] > -500).float().mean()) for _ in range(count)]


def test_patches_come_from_the_body() -> None:
    """One try is drawing evenly: the body covers a sixteenth. With forty most is body, but skin stays."""
    evenly, weighted = shares(0.5, 1), shares(0.5, 40)
    assert np.mean(evenly) < 0.2
    assert np.mean(weighted) > 0.6
    assert min(weighted) < 0.9
    assert np.mean(np.array(weighted) >= 0.5) > 0.8


def test_a_scan_without_body_still_gives_patches() -> None:
    item = BodyFractiond("image")({"image": torch.full((1, 32, 32, 1), -1000.0)})
    assert RandBodyPatchd("image", patch_size=16)(item)["image"].shape == (1, 16, 16)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (23, 16), (39, 57)])
def test_every_place_is_inside(rows: int, columns: int) -> None:
    """Sizes that the squares of the body map do not divide, up to exactly the patch."""
    numbers = torch.arange(rows * columns, dtype=torch.float32).reshape(1, rows, columns, 1)
    item = BodyFractiond("image")({"image": numbers})
    cut = RandBodyPatchd("image", patch_size=16)
    cut.set_random_state(seed=0)
    for _ in range(20):
        patch = cut(item)["image"][0]
        assert patch.shape == (16, 16)
        assert torch.equal(patch - patch[0, 0], numbers[0, :16, :16, 0] - numbers[0, 0, 0, 0])


def test_every_second_patch_is_of_coarser_pixels() -> None:
    """Noise of independent pixels falls with the area that is averaged, and a gradient rises with its side."""
    source = torch.Generator().manual_seed(0)
    ramp = torch.arange(200.0).repeat(200, 1)[None, ..., None]
    item = BodyFractiond("image")({"image": ramp + torch.randn(ramp.shape, generator=source)})
    cut = RandBodyPatchd("image", patch_size=32, coarsest=2.5)
    cut.set_random_state(seed=1)
    patches = [cut(item)["image"][0] for _ in range(200)]
    assert {tuple(patch.shape) for patch in patches} == {(32, 32)}
    steps = np.array([float((patch[:, -1] - patch[:, 0]).mean()) / 31 for patch in patches])
    noise = np.array([float(patch.diff(dim=0).std()) / 2**0.5 for patch in patches])
    assert 0.4 < (steps < 1.03).mean() < 0.6
    assert not ((steps > 1.03) & (steps < 1.25)).any()
    assert 2.2 < steps.max() < 2.55
    assert noise[steps < 1.03].min() > 0.85
    assert noise[steps > 2].max() < 0.6


def test_coarser_patches_are_no_larger_than_the_scan() -> None:
    item = BodyFractiond("image")({"image": torch.zeros(1, 40, 57, 1)})
    cut = RandBodyPatchd("image", patch_size=32, coarsest=4.0)
    assert all(cut(item)["image"].shape == (1, 32, 32) for _ in range(20))


def test_a_scan_smaller_than_the_patch_is_refused() -> None:
    item = BodyFractiond("image")({"image": patient(40), "image_path": "folder/scan.nii"})
    with pytest.raises(ImageRefusal, match=r"folder/scan\.nii: slices of 40x40 pixels.*64"):
        RandBodyPatchd("image", patch_size=64)(item)


def test_a_patch_too_small_for_the_networks_is_refused() -> None:
    with pytest.raises(ConfigRefusal, match="patch_size=8"):
        RandBodyPatchd("image", patch_size=8)


def test_augmentation_is_deterministic_given_its_seed() -> None:
    item = BodyFractiond("image")({"image": patient() + torch.arange(96.0)[None, :, None, None]})
    chain = augmentation("image", patch_size=16)

    def drawn(seed: int) -> list[torch.Tensor]:
        chain.set_random_state(seed=seed)
        return [torch.as_tensor(chain(item)["image"]) for _ in range(4)]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_all_eight_orientations_are_drawn() -> None:
    """A scan of exactly one patch: only flips and turns are left to draw."""
    image = torch.arange(256.0).reshape(1, 16, 16, 1)
    item = {"image": image, "image_body": np.ones((2, 2, 1), dtype=np.float32)}
    chain = augmentation("image", patch_size=16)
    chain.set_random_state(seed=0)
    seen = {tuple(torch.as_tensor(chain(item)["image"]).flatten().tolist()) for _ in range(200)}
    square = image[0, ..., 0]
    eight = {
        tuple(torch.rot90(view, turns).flatten().tolist()) for view in (square, square.flip(0)) for turns in range(4)
    }
    assert seen == eight


# --- whole chains ------------------------------------------------------------------------------------


@pytest.fixture
def both_kinds(tmp_path: Path) -> tuple[Path, Path]:
    """One scan as a DICOM folder and as NIfTI, rows first in both, values beyond the window among them."""
    made = Series(rows=12, columns=10, order=[3, 0, 4, 1, 2])
    made.write(tmp_path / "dicom")
    hu, meta = load_ct(tmp_path / "dicom", geometry="volume")
    nibabel.Nifti1Image(hu.astype(np.int16), meta["affine"]).to_filename(tmp_path / "scan.nii.gz")
    assert hu.max() > 1000
    return tmp_path / "dicom", tmp_path / "scan.nii.gz"


@pytest.mark.parametrize("geometry", ["slices", "volume"])
def test_dicom_and_nifti_give_the_same_network_input(both_kinds: tuple[Path, Path], geometry: str) -> None:
    chain = preprocessing("image", WINDOW, geometry=geometry, trust_hu=True)
    dicom, nifti = (chain({"image": str(path)}) for path in both_kinds)
    for item in (dicom, nifti):
        assert isinstance(item["image"], MetaTensor)
        assert item["image"].shape == (1, 12, 10, 5)
        assert item["image"].dtype == torch.float32
    for key in ("image", "image_hu"):
        assert torch.equal(dicom[key].as_tensor(), nifti[key].as_tensor())
    torch.testing.assert_close(dicom["image"].affine, nifti["image"].affine, rtol=0, atol=1e-4)


def test_there_and_back_is_the_file(both_kinds: tuple[Path, Path]) -> None:
    for path in both_kinds:
        item: dict[str, Any] = preprocessing("image", WINDOW, trust_hu=True)({"image": str(path)})
        restored = WINDOW.apply_change(item["image_hu"], item["image"].clone())
        assert np.array_equal(restored[0].numpy(), load_ct(path, trust_hu=True)[0])


def test_training_loads_the_same_hu(both_kinds: tuple[Path, Path]) -> None:
    dicom, nifti = (loading("image", trust_hu=True)({"image": str(path)}) for path in both_kinds)
    assert dicom["image"].dtype == nifti["image"].dtype == torch.int16
    assert torch.equal(dicom["image"].as_tensor(), nifti["image"].as_tensor())
    assert np.array_equal(dicom["image"][0].numpy(), load_ct(both_kinds[0])[0])
    assert dicom["image_body"].shape == (1, 1, 5)


def test_an_uneven_series_trains_but_is_no_volume(tmp_path: Path) -> None:
    Series(slots=(0, 1, 3), rows=12, columns=10).write(tmp_path)
    assert loading("image")({"image": str(tmp_path)})["image"].shape == (1, 12, 10, 3)
    with pytest.raises(RuntimeError) as caught:
        preprocessing("image", WINDOW, geometry="volume")({"image": str(tmp_path)})
    assert "allowed" in str(caught.value.__cause__)
