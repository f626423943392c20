"""A truth without noise: what is put in comes out, edges stay, and what is left of the noise is told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from objects import ellipse, water

from iscl_monai.scanner.calibration import with_noise
from iscl_monai.scanner.noise_free import _bands, noise_free, residual_noise_hu
from iscl_monai.scanner.virtual import VirtualScanner

SIZE, SPACING_MM, NOISE_HU = 128, 2.4, 10.0
Volume = NDArray[np.float32]


@pytest.fixture(scope="module")
def truth() -> Volume:
    """Water with a bone and a vessel, three slices alike."""
    plane = water(SIZE, SPACING_MM, 130, 100, hu=30).astype(np.float32)
    plane[ellipse(SIZE, SPACING_MM, 18, 18, x_mm=-50)] = 180
    plane[ellipse(SIZE, SPACING_MM, 15, 15, x_mm=60)] = 700
    return np.stack([plane] * 3)


@pytest.fixture(scope="module")
def scanner(truth: Volume) -> VirtualScanner:
    return with_noise(list(truth), spacing_mm=SPACING_MM, noise_hu=NOISE_HU)


@pytest.fixture(scope="module")
def scan(truth: Volume, scanner: VirtualScanner) -> Volume:
    noise = [scanner.own_noise(plane, np.random.default_rng(index)) for index, plane in enumerate(truth)]
    return truth + np.stack(noise)


def test_the_bands_add_up_to_the_image(scan: Volume) -> None:
    assert np.sum(list(_bands(scan[0])), axis=0) == pytest.approx(scan[0], abs=1e-2)


def test_the_noise_goes_and_the_edges_stay(truth: Volume, scan: Volume, scanner: VirtualScanner) -> None:
    found = noise_free(list(scan), scanner)[1]
    flat = ellipse(SIZE, SPACING_MM, 60, 25, y_mm=55)
    assert (scan[1] - truth[1])[flat].std() > 0.8 * NOISE_HU
    assert (found - truth[1])[flat].std() < 0.3 * NOISE_HU
    assert abs((found - truth[1])[flat].mean()) < 2
    # Each edge keeps its height: inside minus around it, and the steepest step across it.
    row = SIZE // 2
    for image in (truth[1], found):
        assert np.abs(np.diff(image[row, 60:110])).max() > 0.85 * np.abs(np.diff(truth[1][row, 60:110])).max()
    vessel = ellipse(SIZE, SPACING_MM, 8, 8, x_mm=-50)
    assert found[vessel].mean() == pytest.approx(180, abs=4)


def test_what_is_left_is_told(truth: Volume, scanner: VirtualScanner) -> None:
    left_hu = residual_noise_hu(truth, scanner)
    assert 0 < left_hu < 0.35 * NOISE_HU


def test_a_scan_of_a_truth_is_as_noisy_as_its_dose_says(truth: Volume, scanner: VirtualScanner) -> None:
    """A quarter of the photons makes twice the noise, and the two doses share none of it."""
    full, low = (scanner.noise_at(truth[0], dose, np.random.default_rng(seed)) for seed, dose in ((1, 1.0), (2, 0.25)))
    inside = ellipse(SIZE, SPACING_MM, 110, 80)
    assert low[inside].std() / full[inside].std() == pytest.approx(2, rel=0.06)
    assert abs(np.corrcoef(low[inside], full[inside])[0, 1]) < 0.06
    assert full[inside].std() == pytest.approx(
        scanner.own_noise(truth[0], np.random.default_rng(3))[inside].std(), rel=0.05
    )
