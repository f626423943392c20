"""Noise that is louder, quieter, finer or coarser than all of the training is named, and no other."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.quality.familiarity import (
    NoiseCharacter,
    differences_from,
    geometry_of,
    noise_character,
    ranges_of,
)


def flat_slices(sigma_hu: float, blur_px: float, count: int = 3) -> list[np.ndarray]:
    noise = np.random.default_rng(4).standard_normal((count, 128, 128))
    noise = ndimage.gaussian_filter(noise, (0, blur_px, blur_px)) if blur_px else noise
    return list((40 + sigma_hu * noise / noise.std()).astype(np.float32))


def test_noise_is_as_loud_and_as_fine_as_it_was_made() -> None:
    white, smooth = noise_character(flat_slices(20, 0)), noise_character(flat_slices(20, 1.5))
    assert white.noise == pytest.approx(18, abs=1)  # its quietest tenth
    assert 0.3 < white.fineness < 0.4
    assert smooth.fineness < 0.4 * white.fineness


def test_what_cannot_be_measured_is_not_known_and_not_strange() -> None:
    lung = [np.full((64, 64), -800, np.float32)]
    scan = noise_character(lung)
    assert np.isnan(scan.noise)
    assert np.isnan(scan.fineness)
    assert differences_from({"noise": [10.0, 20.0], "fineness": [0.1, 0.2]}, vars(scan)) == []
    assert ranges_of([vars(scan), {"noise": 0.0}]) == {}
    assert differences_from({}, vars(noise_character(flat_slices(20, 0)))) == []


def test_the_training_itself_is_familiar() -> None:
    scans = [vars(noise_character(flat_slices(sigma, blur))) for sigma in (10, 40) for blur in (0, 1)]
    ranges = ranges_of(scans)
    assert all(differences_from(ranges, scan) == [] for scan in scans)


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (NoiseCharacter(noise=60, fineness=0.2), ["noise of 60 HU, 1.5 times above .*10 to 40"]),
        (NoiseCharacter(noise=5, fineness=0.2), ["noise of 5 HU, 2 times below"]),
        (
            NoiseCharacter(noise=20, fineness=0.6),
            ["mean frequency of 0.6 cycles per pixel, 2 times above .*0.1 to 0.3"],
        ),
        (NoiseCharacter(noise=80, fineness=0.05), ["noise of 80 HU", "0.05 cycles per pixel, 2 times below"]),
        (NoiseCharacter(noise=44, fineness=0.32), []),
    ],
)
def test_each_quantity_beyond_its_range_is_told(scan: NoiseCharacter, words: list[str]) -> None:
    found = differences_from({"noise": [10.0, 40.0], "fineness": [0.1, 0.3]}, vars(scan))
    assert len(found) == len(words)
    for one, wanted in zip(found, words, strict=True):
        assert re.search(wanted, one.sentence), one.sentence
        distance = re.search(r"\d\S* times (above|below)", one.sentence)
        assert distance
        assert one.short.endswith(distance[0])
        assert one.short.isascii()


@pytest.mark.parametrize(
    ("pixel_mm", "thickness_mm", "short"),
    [
        (0.7, 2.0, []),
        (1.1, 3.4, []),  # beyond, but tolerated
        (2.0, 2.0, ["pixel size 2 times above"]),
        (0.7, 10.0, ["slice thickness 3.3 times above"]),
        (0.25, 0.5, ["pixel size 2 times below", "slice thickness 2 times below"]),
    ],
)
def test_voxels_of_another_size_are_told(pixel_mm: float, thickness_mm: float, short: list[str]) -> None:
    ranges = ranges_of([geometry_of([(0.5, 0.5)], [1.0]), geometry_of([(1.0, 1.0)], [3.0])])
    assert ranges == {"pixel_mm": [0.5, 1.0], "thickness_mm": [1.0, 3.0]}
    scan = geometry_of([(pixel_mm, pixel_mm)] * 3, [thickness_mm] * 3)
    assert [one.short for one in differences_from(ranges, scan)] == short
    assert differences_from({"noise": [1.0, 2.0]}, scan) == [], "weights that do not know voxels say nothing of them"


def test_a_size_that_headers_do_not_give_is_not_known() -> None:
    assert geometry_of([None, (0.0, 0.0)], [None, 0.0, float("nan")]) == {}
    assert geometry_of([None, (0.5, 2.0)], [None, 2.5]) == {"pixel_mm": 1.0, "thickness_mm": 2.5}
    assert ranges_of([{}, {"pixel_mm": 0.8}]) == {"pixel_mm": [0.8, 0.8]}
