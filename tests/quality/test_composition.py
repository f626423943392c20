"""What part of the body an image shows is told by its size and its tissues, not by its noise."""

from __future__ import annotations

import numpy as np
import pytest

from iscl_monai.quality.composition import COMPOSITION, composition_of
from iscl_monai.quality.familiarity import differences_from, ranges_of

SIZE = 160
ROWS, COLUMNS = np.ogrid[:SIZE, :SIZE]
RADIUS = np.hypot(ROWS - SIZE / 2, COLUMNS - SIZE / 2)


def disc(inside_hu: float, radius_px: float = 60, **shells: tuple[float, float, float]) -> np.ndarray:
    """Air with a disc of one value, and rings: inner and outer radius, and value."""
    image = np.where(radius_px > RADIUS, inside_hu, -1000.0)
    for inner, outer, value in shells.values():
        image[(inner <= RADIUS) & (outer > RADIUS)] = value
    return image.astype(np.float32)


TRUNK = disc(40, fat=(54, 60, -100))
CHEST = disc(40, lung=(10, 45, -800), fat=(54, 60, -100))
HEAD = disc(40, skull=(52, 57, 1000))


@pytest.mark.parametrize("pixel_mm", [0.75, 1.0, 1.5])
def test_size_and_tissues_are_as_they_were_drawn(pixel_mm: float) -> None:
    found = composition_of([CHEST], pixel_mm)
    assert list(found) == list(COMPOSITION)
    assert found["body_cm2"] == pytest.approx(np.pi * (6 * pixel_mm) ** 2, rel=0.06)
    drawn = {"lung_percent": (CHEST == -800), "fat_percent": (CHEST == -100), "soft_percent": (CHEST == 40)}
    for name, places in drawn.items():
        # Squares that two tissues share are neither.
        assert found[name] == pytest.approx(100 * places.sum() / (RADIUS < 60).sum(), abs=8), name
    assert found["bone_percent"] == 1.0


@pytest.mark.parametrize("image", [TRUNK, CHEST, HEAD])
def test_noise_does_not_change_it(image: np.ndarray) -> None:
    noise = 90 * np.random.default_rng(3).standard_normal(image.shape)
    clean, noisy = composition_of([image], 0.75), composition_of([(image + noise).astype(np.float32)], 0.75)
    assert noisy == pytest.approx(clean, abs=3, rel=0.02)


def test_a_table_is_no_body() -> None:
    with_table = TRUNK.copy()
    with_table[146:149, :] = 100
    assert composition_of([with_table], 0.75) == pytest.approx(composition_of([TRUNK], 0.75), rel=0.02)


def test_a_head_is_no_trunk_and_a_trunk_is_one() -> None:
    ranges = ranges_of([composition_of([image], 0.75) for image in (TRUNK, CHEST)])
    assert differences_from(ranges, composition_of([TRUNK, CHEST, CHEST], 0.75)) == []
    found = differences_from(ranges, composition_of([HEAD], 0.75))
    assert any(one.short.startswith("share of bone") for one in found)
    assert "another body region: bone in" in " ".join(one.sentence for one in found)
    small = differences_from(ranges, composition_of([disc(40, radius_px=30, fat=(27, 30, -100))], 0.75))
    assert small[0].short == "body area 4.2 times below"


def test_the_middle_of_the_slices_decides_and_air_is_none_of_them() -> None:
    air = np.full((SIZE, SIZE), -1000, np.float32)
    assert composition_of([air, air], 0.75) == {}
    assert composition_of([np.full((2, 2), 40, np.float32)], 0.75) == {}
    assert composition_of([air, TRUNK, HEAD, TRUNK], 0.75) == composition_of([TRUNK], 0.75)
