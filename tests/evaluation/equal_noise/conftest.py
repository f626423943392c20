"""A made-up scan for methods at equal noise: flat organs, white noise, and denoisers whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.evaluation.equal_noise.slices import NoisyScan
from iscl_monai.inference import ModelIdentity

NOISE_HU = 20.0
SIDE_PX, SLICES = 160, 4
Image = NDArray[np.float32]


class Known:
    """A denoiser made of a function from image to image, HU."""

    device = torch.device("cpu")
    identity = ModelIdentity("known", "0", "")

    def __init__(self, name: str, denoise: Callable[[Image], Image]) -> None:
        self.name, self._denoise = name, denoise

    @property
    def parameters(self) -> dict[str, str]:
        return {"known": self.name}

    def change_hu(self, slice_hu: NDArray[np.floating]) -> Image:
        image = np.asarray(slice_hu, np.float32)
        return (self._denoise(image) - image).astype(np.float32)


def truth_of(index: int) -> Image:
    """A body of soft tissue with a brighter organ, another one in each slice, in air; (row, column)."""
    rows, columns = np.ogrid[:SIDE_PX, :SIDE_PX]
    body = np.hypot(rows - 80, columns - 80) < 76
    organ = np.hypot(rows - 60 - 2 * index, columns - 60) < 12
    return ndimage.gaussian_filter(np.where(body, np.where(organ, 90.0, 40.0), -1000.0), 0.7).astype(np.float32)


@pytest.fixture(scope="session")
def scan() -> NoisyScan:
    """White noise of 20 HU on a known truth."""
    truth = np.stack([truth_of(index) for index in range(SLICES)])
    noise = np.random.default_rng(0).normal(0, NOISE_HU, truth.shape).astype(np.float32)
    return NoisyScan(
        patient="A", group="truth-random-anatomy", noisy_hu=truth + noise, scene_hu=truth, spacing_mm=(0.7, 0.7)
    )


def blur(sigma_px: float) -> Known:
    """A Gaussian."""
    return Known(f"blur {sigma_px}", lambda image: ndimage.gaussian_filter(image, sigma_px, mode="nearest"))


def identity() -> Known:
    """Nothing is done."""
    return Known("identity", lambda image: image)


def eraser() -> Known:
    """A wide median: small lesions are gone, edges stay."""
    return Known("median", lambda image: ndimage.median_filter(image, 11, mode="nearest"))


def even_noise(scan: NoisyScan) -> Known:
    """The truth, and the size of the noise: for the noise and its negative the same, so their difference has none."""
    middle = NOISE_HU * np.sqrt(2 / np.pi)

    def denoise(image: Image) -> Image:
        truth = min(scan.scene_hu, key=lambda scene: float(np.abs(scene - image)[::3, ::3].sum()))
        return (truth + np.abs(image - truth) - middle).astype(np.float32)

    return Known("even", denoise)


def disc_finder(scan: NoisyScan) -> Known:
    """An honest denoiser that knows what lesions look like: where one may be, it doubles it."""
    half = oracle(scan, 0.5)

    def denoise(image: Image) -> Image:
        output = image + half.change_hu(image)
        seen = output - ndimage.median_filter(output, 15, mode="nearest")
        like_disc = ndimage.gaussian_filter(seen, 1.5)
        return (output + np.where(np.abs(like_disc) > 8, like_disc, 0)).astype(np.float32)

    return Known("finder", denoise)


def oracle(scan: NoisyScan, share: float = 1.0) -> Known:
    """Takes a share of the noise away, which it knows by heart; lesions stay as they are."""
    noises = [sign * noise for noise in scan.noisy_hu - scan.scene_hu for sign in (1, -1)]
    corner = (slice(6), slice(6))  # air in each slice, so what it shows is noise

    def denoise(image: Image) -> Image:
        found = min(noises, key=lambda noise: float(np.abs(image[corner] + 1000 - noise[corner]).sum()))
        return (image - np.float32(share) * found).astype(np.float32)

    return Known(f"oracle {share}", denoise)
