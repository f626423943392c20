"""The error to the truth, measured or estimated, sees what PSNR against a noisy reference cannot see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from iscl_monai.quality.truth_error import estimated_error_hu2, root_hu, truth_error_hu2

DOSE, OWN_HU = 0.25, 10.0
ADDED_HU = OWN_HU * math.sqrt((1 - DOSE) / DOSE)
SIZE = 320


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, reference and noisy image of a body with structure: HU (row, column)."""
    source = np.random.default_rng(seed)
    truth = 40 + 30 * ndimage.gaussian_filter(source.standard_normal((SIZE, SIZE)), 3) * 6
    own, added = (ndimage.gaussian_filter(source.standard_normal((SIZE, SIZE)), 0.7) for _ in range(2))
    reference = truth + OWN_HU * own / own.std()
    return truth, reference, reference + ADDED_HU * added / added.std()


def blended(truth: np.ndarray, noisy: np.ndarray, left: float, blurred: bool) -> np.ndarray:
    """A denoiser that leaves a share of the noise, and may blur the anatomy."""
    anatomy = ndimage.gaussian_filter(truth, 3) if blurred else truth
    return anatomy + left * (noisy - truth)


@pytest.mark.parametrize("left", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("blurred", [False, True])
def test_the_estimate_is_the_error(left: float, blurred: bool) -> None:
    truth, reference, noisy = images()
    denoised = blended(truth, noisy, left, blurred)
    expected = truth_error_hu2(denoised, truth)
    assert estimated_error_hu2(denoised, noisy, reference, DOSE) == pytest.approx(expected, rel=0.06, abs=4)


def test_it_prefers_the_truth_where_the_reference_prefers_noise() -> None:
    truth, reference, noisy = images()
    perfect, lazy = (blended(truth, noisy, left, False) for left in (0.0, DOSE))
    against_reference = [float(((one - reference) ** 2).mean()) for one in (perfect, lazy)]
    assert against_reference[1] < 0.85 * against_reference[0], "a reference with noise rewards noise"
    estimated = [estimated_error_hu2(one, noisy, reference, DOSE) for one in (perfect, lazy)]
    assert estimated[0] < estimated[1] - 15


def test_only_the_body_counts_and_what_cannot_be_known_is_not() -> None:
    truth, reference, noisy = images()
    for image in (truth, reference, noisy):
        image[:, :60] = -1000
    wrong = truth.copy()
    wrong[:, :50] = -900
    assert truth_error_hu2(wrong, truth) == 0
    assert math.isnan(estimated_error_hu2(reference, reference, reference, DOSE))
    air = np.full((32, 32), -1000.0)
    assert math.isnan(truth_error_hu2(air, air))
    assert math.isnan(estimated_error_hu2(air, air, air, DOSE))


def test_a_root_keeps_its_sign() -> None:
    assert (root_hu(9.0), root_hu(-4.0)) == (3.0, -2.0)
