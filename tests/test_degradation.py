"""Noise that is measured on two pools of micrographs or MR magnitude, and put on clean patches."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.data import Degradation, PoolNoise, RicianNoise, UnpairedPatches
from iscl_monai.data.rician import faint_discs
from iscl_monai.domain import MICROGRAPH, MR
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.transforms import BodyFractiond, HUWindowd, augmentation

Images = NDArray[np.float64]


def coloured(seed: int, widths_px: tuple[float, float], count: int = 8, size: int = 96) -> Images:
    """Noise of standard deviation 1, blurred down and right: (image, row, column)."""
    white = np.random.default_rng(seed).standard_normal((count, size, size))
    noise = ndimage.gaussian_filter(white, (0, *widths_px), mode="wrap")
    return np.asarray(noise / noise.std())


def tissue(seed: int) -> Images:
    """Cells of 3 pixels, grey 120 and 20 of contrast."""
    return 120 + 20 * coloured(seed, (3, 3))


def pool(images: Images) -> list[dict[str, Any]]:
    """A cached pool of one scan."""
    stack = torch.from_numpy(images.astype(np.float32)).permute(1, 2, 0)[None]
    return [BodyFractiond("image", foreground=MICROGRAPH.foreground)({"image": stack})]


def put_on(rule: Degradation, clean: torch.Tensor, seed: int) -> torch.Tensor:
    return rule.pair(clean, np.random.default_rng(seed))[1]


def neighbours(noise: NDArray[np.float32]) -> tuple[float, float]:
    """Correlation of neighbours down and right."""
    down, right = (noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])
    found = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in (down, right)]
    return float(found[0]), float(found[1])


STREAKS = (0.7, 4.0)


def test_noise_that_adds_is_as_strong_and_as_long_as_that_of_the_pool() -> None:
    """The pools show other tissue, and no image has a partner."""
    noise = 15 * coloured(3, STREAKS)
    rule = PoolNoise(pool(tissue(1) + noise), pool(tissue(2)), multiplies=False, strengths=(1, 1))
    clean = torch.full((1, 64, 64), 120.0)
    found = np.stack([(put_on(rule, clean, seed) - clean)[0].numpy() for seed in range(40)])
    assert found.std() == pytest.approx(15, rel=0.15)
    assert neighbours(found) == pytest.approx(neighbours(noise.astype(np.float32)), abs=0.12)
    assert neighbours(found)[1] > neighbours(found)[0] + 0.2


def test_noise_that_multiplies_is_a_share_of_the_brightness() -> None:
    film = np.exp(0.12 * coloured(3, (8, 8)))
    rule = PoolNoise(pool(tissue(1) * film), pool(tissue(2)), multiplies=True, strengths=(1, 1))
    spreads = []
    for grey in (40.0, 160.0):
        clean = torch.full((1, 64, 64), grey)
        spreads.append(np.std([(put_on(rule, clean, seed) / grey).log().numpy() for seed in range(40)]))
    assert spreads == pytest.approx([0.12, 0.12], rel=0.25)
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)


def test_pools_that_were_confused_are_refused() -> None:
    with pytest.raises(DatalistRefusal, match=r"the noisy pool varies .* less at others"):
        PoolNoise(pool(tissue(2)), pool(tissue(1) + 15 * coloured(3, STREAKS)), multiplies=False)
    for multiplies in (False, True):  # all of the tissue would be noise
        with pytest.raises(DatalistRefusal, match="a clean pool of 8 images of one grey level each"):
            PoolNoise(pool(tissue(1)), pool(np.full((8, 96, 96), 90.0)), multiplies=multiplies)
    with pytest.raises(ConfigRefusal, match=r"strengths=\(2, 1\)"):
        PoolNoise(pool(tissue(1)), pool(tissue(2)), multiplies=False, strengths=(2, 1))


def test_patches_with_a_rule_are_clean_ones_with_its_noise() -> None:
    noisy, clean = pool(tissue(1) + 15 * coloured(3, STREAKS)), pool(tissue(2))
    window = HUWindow(0, 255)

    def patches(rule: Degradation | None) -> UnpairedPatches:
        return UnpairedPatches(
            noisy,
            clean,
            augmentation=augmentation("image", patch_size=64, domain=MICROGRAPH),
            windowing=HUWindowd("image", window),
            seed=7,
            harvested=rule,
        )

    rule = PoolNoise(noisy, clean, multiplies=False)
    found, without = patches(rule)[5], patches(None)[5]
    assert torch.equal(found["noisy"], without["noisy"])
    assert torch.equal(found["clean"], without["clean"])
    assert 0.03 < float((found["harvested"] - found["clean"]).std()) < 0.3
    again = patches(rule)
    again[2]  # what was asked for before changes nothing
    assert torch.equal(again[5]["harvested"], found["harvested"])


def magnitudes(sigma: float, texture_px: float = 0.0) -> list[dict[str, Any]]:
    """A bright disc in the dark, in thousandths, with Rician noise."""
    down, right = np.mgrid[:128, :128] - 64
    head = np.where(np.hypot(down, right) < 40, 600.0, 0.0)
    channels = np.random.default_rng(0).standard_normal((2, 4, 128, 128))
    channels = ndimage.gaussian_filter(channels, (0, 0, texture_px, 0), mode="wrap")
    real, imaginary = sigma * channels / channels.std()
    return pool(np.hypot(head + real, imaginary))


@pytest.mark.parametrize("texture_px", [0.0, 0.8])
def test_rician_noise_is_that_of_the_dark(texture_px: float, capsys: pytest.CaptureFixture[str]) -> None:
    rule = RicianNoise(magnitudes(50, texture_px), magnitudes(0), strengths=(1, 1))
    assert [noise.sigma for noise in rule.noises] == pytest.approx([50], rel=0.05)
    assert f"sigma {rule.noises[0].sigma:.0f} thousandths, neighbours correlated " in capsys.readouterr().out
    dark, bright = (
        np.stack([put_on(rule, torch.full((1, 64, 64), grey), seed)[0].numpy() for seed in range(20)])
        for grey in (0.0, 800.0)
    )
    assert dark.mean() == pytest.approx(50 * np.sqrt(np.pi / 2), rel=0.05)
    assert bright.std() == pytest.approx(50, rel=0.05)
    down, right = neighbours(bright)
    assert down == pytest.approx(np.exp(-1 / (4 * 0.8**2)) if texture_px else 0, abs=0.1)
    assert right == pytest.approx(0, abs=0.1)


def zero_filled() -> list[dict[str, Any]]:
    """The disc, with half of the rows of k-space."""
    down, right = np.mgrid[:128, :128] - 64
    rng = np.random.default_rng(0)
    acquired = np.abs(np.fft.fftfreq(128))[:, None] <= 0.25
    images = []
    for _ in range(4):
        real, imaginary = 70 * rng.standard_normal((2, 128, 128))
        grains = ndimage.gaussian_filter(rng.standard_normal((128, 128)), 0.5)
        head = np.where(np.hypot(down, right) < 40, 600.0 + 300 * grains, 0.0)
        images.append(np.abs(np.fft.ifft2(np.fft.fft2(head + real + 1j * imaginary) * acquired)))
    return pool(np.stack(images))


def test_clean_patches_show_no_more_than_noisy_scans_acquired(capsys: pytest.CaptureFixture[str]) -> None:
    """Else detail that no noisy scan has would be learnt as what is left when noise is gone."""
    rule = RicianNoise(zero_filled(), magnitudes(0), strengths=(1, 1))
    assert re.search(r"acquired 5[0-3]% x 100%", capsys.readouterr().out)
    rng = np.random.default_rng(0)
    detail = torch.from_numpy(500 + 100 * rng.standard_normal((1, 64, 64))).float()
    shown, noisy = rule.pair(detail, rng)
    for image in (shown, noisy - shown):
        power = np.abs(np.fft.fft(image[0].numpy(), axis=0)) ** 2
        assert power[20:-20].mean() < 0.1 * power[4:14].mean()
    assert RicianNoise(magnitudes(50), magnitudes(0)).pair(detail, rng)[0].equal(detail)


def test_noise_of_the_clean_scans_need_not_be_added() -> None:
    rule = RicianNoise(magnitudes(50), magnitudes(30))
    assert [noise.sigma for noise in rule.noises] == pytest.approx([40], rel=0.05)


def test_noise_that_cannot_be_measured_is_refused() -> None:
    masked = magnitudes(0)
    with pytest.raises(DatalistRefusal, match="1 noisy scans, 0 of them with dark around"):
        RicianNoise(masked, masked)
    with pytest.raises(DatalistRefusal, match="a clean pool of sigma 5"):
        RicianNoise(magnitudes(30), magnitudes(50))


def masked_heads(sigma: float) -> list[dict[str, Any]]:
    """Dim tissue, spread as Rayleigh's but smooth, with noise; black around, and nothing else that is dark."""
    down, right = np.mgrid[:128, :128] - 64
    fields, noise = np.random.default_rng(1).standard_normal((2, 2, 4, 128, 128))
    fields = ndimage.gaussian_filter(fields, (0, 0, 4, 4), mode="wrap")
    real, imaginary = 110 * fields / fields.std()
    values = np.hypot(np.hypot(real, imaginary) + sigma * noise[0], sigma * noise[1])
    return pool(np.where(np.hypot(down, right) < 60, values, 0))


def test_dim_tissue_of_masked_heads_is_no_noise() -> None:
    """It was taken for noise of 130 to 190 thousandths where noise was 50, and a masked clean pool was called loud."""
    with pytest.raises(DatalistRefusal, match="1 noisy scans, 0 of them with dark around"):
        RicianNoise(masked_heads(30), magnitudes(0))
    for rule in (
        RicianNoise(masked_heads(30) + magnitudes(50), magnitudes(0)),
        RicianNoise(magnitudes(50), masked_heads(5)),
    ):
        assert [noise.sigma for noise in rule.noises] == pytest.approx([50], rel=0.05)


def test_a_share_of_patches_shows_faint_discs_or_nothing() -> None:
    noisy, clean = magnitudes(50), magnitudes(0)

    def patches(share: float) -> list[dict[str, torch.Tensor]]:
        made = UnpairedPatches(
            noisy,
            clean,
            augmentation=augmentation("image", patch_size=64, domain=MR),
            windowing=HUWindowd("image", HUWindow(0, 1250)),
            seed=7,
            harvested=RicianNoise(noisy, clean, faint_share=share),
        )
        return [made[index] for index in range(120)]

    some, none = patches(0.25), patches(0.0)
    faint = [
        index
        for index, (patch, other) in enumerate(zip(some, none, strict=True))
        if (patch["clean"] != other["clean"]).any()
    ]
    assert 15 <= len(faint) <= 45
    assert all(torch.equal(patch["noisy"], other["noisy"]) for patch, other in zip(some, none, strict=True))
    greys = torch.stack([some[index]["clean"] for index in faint]).add(1).mul(625)
    assert 250 < float(greys.max()) <= 8 * 52
    assert 0.05 < float((greys > 25).float().mean()) < 0.6
    empty = [index for index in faint if not (some[index]["clean"] + 1).any()]
    assert empty
    dark = torch.stack([some[index]["harvested"] for index in empty])
    assert float(dark.mean() + 1) * 625 == pytest.approx(50 * np.sqrt(np.pi / 2), rel=0.25)
    with pytest.raises(ConfigRefusal, match=r"faint_share=1"):
        RicianNoise(noisy, clean, faint_share=1)


def test_discs_are_as_faint_as_noise() -> None:
    rng = np.random.default_rng(0)
    images = np.stack([faint_discs(96, 80, rng) for _ in range(90)])
    assert images.shape == (90, 96, 80)
    assert 3 < sum(not image.any() for image in images) < 20
    assert images.min() >= 0
    assert 6 < images.max() <= 8
    for low, high in ((1, 2), (2, 4), (4, 8)):
        assert ((images > low) & (images < high)).mean() > 0.02
