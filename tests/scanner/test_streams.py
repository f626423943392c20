"""Random numbers of slices, and what neighbours share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from objects import water

from iscl_monai.scanner.dose import insert_noise, scanner_for
from iscl_monai.scanner.streams import MOST_SHARED, SharedSource, neighbour_names, noise_source
from iscl_monai.scanner.virtual import VirtualScanner

NAMES = [f"1.2.{index}" for index in range(6)]
BESIDE = neighbour_names(NAMES, range(len(NAMES)))
Numbers = NDArray[np.float32]


def drawn(index: int, correlation: float, *, seed: int = 0) -> Numbers:
    source = SharedSource(seed, 0.25, NAMES[index], BESIDE[index], correlation)
    numbers: Numbers = source.standard_normal(200_000, dtype=np.float32)
    return numbers


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.5, MOST_SHARED])
def test_neighbours_correlate_as_wanted_and_each_is_standard_normal(correlation: float) -> None:
    numbers = [drawn(index, correlation) for index in range(len(NAMES))]
    for one in numbers:  # the ends, too
        assert one.mean() == pytest.approx(0, abs=0.01)
        assert one.std() == pytest.approx(1, abs=0.01)
        assert one.dtype == np.float32
    for one, other in itertools.pairwise(numbers):
        assert np.corrcoef(one, other)[0, 1] == pytest.approx(correlation, abs=0.01)
    for one, other in zip(numbers, numbers[3:], strict=False):
        assert np.corrcoef(one, other)[0, 1] == pytest.approx(0, abs=0.01)


def test_without_correlation_a_slice_has_its_own_stream_alone() -> None:
    np.testing.assert_array_equal(
        drawn(2, 0), noise_source(0, 0.25, NAMES[2]).standard_normal(200_000, dtype=np.float32)
    )


def test_numbers_follow_seed_and_names_alone() -> None:
    np.testing.assert_array_equal(drawn(2, 0.4), drawn(2, 0.4))
    assert abs(np.corrcoef(drawn(2, 0.4), drawn(2, 0.4, seed=1))[0, 1]) < 0.01


def test_slices_far_apart_are_no_neighbours() -> None:
    found = neighbour_names(["a", "b", "c", "d", "e"], [0, 2, 4, 9, 11])
    assert found == [(None, "b"), ("a", "c"), ("b", None), (None, "e"), ("d", None)]
    assert neighbour_names(["a"], [3.0]) == [(None, None)]
    assert neighbour_names(["a", "b"], [3.0, 3.0]) == [(None, None)] * 2  # two images of one place


def scanner(correlation: float) -> VirtualScanner:
    from dataclasses import replace

    image_hu = np.repeat(water(96, 2.0, 85, 70)[None], 3, axis=0)
    return replace(scanner_for(image_hu, spacing_mm=2.0, full_dose_noise_hu=10.0), neighbour_correlation=correlation)


def test_inserted_noise_is_shared_and_any_subset_gives_the_same() -> None:
    image_hu = np.repeat(water(96, 2.0, 85, 70)[None], len(NAMES), axis=0)
    made = scanner(0.4)
    added_hu = insert_noise(image_hu, spacing_mm=2.0, fraction=0.25, scanner=made, slice_ids=NAMES) - image_hu
    found = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in itertools.pairwise(added_hu)]
    assert np.mean(found) == pytest.approx(0.4, abs=0.04)
    few = [4, 0, 3]
    again_hu = insert_noise(
        image_hu[few],
        spacing_mm=2.0,
        fraction=0.25,
        scanner=made,
        slice_ids=[NAMES[index] for index in few],
        neighbour_ids=[BESIDE[index] for index in few],
    )
    np.testing.assert_array_equal(again_hu - image_hu[few], added_hu[few])
