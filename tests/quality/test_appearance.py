"""Brightness, contrast and fineness of micrographs: what tells tissue that weights know from tissue they do not."""

from __future__ import annotations

import numpy as np
import pytest

from iscl_monai.quality.appearance import appearance_of, median_appearance


def waves(cycles_per_px: float, *, size: int = 128, grey: float = 120, amplitude: float = 30) -> np.ndarray:
    across = np.arange(size)
    return np.tile(grey + amplitude * np.sin(2 * np.pi * cycles_per_px * across), (size, 1)).astype(np.float32)


@pytest.mark.parametrize("frequency", [0.05, 0.125, 0.3])
def test_each_quantity_is_what_it_says(frequency: float) -> None:
    look = appearance_of(waves(frequency, size=160))
    assert look["brightness"] == pytest.approx(120, abs=1)
    assert look["contrast"] == pytest.approx(30 / np.sqrt(2), rel=0.02)
    assert look["detail"] == pytest.approx(frequency, rel=0.03)


def test_the_middle_of_a_large_image_counts() -> None:
    large = np.zeros((1500, 1100), np.float32)
    large[238:1262, 38:1062] = waves(0.1, size=1024)
    assert appearance_of(large) == appearance_of(waves(0.1, size=1024))


def test_a_slow_change_of_brightness_is_no_detail() -> None:
    plain, clouded = waves(0.1), waves(0.1) + 40 * np.linspace(-1, 1, 128, dtype=np.float32)[:, None]
    assert appearance_of(clouded)["detail"] == pytest.approx(appearance_of(plain)["detail"], rel=0.15)


def test_a_stack_is_as_most_of_its_sections_are() -> None:
    found = median_appearance([waves(0.1), waves(0.1), waves(0.3, grey=200), np.zeros((16, 16), np.float32)])
    assert found["brightness"] == pytest.approx(120, abs=1)
    assert found["detail"] == pytest.approx(0.1, rel=0.05)
    flat = median_appearance([np.full((16, 16), 7, np.float32)])
    assert flat["brightness"] == 7
    assert np.isnan(flat["detail"])
    assert set(map(np.isnan, median_appearance([]).values())) == {True}
