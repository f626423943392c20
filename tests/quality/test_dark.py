"""Loudness and fineness of the noise in the dark of an MR magnitude."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from real_data import real
from scipy.ndimage import binary_fill_holes, gaussian_filter, uniform_filter, zoom

from iscl_monai.domain.mr import PER_WINDOW, window_of
from iscl_monai.magnitude import read_magnitude
from iscl_monai.quality.dark import dark_character


def magnitude(sigma: float, *, blur_px: float = 0.0, grey: float = 0.0) -> list[np.ndarray]:
    channels = np.random.default_rng(0).standard_normal((2, 96, 112))
    if blur_px:
        channels = gaussian_filter(channels, (0, blur_px, blur_px))
        channels /= channels.std()
    return [np.hypot(grey + sigma * channels[0], sigma * channels[1]).astype(np.float32)]


@pytest.mark.parametrize("sigma", [5.0, 50.0, 100.0])
def test_loudness_is_that_of_each_channel(sigma: float) -> None:
    found = dark_character(magnitude(sigma))
    assert found["dark_noise"] == pytest.approx(sigma, rel=0.02)
    assert found["dark_fineness"] == pytest.approx(0.383, rel=0.02)  # mean of hypot over the square of +-0.5


def test_fineness_falls_with_the_width_of_the_noise() -> None:
    found = [dark_character(magnitude(50, blur_px=blur))["dark_fineness"] for blur in (0.0, 0.5, 0.7, 0.9)]
    assert found == sorted(found, reverse=True)
    assert found[0] / found[-1] > 1.4


def test_what_is_no_dark_is_not_measured() -> None:
    noise = magnitude(50)
    nothing = {
        "black": [np.zeros((96, 112), np.float32)],
        "small": [noise[0][:20, :20]],
        "bright": magnitude(50, grey=400),
        "dim tissue": [zoom(noise[0], 4, order=3)[:96, :112]],
    }
    measured = {name: set(map(np.isfinite, dark_character(images).values())) for name, images in nothing.items()}
    assert measured == {name: {False} for name in nothing}


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.15])
@pytest.mark.parametrize("name", ["fig6A_T1w", "fig7A_T1w", "fig7A_T2w", "fig7B_T1w", "fig7B_T2w"])
def test_dim_tissue_of_a_real_masked_head_is_no_dark(name: str, share: float) -> None:
    """With loud noise dim tissue looks like noise alone; what gives the mask away is that nothing ends at the head."""
    scan = read_magnitude(real("mri/mri") / "mri" / "clinical_3T" / f"{name}.nii")
    sigma = share * scan.window
    channels = sigma * np.random.default_rng(0).standard_normal((2, *scan.values.shape))
    noisy = np.hypot(scan.values + channels[0], channels[1])
    near = uniform_filter(scan.values, (9, 9, 1)) > 0.06 * scan.window
    head = np.stack([binary_fill_holes(near[..., index]) for index in range(near.shape[2])], -1)
    away = np.hypot(*np.ogrid[tuple(slice(-1, 1, size * 1j) for size in head.shape[:2])])[..., None]
    found = {
        what: dark_character(list(np.moveaxis(values * np.float32(PER_WINDOW / window), 2, 0)))["dark_noise"] * window
        for what, values in {
            "masked": np.where(head, noisy, 0).astype(np.float32),
            "masked, not with 0": np.where(head, noisy, 0.02 * scan.window).astype(np.float32),
            "whole": noisy.astype(np.float32),
            "corners cut off": np.where(away <= 1, noisy, 0).astype(np.float32),
            "a border": np.pad(noisy, ((40, 40), (40, 40), (0, 0))).astype(np.float32),
            "a border of whole blocks": np.pad(noisy, ((48, 32), (48, 32), (0, 0))).astype(np.float32),
        }.items()
        for window in [window_of(replace(scan, values=values))]
    }
    masked = [value for what, value in found.items() if what.startswith("masked")]
    assert np.isnan(masked).all()
    within = {"whole": 0.03, "corners cut off": 0.06}
    for what in found.keys() - {"masked", "masked, not with 0"}:
        # 7A has ghosts beside the noise that was put on, and blocks next to a head see most of them
        rel = 0.1 if name.startswith("fig7A") else within.get(what, 0.1)
        assert found[what] == pytest.approx(sigma * PER_WINDOW, rel=rel), what
