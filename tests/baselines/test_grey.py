"""Filters for micrographs and MR: each takes away what it is for, and leaves what is even."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.baselines.grey import YARDSTICKS

WIDTH = 255.0
rng = np.random.default_rng(0)
DETAIL = (128 + 40 * ndimage.zoom(rng.standard_normal((32, 32)), 3, order=1)).astype(np.float32)
ACROSS = np.linspace(-1, 1, 96, dtype=np.float32)
SPOILT = {
    "flatten": DETAIL * (1 + 0.3 * ACROSS),
    "level": DETAIL + 50 * ACROSS,
    "row-median": DETAIL + 20 * rng.standard_normal((96, 1)).astype(np.float32),
    "gaussian": DETAIL + 20 * rng.standard_normal((96, 96)).astype(np.float32),
    "nlm": DETAIL + 15 * rng.standard_normal((96, 96)).astype(np.float32),
    "bm3d": DETAIL + 15 * rng.standard_normal((96, 96)).astype(np.float32),
}


@pytest.mark.parametrize("name", YARDSTICKS)
def test_each_takes_away_what_it_is_for(name: str) -> None:
    yardstick, spoilt = YARDSTICKS[name], SPOILT[name]
    before = np.abs(spoilt - DETAIL).mean()
    after = [np.abs(yardstick.apply(spoilt, strength, WIDTH) - DETAIL).mean() for strength in yardstick.strengths]
    assert min(after) < 0.85 * before


@pytest.mark.parametrize("name", YARDSTICKS)
def test_an_even_image_stays(name: str) -> None:
    even = np.full((40, 40), 90, np.float32)
    for strength in YARDSTICKS[name].strengths:
        np.testing.assert_allclose(YARDSTICKS[name].apply(even, strength, WIDTH), even, atol=0.01)
