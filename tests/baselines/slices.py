"""Slices whose noise and anatomy are known."""

from __future__ import annotations

import numpy as np


def phantom(side: int = 128) -> np.ndarray:
    """Air, a body with organs, a bone and a lung that vary gently, no noise."""
    row, column = np.mgrid[:side, :side] / side - 0.5
    image = np.full((side, side), -1000.0)
    body = np.hypot(row, column) < 0.46
    image[body] = (30 + 8 * row + 5 * column)[body]
    for down, right, radius, hu in [(-0.2, 0.1, 0.09, 70), (0.2, -0.2, 0.08, -80), (0.25, 0.1, 0.06, 700)]:
        image[np.hypot(row - down, column - right) < radius] = hu
    image[np.hypot((row + 0.05) / 1.6, column + 0.25) < 0.1] = -850
    return image.astype(np.float32)


def white_noise(sigma_hu: float, side: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma_hu, (side, side)).astype(np.float32)


def hann_noise(sigma_hu: float, side: int = 128, seed: int = 0) -> np.ndarray:
    """What filtered backprojection with a Hann kernel makes of noisy projections."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    kernel = np.sqrt(frequency) * np.where(frequency < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * frequency), 0)
    noise = np.fft.ifft2(np.fft.fft2(white_noise(1, side, seed)) * kernel).real
    return (noise * sigma_hu / noise.std()).astype(np.float32)
