"""Filters for images without Hounsfield units: what a network for micrographs or MR has to beat.

Each has one strength. There is no noise level to tell it from (film and charge are not white), so the best of a few
is taken on the validation images of a fold, never on its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.baselines.bm3d import bm3d
from iscl_monai.baselines.filters import restoration

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Yardstick:
    """A filter.

    Args:
        name: as asked for.
        title: as printed.
        strengths: to choose from.
        apply: image (row, column), strength, and the range of the values from black to white, to an image.
    """

    name: str
    title: str
    strengths: tuple[float, ...]
    apply: Callable[[Image, float, float], Image]


def flattened(image: Image, sigma_px: float, width: float) -> Image:
    """Background flattening: divided by its own blur, which film multiplies; its mean stays."""
    background = ndimage.gaussian_filter(image, sigma_px, mode="reflect")
    return np.asarray(image * (image.mean() / np.maximum(background, width / 255)), np.float32)


def levelled(image: Image, sigma_px: float, width: float) -> Image:
    """The same by subtraction, which charge adds."""
    return np.asarray(image - ndimage.gaussian_filter(image, sigma_px, mode="reflect") + image.mean(), np.float32)


def row_median(image: Image, sigma_rows: float, width: float) -> Image:
    """Each row moved so that its median follows the smooth course of all medians: drift from row to row goes."""
    medians = np.median(image, axis=1)
    return np.asarray(image - (medians - ndimage.gaussian_filter1d(medians, sigma_rows))[:, None], np.float32)


def blurred(image: Image, sigma_px: float, width: float) -> Image:
    """A Gaussian."""
    return np.asarray(ndimage.gaussian_filter(image, sigma_px, mode="reflect"), np.float32)


def nonlocal_means(image: Image, share: float, width: float) -> Image:
    """Non-local means of Buades, Coll, Morel (CVPR 2005): ``h`` as a share of the range."""
    shares = image / width
    filtered = restoration().denoise_nl_means(
        shares, patch_size=5, patch_distance=6, h=0.8 * share, sigma=share, fast_mode=True
    )
    return np.asarray(filtered * width, np.float32)


def block_matching(image: Image, share: float, width: float) -> Image:
    """BM3D (:mod:`iscl_monai.baselines.bm3d`), told white noise of a share of the range."""
    return np.asarray(bm3d(image, sigma=share * width), np.float32)


NOISE_SHARES = (0.02, 0.04, 0.08)

YARDSTICKS = {
    one.name: one
    for one in (
        Yardstick("flatten", "Flattening, by division", (20, 40, 80), flattened),
        Yardstick("level", "Flattening, by subtraction", (20, 40, 80), levelled),
        Yardstick("row-median", "Row median", (3, 6, 12), row_median),
        Yardstick("gaussian", "Gaussian filter", (0.5, 0.8, 1.2), blurred),
        Yardstick("nlm", "Non-local means", NOISE_SHARES, nonlocal_means),
        Yardstick("bm3d", "BM3D", NOISE_SHARES, block_matching),
    )
}
