"""What must not change an image: dose that is full already, where the border lies, and doing it again."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from iscl_monai.evaluation.qa.denoised import Denoising
from iscl_monai.evaluation.qa.figures import RobustnessFigures
from iscl_monai.inference.slice_denoiser import SliceDenoiser
from iscl_monai.quality.fidelity import body_mask

RANGE_HU = 2000.0
"""Of PSNR."""

AIR_HU = -1000.0
PADDED_PART, CROPPED_PART = 8, 16
"""So much of the side is put on, or cut off, at each border."""

MIDDLE_PART = 4
"""The border of the square that is compared lies so much of the side away from the image's."""

Slice = npt.NDArray[np.float32]
Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def robustness(
    denoiser: SliceDenoiser, slice_hu: Slice, full_dose: tuple[Volume, Volume], *, body: Mask | None = None
) -> RobustnessFigures:
    """Denoise one slice four times more, and compare; and what was done to scans at full dose.

    Args:
        denoiser: to check.
        slice_hu: noisy anatomy, HU (row, column).
        full_dose: input and output, HU (slice, row, column).
        body: bool of that shape, where the body is; None: it is looked for.
    """

    def denoised(image_hu: Slice) -> Slice:
        changed: Slice = Denoising(denoiser)("", image_hu[None], workers=1)[0]
        return changed

    first, again = denoised(slice_hu), denoised(slice_hu)
    rows, columns = (size // PADDED_PART for size in slice_hu.shape)
    padded = np.pad(slice_hu, ((rows, rows), (columns, columns)), constant_values=AIR_HU)
    padded_after = denoised(padded)[rows:-rows, columns:-columns]
    top, left = (size // CROPPED_PART for size in slice_hu.shape)
    cropped = slice_hu[top:-top, left:-left]
    cropped_after = np.full_like(slice_hu, np.nan)
    cropped_after[top:-top, left:-left] = denoised(cropped)
    change_hu, psnr_db = _change(*full_dose, body)
    return RobustnessFigures(
        full_dose_change_hu=change_hu,
        full_dose_psnr_db=psnr_db,
        padded_hu=_largest(_middle(padded_after) - _middle(first)),
        cropped_hu=_largest(_middle(cropped_after) - _middle(first)),
        repeat_hu=_largest(again - first),
    )


def _change(before_hu: Volume, after_hu: Volume, body: Mask | None) -> tuple[float, float]:
    """Mean absolute change over the body, and PSNR of output against input, both over all slices."""
    change = (after_hu - before_hu)[body_mask(before_hu) if body is None else body].astype(np.float64)
    square = float(np.mean(change**2))
    psnr_db = 10 * math.log10(RANGE_HU**2 / square) if square > 0 else math.inf
    return float(np.abs(change).mean()), psnr_db


def _middle(image: Slice) -> Slice:
    rows, columns = (size // MIDDLE_PART for size in image.shape)
    return image[rows:-rows, columns:-columns]


def _largest(difference: Slice) -> float:
    return float(np.abs(difference).max())
