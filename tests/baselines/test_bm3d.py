from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data, restoration

from iscl_monai.baselines import bm3d as module
from iscl_monai.baselines.bm3d import HARD_THRESHOLD, WIENER, bm3d
from tests.baselines.slices import white_noise


def psnr_db(test: np.ndarray, reference: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((test - reference) ** 2)))


@pytest.mark.parametrize("sigma", [10, 25])
def test_beats_the_best_non_local_means_and_total_variation(sigma: float) -> None:
    photo = data.camera()[70:182, 170:282].astype(np.float32)
    noisy = photo + white_noise(sigma, 112, seed=1)
    means = [
        restoration.denoise_nl_means(noisy, patch_size=5, patch_distance=9, h=h * sigma, sigma=sigma)
        for h in (0.5, 0.6, 0.7, 0.8)
    ]
    variations = [restoration.denoise_tv_chambolle(noisy, weight=share * sigma) for share in (0.5, 0.7, 0.9)]
    rival_db = max(psnr_db(rival, photo) for rival in means + variations)
    assert psnr_db(bm3d(noisy, sigma=sigma), photo) > rival_db + 0.25


@pytest.mark.parametrize("step", [HARD_THRESHOLD, WIENER])
def test_transforms_are_inverted(step: module.Step) -> None:
    torch.testing.assert_close(step.forward @ step.inverse, torch.eye(64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [HARD_THRESHOLD, WIENER])
def test_only_the_first_coefficient_sees_the_mean(step: module.Step) -> None:
    coefficients = step.forward @ torch.full((64,), 10.0)
    assert coefficients[0] == pytest.approx(80, rel=1e-5)  # 10 times the root of 64: rows have norm 1
    assert coefficients[1:].abs().max() < 1e-4


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32])
def test_haar_is_orthonormal(size: int) -> None:
    haar = module._haar(size)
    torch.testing.assert_close(haar @ haar.T, torch.eye(size))


def test_wavelet_is_the_published_one() -> None:
    # 3 / 256, 22 / 256, 128 / 256 times the root of 2 are the taps of bior1.5 that every table prints.
    published = [0.016572815, -0.016572815, -0.121533978, 0.121533978, 0.707106781]
    finest = np.sqrt(2) * np.array([3, -3, -22, 22, 128]) / 256
    np.testing.assert_allclose(finest, published, atol=1e-8)
    # Details of the finest level: differences of neighbours, whatever lies around them.
    step = np.zeros(8)
    step[3:] = 1
    details = module._bior()[4:] @ step
    np.testing.assert_allclose(details, [0, -np.sqrt(0.5), 0, 0], atol=1e-12)


def hard_threshold_by_hand(image: np.ndarray, sigma: float) -> np.ndarray:
    """The paper's first step, patch by patch, without anything the module does to be fast."""
    forward, inverse = HARD_THRESHOLD.forward.double().numpy(), HARD_THRESHOLD.inverse.double().numpy()
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    kaiser = np.outer(np.kaiser(8, 2), np.kaiser(8, 2))
    last = np.array(image.shape) - 8
    starts = [sorted({*range(0, end + 1, 3), end}) for end in last]
    for row in starts[0]:
        for column in starts[1]:
            found = []
            for r in range(max(0, row - 19), min(last[0], row + 19) + 1):
                for c in range(max(0, column - 19), min(last[1], column + 19) + 1):
                    differing = image[r : r + 8, c : c + 8] - image[row : row + 8, column : column + 8]
                    found.append((float(np.mean(differing**2)), r, c))
            near = [entry for entry in sorted(found)[:16] if entry[0] <= HARD_THRESHOLD.bound * sigma**2]
            near = near[: 2 ** int(np.log2(len(near)))]
            haar = module._haar(len(near)).double().numpy()
            stack = haar @ np.stack([forward @ image[r : r + 8, c : c + 8].ravel() for _, r, c in near])
            kept = np.abs(stack) >= 2.7 * sigma
            kept[0, 0] = True
            estimates = haar.T @ (stack * kept) @ inverse.T
            for (_, r, c), estimate in zip(near, estimates, strict=True):
                total[r : r + 8, c : c + 8] += kaiser * estimate.reshape(8, 8) / kept.sum()
                weight[r : r + 8, c : c + 8] += kaiser / kept.sum()
    return total / weight


@pytest.mark.parametrize("stacks_at_a_time", [30, 4096])
def test_first_step_equals_the_paper_by_hand(monkeypatch: pytest.MonkeyPatch, stacks_at_a_time: int) -> None:
    monkeypatch.setattr(module, "STACKS_AT_A_TIME", stacks_at_a_time)
    rows, columns = np.mgrid[:25, :21]
    image = (100.0 * (rows // 9 % 2) + 40 * (columns > 13)).astype(np.float32)
    image += np.random.default_rng(4).normal(0, 12, image.shape).astype(np.float32)
    image -= image.mean()
    noisy = torch.from_numpy(image)
    fast = module._step(noisy, noisy, 12.0, HARD_THRESHOLD).numpy()
    np.testing.assert_allclose(fast, hard_threshold_by_hand(image.astype(np.float64), 12.0), atol=0.01)


def test_wiener_keeps_a_true_guide_and_shrinks_a_flat_one() -> None:
    noisy = torch.from_numpy(white_noise(10, 40))
    strong = 1000 * torch.from_numpy(white_noise(10, 40, seed=1))
    kept = module._step(noisy + strong, strong, 10.0, WIENER)
    torch.testing.assert_close(kept, noisy + strong, rtol=0, atol=5.0)
    flattened = module._step(noisy, torch.zeros_like(noisy), 10.0, WIENER)
    assert flattened.std() < 3


@pytest.mark.parametrize("shift", [-1000.0, 0.0, 5000.0])
def test_knows_no_zero(shift: float) -> None:
    noisy = white_noise(20, 32)
    np.testing.assert_allclose(bm3d(noisy + shift, sigma=20) - shift, bm3d(noisy, sigma=20), atol=0.02)


def test_sigma_zero_gives_the_image_back() -> None:
    noisy = white_noise(20, 24)
    np.testing.assert_array_equal(bm3d(noisy, sigma=0), noisy)


@pytest.mark.parametrize("shape", [(16, 16), (16, 61), (47, 18)])
def test_every_pixel_of_any_shape_is_estimated(shape: tuple[int, int]) -> None:
    noisy = 30 + np.random.default_rng(0).normal(0, 20, shape)
    denoised = bm3d(noisy, sigma=20)
    assert denoised.shape == shape
    assert denoised.std() < 10
