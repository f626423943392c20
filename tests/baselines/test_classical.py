from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from iscl_monai.baselines import CLASSICAL, ClassicalFilter, classical
from iscl_monai.baselines.filters import Bilateral, NonLocalMeans, sigma_filter
from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.inference.slice_denoiser import denoise_volume
from tests.baselines.slices import hann_noise, phantom, white_noise

NAMES = ["gaussian", "sigma", "bilateral", "nlm", "nlm-local", "tv", "bm3d"]
EDGE_PRESERVING = NAMES[1:]
WITH_SCIKIT_IMAGE = ["bilateral", "nlm", "tv"]

# What each leaves of white noise in flat water, measured; a filter that does less or nothing fails.
LEFT_OF_WHITE_NOISE = {"sigma": 0.29, "bilateral": 0.4, "nlm": 0.12, "nlm-local": 0.174, "tv": 0.2, "bm3d": 0.066}


def denoised(name: str, slice_hu: np.ndarray) -> np.ndarray:
    return slice_hu + classical(name).change_hu(slice_hu)


def test_the_names() -> None:
    assert list(CLASSICAL) == NAMES
    assert all(CLASSICAL[name].name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nearer_to_the_truth(name: str) -> None:
    truth = ndimage.gaussian_filter(phantom(96), 1)  # scanners blur: no edge is sharper
    noisy = truth + hann_noise(25, 96)
    inside = ndimage.binary_erosion(truth > -900, iterations=3)
    before, after = (np.sqrt(np.mean((image - truth)[inside] ** 2)) for image in (noisy, denoised(name, noisy)))
    assert after < (0.97 if name == "gaussian" else 0.8) * before


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_knows_nothing_of_its_neighbours(name: str) -> None:
    volume = np.stack([phantom(40) + white_noise(sigma, 40) for sigma in (5, 20, 60)])
    together = denoise_volume(volume, classical(name), workers=2)
    assert np.isfinite(together).all()
    for index in range(3):
        alone = denoise_volume(volume[index : index + 1], classical(name), workers=1)
        np.testing.assert_array_equal(together[index], alone[0])


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_nothing(name: str) -> None:
    noisy, threads, results = phantom(48) + white_noise(20, 48), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(classical(name).change_hu(noisy))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_gives_the_input_bit_for_bit(name: str) -> None:
    volume = (phantom(32) + white_noise(20, 32))[None]
    np.testing.assert_array_equal(denoise_volume(volume, classical(name, strength=0), workers=1), volume)


@pytest.mark.parametrize("name", NAMES)
def test_more_strength_changes_more(name: str) -> None:
    noisy = white_noise(20, 32)
    weak, tuned = (CLASSICAL[name](strength=share * CLASSICAL[name].tuned_strength) for share in (0.5, 1))
    assert 0 < weak.change_hu(noisy).std() < tuned.change_hu(noisy).std()


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_without_noise_stays_nearly_as_it_is(name: str) -> None:
    clean = phantom(64)
    change_hu = classical(name).change_hu(clean)
    gently = np.hypot(ndimage.sobel(clean, 0), ndimage.sobel(clean, 1)) < 50
    # Where edges are everywhere near, even the quietest neighbourhood holds one, which passes for noise.
    assert np.abs(change_hu[gently]).max() < (6 if name == "nlm-local" else 1)
    constant = np.full((32, 32), 40.3, np.float32)
    assert not classical(name).change_hu(constant).any()


@pytest.mark.parametrize("name", NAMES)
def test_mean_of_water_is_kept(name: str) -> None:
    noisy = white_noise(20, 96)
    assert abs(denoised(name, noisy).mean() - noisy.mean()) < 0.3


def test_gaussian_leaves_what_its_kernel_says() -> None:
    width_px = 0.35 * 2 ** (1 / 3)
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    expected = np.sqrt((ndimage.gaussian_filter(impulse, width_px) ** 2).sum())
    left = denoised("gaussian", white_noise(20, 256)).std() / 20
    assert left == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", EDGE_PRESERVING)
def test_noise_in_water_is_reduced(name: str) -> None:
    left = denoised(name, white_noise(20, 96))[8:-8, 8:-8].std() / 20
    assert left == pytest.approx(LEFT_OF_WHITE_NOISE[name], rel=0.2)


def edge_shift_hu(name: str) -> float:
    """How far the pixels beside an edge of 1000 HU move towards the other side, on average."""
    sharp = np.where(np.arange(64) < 32, -450.0, 550.0)
    image = np.tile(sharp, (64, 1)).astype(np.float32) + white_noise(20, 64)
    change_hu = denoised(name, image) - sharp
    return float((change_hu[:, 31] - change_hu[:, 32]).mean() / 2)


@pytest.mark.parametrize("name", EDGE_PRESERVING)
def test_edges_are_kept(name: str) -> None:
    assert abs(edge_shift_hu(name)) < 15


def test_gaussian_blurs_edges() -> None:
    assert edge_shift_hu("gaussian") > 50


@pytest.mark.parametrize("name", NAMES)
def test_nothing_outside_the_window_is_touched_or_spreads(name: str) -> None:
    noisy = 40 + white_noise(20, 48)
    noisy[:5], noisy[20:22, 20:22] = -2000, 3071
    change_hu = classical(name).change_hu(noisy)
    outside = (noisy < -1000) | (noisy > 1000)
    assert not change_hu[outside].any()
    shown = noisy.clip(-1000, 1000)
    np.testing.assert_allclose(change_hu[~outside], classical(name).change_hu(shown)[~outside], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(15, 20), (16, 4097), (3, 16, 16)])
def test_refuses_what_is_no_slice(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageRefusal, match="16 to 4096"):
        classical(name).change_hu(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(ImageRefusal, match="NaN or infinite"):
        classical("sigma").change_hu(np.full((16, 16), value))


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_refuses_a_strength_that_is_none(strength: float) -> None:
    with pytest.raises(ConfigRefusal, match=r"strength=.*0 or more.*tuned 0\.6"):
        classical("nlm", strength=strength)


@pytest.mark.parametrize(
    ("word", "cure"),
    [("BM3", r"did you mean 'bm3d'\?"), ("gauss", r"did you mean 'gaussian'\?"), ("?", "choose one of these")],
)
def test_refuses_an_unknown_name_with_the_nearest(word: str, cure: str) -> None:
    with pytest.raises(ConfigRefusal, match=f"gaussian, sigma, bilateral, nlm, nlm-local, tv, bm3d; do: {cure}$"):
        classical(word)


@pytest.mark.parametrize("name", NAMES)
def test_scikit_image_is_asked_for_only_where_it_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    noisy = white_noise(20, 16)
    if name in WITH_SCIKIT_IMAGE:
        with pytest.raises(ConfigRefusal, match=r"pip install .*evaluate"):
            classical(name).change_hu(noisy)
    else:
        assert classical(name).change_hu(noisy).any()


def test_identity_and_parameters_tell_all() -> None:
    filters: list[ClassicalFilter] = [method() for method in CLASSICAL.values()]
    filters += [CLASSICAL["tv"](strength=0.1), CLASSICAL["tv"](strength=0.1 + 1e-9)]
    assert len({each.identity.weights_digest for each in filters}) == len(filters)
    assert CLASSICAL["tv"]().identity == CLASSICAL["tv"]().identity
    assert CLASSICAL["nlm"]().parameters == {
        "filter": "nlm",
        "strength": "0.6",
        "patch_px": str(NonLocalMeans.patch_px),
        "reach_px": str(NonLocalMeans.reach_px),
    }
    assert CLASSICAL["bilateral"]().parameters["spatial_px"] == f"{Bilateral.spatial_px:g}"
    assert {each.device for each in filters} == {torch.device("cpu")}


def test_the_sigma_filter_takes_the_mean_of_neighbours_within_its_threshold() -> None:
    source = torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    padded = np.pad(source[0, 0].numpy().astype(np.float64), 2, mode="reflect")
    expected = np.empty((6, 7))
    for row in range(6):
        for column in range(7):
            square = padded[row : row + 5, column : column + 5]
            expected[row, column] = square[np.abs(square - square[2, 2]) < 0.5].mean()
    np.testing.assert_allclose(sigma_filter(source, torch.tensor(0.5))[0, 0], expected, atol=1e-6)
