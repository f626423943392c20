"""Loudness and fineness of the noise in the dark of an MR magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

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
