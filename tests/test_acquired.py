"""The matrix that was acquired, of images that were filled up with zeros, and of images that were not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from iscl_monai.data.acquired import AcquiredMatrix, acquired_matrix

Images = list[NDArray[np.float32]]
SIGMA = 30.0


def head(seed: int, rows: int = 256, columns: int = 224) -> NDArray[np.float64]:
    """An ellipse of grains of all sizes in the dark, whose spectrum falls as that of a head does."""
    rng = np.random.default_rng(seed)
    down, across = fft.fftfreq(rows)[:, None], fft.fftfreq(columns)
    grains = fft.ifft2(fft.fft2(rng.standard_normal((rows, columns))) / (0.02 + np.hypot(down, across))).real
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(np.where(np.hypot(y / 0.8, x / 0.7) < 1, 600 + 120 * grains / grains.std(), 0))


def scan(share: tuple[float, float], *, white: bool = False, slices: int = 4) -> Images:
    """Magnitudes of which so much of k-space was acquired; noise of the whole matrix if it came afterwards (white)."""
    images = []
    for seed in range(slices):
        truth = head(seed)
        rng = np.random.default_rng(100 + seed)
        noise = SIGMA * (rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape))
        inside = AcquiredMatrix(*share).holds(*truth.shape)
        acquired = fft.ifft2(fft.fft2(truth if white else truth + noise) * inside)
        images.append(np.abs(acquired + noise if white else acquired).astype(np.float32))
    return images


@pytest.mark.parametrize("share", [(0.5, 0.75), (0.5, 1.0), (1.0, 0.6), (0.8, 0.4), (0.35, 0.35)])
def test_zeros_of_k_space_are_found(share: tuple[float, float]) -> None:
    found = acquired_matrix(scan(share), neighbours=(float(np.sinc(share[0])), float(np.sinc(share[1]))))
    assert (found.rows, found.columns) == pytest.approx(share, abs=0.03)


def test_a_whole_matrix_is_whole() -> None:
    assert acquired_matrix(scan((1, 1)), neighbours=(0.5, 0.5)).whole


def test_white_noise_was_not_filled_up() -> None:
    """Someone put noise on images that had been: their spectrum has the edge, but noise has none."""
    assert acquired_matrix(scan((0.5, 0.5), white=True), neighbours=(0.1, 0.1)).whole


def test_small_images_are_taken_as_they_are() -> None:
    small = [image[:12, :12] for image in scan((0.5, 0.5))]
    assert acquired_matrix(small, neighbours=(0.5, 0.5)).whole


def test_an_image_is_limited_to_what_was_acquired() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((96, 80)).astype(np.float32)
    matrix = AcquiredMatrix(0.5, 0.75)
    limited = matrix.limited(image)
    assert limited.dtype == np.float32
    assert np.var(limited) == pytest.approx(0.5 * 0.75, rel=0.1)
    np.testing.assert_allclose(matrix.limited(limited), limited, atol=1e-5)
    flat = np.full((96, 80), 300, np.float32)
    np.testing.assert_allclose(matrix.limited(flat), flat, rtol=1e-5)
    assert AcquiredMatrix().limited(image) is image


def test_a_limited_edge_rings_where_it_was_limited() -> None:
    image = np.zeros((64, 64), np.float32)
    image[:, 32:] = 1000
    down, across = AcquiredMatrix(0.5, 1).limited(image), AcquiredMatrix(1, 0.5).limited(image)
    np.testing.assert_allclose(down, image, atol=1e-2)
    assert 30 < np.abs(across - image)[:, 36:60].max() < 200
