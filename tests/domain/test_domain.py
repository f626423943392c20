"""Domains: what each reads, in which unit, and what training may do with it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from real_data import real

from iscl_monai.data.pairs import references
from iscl_monai.data.scan import PoolScan
from iscl_monai.domain import CT, DOMAINS, MICROGRAPH, MR, domain_named
from iscl_monai.domain.mr import window_of
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.magnitude import read_magnitude
from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.transforms import augmentation


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Sections 3, 5, 6 of one grey level each."""
    for number in (3, 5, 6):
        tifffile.imwrite(tmp_path / f"z{number}.tif", np.full((32, 40), 10 * number, np.uint8))
    return tmp_path


def test_a_domain_that_there_is_not() -> None:
    assert domain_named("mr") is MR
    with pytest.raises(ConfigRefusal, match="domain 'pet'; allowed: ct, micrograph, mr"):
        domain_named("pet")


def test_rules_of_ct_are_off_elsewhere() -> None:
    assert CT.required == {}
    for domain in (MICROGRAPH, MR):
        for setting in ("keep_mean_px", "zero_mean_weight", "simulated_share", "lesions"):
            assert domain.required[setting] == 0
        assert not domain.quarter_turns
        assert domain.protocol.region == "frame"


def test_sections_are_read_by_their_numbers(stack: Path) -> None:
    item = {"image": str(stack), "sections": (6, 3)}
    image = MICROGRAPH.loader("image")(item)["image"]
    assert image.shape == (1, 32, 40, 2)
    assert image[0, 0, 0].tolist() == [60.0, 30.0]
    assert MICROGRAPH.estimate_shape(item) == (32, 40, 2)
    with pytest.raises(DatalistRefusal, match="without section 4"):
        MICROGRAPH.loader("image")({"image": str(stack), "sections": (4,)})


def test_a_grey_range_makes_8_bits_of_16(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[500, 755] * 16] * 32, np.uint16))
    image = MICROGRAPH.loader("image")({"image": str(tmp_path / "a.tif"), "grey_range": (500, 755)})["image"]
    assert image[0, 0, :2, 0].tolist() == [0.0, 255.0]
    with pytest.raises(ConfigRefusal, match="grey_range in the datalist"):
        MICROGRAPH.loader("image")({"image": str(tmp_path / "a.tif")})


def test_noisy_and_clean_mr_have_one_scale() -> None:
    path = real("mri/mri") / "mri" / "clinical_3T" / "fig6B_T2w.nii"
    scan = read_magnitude(path)
    rng = np.random.default_rng(0)
    noise = 0.05 * scan.window * (rng.standard_normal(scan.values.shape) + 1j * rng.standard_normal(scan.values.shape))
    noisy = np.abs(scan.values + noise).astype(np.float32)
    steady = window_of(type(scan)(path, noisy, scan.affine_ras, scan.positions_mm, scan.spacing_mm, 1.0))
    assert steady == pytest.approx(window_of(scan), rel=0.005)
    assert np.percentile(noisy, 99.5) > 1.015 * scan.window  # that of single voxels is not


def test_mr_of_one_item_is_in_units_of_the_first(tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(2, 300, (40, 30, 2)).astype(np.float32)
    for name, factor in (("a", 1), ("b", 3)):
        nib.save(nib.Nifti1Image(factor * values, np.eye(4)), tmp_path / f"{name}.nii")
    a, b = str(tmp_path / "a.nii"), str(tmp_path / "b.nii")
    both = MR.loader(("noisy", "clean"))({"noisy": a, "clean": b})
    torch.testing.assert_close(both["clean"].as_tensor(), 3 * both["noisy"].as_tensor())
    alone = MR.loader("image")({"image": b})["image"]
    torch.testing.assert_close(alone.as_tensor(), both["noisy"].as_tensor())
    reference = MR.loader("image")({"image": b, "scaled_like": a})["image"]
    torch.testing.assert_close(reference.as_tensor(), both["clean"].as_tensor())


def test_a_reference_is_in_units_of_its_scan_among_several_series(tmp_path: Path) -> None:
    """Noisy and clean in one folder, as a PACS gives a study: both are chosen by SeriesInstanceUID."""
    for number, path in enumerate(sorted((real("mri/mri") / "mri" / "t1w_dicom").iterdir())[8:10]):
        one = pydicom.dcmread(path)
        for uid, factor in (("1.2.1", 1), ("1.2.2", 2)):
            one.SeriesInstanceUID, one.SOPInstanceUID = uid, f"{uid}.{number}"
            one.set_pixel_data(factor * one.pixel_array, one.PhotometricInterpretation, one.BitsStored)
            one.save_as(tmp_path / f"{uid}.{number}.dcm")
    scan = PoolScan(image=tmp_path, series_uid="1.2.1", reference=tmp_path, reference_series_uid="1.2.2", patient="P")
    (stand_in,) = references([scan])
    seen, clean = (MR.loader("image")(one.item())["image"].as_tensor() for one in (scan, stand_in))
    torch.testing.assert_close(clean, 2 * seen)


@pytest.mark.parametrize("name", DOMAINS)
def test_turns_that_are_allowed(name: str) -> None:
    """A patch that is bright on its left: never bright on top where quarter turns are not allowed."""
    image = torch.zeros(1, 32, 32, 1)
    image[:, :, :16] = 1
    chain = augmentation("image", patch_size=32, domain=DOMAINS[name])
    seen = set()
    for seed in range(24):
        chain.set_random_state(seed=seed)
        patch = chain({"image": image, "image_body": np.ones((4, 4, 1), np.float32)})["image"][0]
        edges = {"l": patch[:, 0], "r": patch[:, -1], "t": patch[0], "b": patch[-1]}
        seen.add("".join(side for side, edge in edges.items() if edge.all()))
    assert seen == ({"l", "r", "t", "b"} if name == "ct" else {"l", "r"})


# --- the oracle ------------------------------------------------------------------------------------------------


class Oracle(Generator):
    """Answers with a given image, whatever it is asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__(width=1, downsamplings=0, residual_blocks=0)
        self.answer = answer

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        return self.answer


@pytest.mark.parametrize("name", ["micrograph", "mr"])
def test_the_clean_image_as_answer_loses_nothing(name: str) -> None:
    """All that stands around the network (window, change, clipping) lets a perfect answer pass; CT's rules do not."""
    domain = DOMAINS[name]
    window = HUWindow(domain.required["hu_lower"], domain.required["hu_upper"])
    rng = np.random.default_rng(0)
    clean = torch.from_numpy(rng.integers(0, 255, (1, 1, 64, 64)).astype(np.float32))
    clouds = torch.nn.functional.interpolate(torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)), 64)
    noisy = (clean * (1 + 0.2 * clouds)).clamp(window.lower, window.upper)
    psnr_db = {}
    for keep_mean_px in (domain.required["keep_mean_px"], 9):
        network = DenoisingNetwork(
            denoiser=Oracle(window.to_network(clean)),
            noise_extractor=NoiseExtractor(width=1, layers=2),
            hu_window=window,
            mode="generator",
            domain=name,
            keep_mean_px=keep_mean_px,
        ).eval()
        answer = window.apply_change(noisy, network(window.to_network(noisy)))
        psnr_db[keep_mean_px] = fidelity(answer[0], clean[0], protocol=domain.protocol).mean().psnr_db
    assert psnr_db[0] > 90
    assert psnr_db[9] < 35
