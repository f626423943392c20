"""What part of the body a scan shows, as far as its image tells: how large the body is, and what it consists of.

BodyPartExamined is often missing or wrong. The skull makes a head of bone to an eighth and more, which no slice of a
trunk or limb is; lungs make a chest; a body of 50 cm2 is a calf, an arm or a child. Means of small squares are looked
at, so that noise changes nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.quality.body import SKIN_HU, SMALLEST_PART
from iscl_monai.quality.regions import REGIONS

SQUARE_MM = 3.0
"""Side of the squares: noise of 90 HU averages out, and the skull, of 6 mm, does not."""
FEWEST_SQUARES = 50
"""Of body, in a slice that is looked at: 5 cm2."""
LEAST_PERCENT = 1.0
"""Smaller shares are as good as none, and their ratio means nothing."""
TISSUES = {"lung": "lung_percent", "fat": "fat_percent", "soft tissue": "soft_percent", "bone": "bone_percent"}
COMPOSITION = ("body_cm2", *TISSUES.values())

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


def composition_of(slices_hu: Sequence[Image], pixel_mm: float) -> dict[str, float]:
    """Area of the body and shares of its tissues: medians over a few slices of a scan.

    Args:
        slices_hu: HU (row, column) each.
        pixel_mm: side of a pixel.

    Returns:
        ``body_cm2``, and ``lung_percent``, ``fat_percent``, ``soft_percent``, ``bone_percent`` of it, by the HU of
        :data:`iscl_monai.quality.regions.REGIONS`, at least ``LEAST_PERCENT`` each; empty where no slice shows a body.
    """
    side = max(1, round(SQUARE_MM / pixel_mm))
    measured = [one for image in slices_hu if (one := _of_slice(_squares(image, side))) is not None]
    if not measured:
        return {}
    area, *shares = np.median(measured, axis=0).tolist()
    percent = [max(LEAST_PERCENT, 100 * share) for share in shares]
    return dict(zip(COMPOSITION, (area * (side * pixel_mm) ** 2 / 100, *percent), strict=True))


def _of_slice(mean_hu: Image) -> list[float] | None:
    """Squares of body, and shares of them; None where there is no body."""
    body = _body(mean_hu) if mean_hu.size else np.zeros(mean_hu.shape, np.bool_)
    count = int(body.sum())
    if count < FEWEST_SQUARES:
        return None
    inside = mean_hu[body]
    tissues = [region for region in REGIONS if region.name in TISSUES]
    return [count, *(float(np.mean((inside >= one.lowest_hu) & (inside < one.highest_hu))) for one in tissues)]


def _squares(image_hu: Image, side: int) -> Image:
    """Means of squares of pixels (row, column); what is left over at two sides is cut off."""
    rows, columns = (length // side for length in image_hu.shape)
    cut = image_hu[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return np.asarray(cut.mean(axis=(1, 3)), np.float32)


def _body(mean_hu: Image) -> Mask:
    """Tissue and the holes in it, without tables and blankets, which are a square or two thick.

    :func:`iscl_monai.quality.body.body_of_slice` is more exact, and takes a hundred times as long.
    """
    tissue = np.pad(mean_hu > SKIN_HU, 2, mode="edge")
    labels, count = ndimage.label(ndimage.binary_opening(tissue, np.ones((3, 3))))
    if not count:
        return np.zeros(mean_hu.shape, np.bool_)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes > 0) & (sizes >= SMALLEST_PART * sizes.max())
    return np.asarray(ndimage.binary_fill_holes(kept[labels])[2:-2, 2:-2], np.bool_)
