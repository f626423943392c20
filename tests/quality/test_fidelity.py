from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from iscl_monai.errors import ImageRefusal, Refusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import Fidelity, as_volume, body_mask, fidelity, same_protocol
from iscl_monai.quality.protocol import HU_BODY, HU_FRAME, Protocol

ROWS, COLUMNS = np.mgrid[:96, :112]


def chest() -> np.ndarray:
    """One slice: air, a body ellipse with two lungs and a vessel, a thin table touching its back."""
    image = np.full(ROWS.shape, -1000.0, dtype=np.float32)
    image[ellipse(44, 56, 32, 44)] = 40
    image[ellipse(42, 38, 16, 12)] = -850
    image[ellipse(42, 74, 16, 12)] = -850
    image[ellipse(42, 38, 3, 3)] = 60
    image[76:78, 4:108] = 100
    return image


def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
    return ((ROWS - row) / height) ** 2 + ((COLUMNS - column) / width) ** 2 <= 1


def noisy(image: np.ndarray, sigma_hu: float = 30) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma_hu, image.shape)
    return (image + noise).astype(np.float32)


def test_body_equals_scikit_image_averaged_over_the_body() -> None:
    reference, test = chest(), noisy(chest())
    inside = body_mask(reference)[0]
    shown = [image.clip(-1024, 3071).astype(float) + 1024 for image in (reference, test)]
    _, ssim = structural_similarity(*shown, data_range=2000, full=True)
    mse = np.mean((shown[0] - shown[1])[inside] ** 2)

    measured = fidelity(test, reference, protocol=HU_BODY)

    assert measured.ssim[0] == pytest.approx(ssim[inside].mean(), abs=2e-5)
    assert measured.psnr_db[0] == pytest.approx(10 * np.log10(2000**2 / mse), abs=1e-4)
    assert measured.rmse_hu[0] == pytest.approx(np.sqrt(mse), rel=1e-5)


def test_gaussian_kernel_equals_scikit_image() -> None:
    protocol = dataclasses.replace(HU_FRAME, name="GAUSSIAN", ssim_kernel="gaussian", ssim_kernel_size=11)
    reference, test = chest(), noisy(chest())
    shown = [image.clip(-1024, 3071).astype(float) + 1024 for image in (reference, test)]
    expected = structural_similarity(
        *shown, data_range=2000, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert fidelity(test, reference, protocol=protocol).ssim[0] == pytest.approx(expected, abs=2e-5)


def test_without_a_window_nothing_is_clipped() -> None:
    protocol = Protocol(name="RAW", window=None, data_range_hu=4000, region="frame")
    reference = np.full((16, 16), 5000.0)
    measured = fidelity(reference + 40, reference, protocol=protocol)
    assert measured.psnr_db[0] == pytest.approx(40)
    assert measured.mean_shift_hu[0] == pytest.approx(40)


def test_what_lies_outside_the_body_does_not_count() -> None:
    reference = chest()
    test = reference.copy()
    test[~body_mask(reference)[0]] = -2000
    measured = fidelity(test, reference).mean()
    assert measured.rmse_hu == 0
    assert measured.psnr_db == np.inf


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-170, 300).filter(lambda shift: abs(shift) > 0.01))  # lungs at -850 stay above -1024
def test_a_constant_shift_is_told_in_hu(shift: float) -> None:
    measured = fidelity(chest() + np.float32(shift), chest()).mean()
    assert measured.mean_shift_hu == pytest.approx(shift, abs=1e-3)
    assert measured.rmse_hu == pytest.approx(abs(shift), abs=1e-3)


def test_mean_is_of_the_slices_and_leaves_out_those_without_a_body() -> None:
    air = np.full_like(chest(), -1000)
    reference = np.stack([chest(), air, chest()])
    test = np.stack([noisy(chest(), 10), air, noisy(chest(), 40)])

    measured = fidelity(test, reference)
    mean = measured.mean()

    assert np.isnan(measured.psnr_db).tolist() == [False, True, False]
    assert mean.slices == 2
    assert mean.psnr_db == pytest.approx((measured.psnr_db[0] + measured.psnr_db[2]) / 2)
    assert mean.ssim == pytest.approx((measured.ssim[0] + measured.ssim[2]) / 2)
    alone = fidelity(test[2], reference[2]).mean()
    assert alone.rmse_hu == measured.rmse_hu[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16])
def test_torch_and_numpy_agree(dtype: torch.dtype) -> None:
    reference = torch.from_numpy(chest()).to(dtype)
    test = torch.from_numpy(noisy(chest()).round()).to(dtype)
    from_torch = fidelity(test, reference).mean()
    from_numpy = fidelity(test.numpy().astype(">f4"), reference.numpy()).mean()
    for quantity in ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu"):
        assert getattr(from_torch, quantity) == getattr(from_numpy, quantity)


def test_gain_is_this_minus_baseline() -> None:
    better, worse = (fidelity(noisy(chest(), sigma), chest()).mean() for sigma in (10, 20))
    gain = better.gain_over(worse)
    assert gain["psnr_db"] == pytest.approx(6.02, abs=0.01)
    assert gain["rmse_hu"] == pytest.approx(better.rmse_hu - worse.rmse_hu)
    assert gain["ssim"] > 0


def test_two_protocols_are_not_compared() -> None:
    body = fidelity(noisy(chest()), chest()).mean()
    frame = fidelity(noisy(chest()), chest(), protocol=HU_FRAME).mean()
    with pytest.raises(Refusal, match=f"2 protocols: {HU_BODY.identity}, {HU_FRAME.identity}"):
        body.gain_over(frame)


def test_two_protocols_of_one_name_are_not_compared() -> None:
    forged = dataclasses.replace(HU_BODY, data_range_hu=4096)
    with pytest.raises(Refusal, match=r"\(data_range_hu 2000\), hu-body:\w{8} \(data_range_hu 4096\)"):
        same_protocol(fidelity(noisy(chest()), chest()), fidelity(noisy(chest()), chest(), protocol=forged))


def test_no_results_have_no_protocol() -> None:
    with pytest.raises(Refusal, match="none"):
        same_protocol()


def test_means_over_other_slices_are_not_compared() -> None:
    one = fidelity(noisy(chest()), chest()).mean()
    two = fidelity(np.stack([noisy(chest())] * 2), np.stack([chest()] * 2)).mean()
    with pytest.raises(Refusal, match="1 and 2 slices"):
        one.gain_over(two)


def test_body_is_inside_the_skin_with_lungs_without_table() -> None:
    mask = body_mask(chest())
    assert mask.shape == (1, *ROWS.shape)
    assert mask[0][ellipse(42, 38, 16, 12)].all()
    assert not mask[0][77, 4:20].any()
    body = ellipse(44, 56, 32, 44)
    assert (mask[0] ^ body).sum() < 0.02 * body.sum()


def test_body_keeps_both_legs_and_drops_crumbs() -> None:
    image = np.full(ROWS.shape, -1000.0)
    legs = ellipse(48, 28, 25, 20) | ellipse(48, 82, 25, 20)
    image[legs] = 40
    crumb = ellipse(8, 56, 5, 5)
    image[crumb] = 40
    mask = body_mask(image)[0]
    assert (mask ^ legs).sum() < 0.03 * legs.sum()
    assert not mask[crumb].any()


def test_body_cut_by_the_field_of_view_reaches_its_border() -> None:
    assert body_mask(np.full((32, 32), 40.0)).all()


def test_a_phantom_of_noise_in_air_has_no_body() -> None:
    assert not body_mask(noisy(np.full(ROWS.shape, -1000.0), 60)).any()


@pytest.mark.parametrize(
    ("test", "reference", "message"),
    [
        (chest(), chest()[:-1], "of shape"),
        (np.where(ROWS == 3, np.nan, chest()), chest(), "112 voxels that are NaN"),
        (chest()[None, None], chest()[None, None], "batch and channel"),
        (np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), "not empty"),
        (np.full((9, 9), -1000.0), np.full((9, 9), -1000.0), "no slice of the reference shows a body"),
        (chest()[:5], chest()[:5], "at least 7 pixels"),
    ],
)
def test_images_that_cannot_be_measured_are_refused(test: np.ndarray, reference: np.ndarray, message: str) -> None:
    with pytest.raises(ImageRefusal, match=message):
        fidelity(test, reference)


def test_results_carry_their_protocol() -> None:
    measured = fidelity(noisy(chest()), chest())
    assert isinstance(measured, Fidelity)
    assert measured.protocol is measured.mean().protocol is HU_BODY
    assert HU_BODY.window == HUWindow(-1024, 3071)


def test_as_volume_leaves_the_argument_alone() -> None:
    image = chest()
    before = image.copy()
    as_volume(image)
    fidelity(image, image)
    np.testing.assert_array_equal(image, before)
