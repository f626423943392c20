"""What a denoiser paints that is neither in the object nor in its input, counted in blobs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.evaluation.qa.figures import InventionFigures
from iscl_monai.evaluation.qa.phantom import Phantom
from iscl_monai.evaluation.qa.regions import flat_parts
from iscl_monai.quality.hallucination import hallucinations

BLOB_MM = 3.0
SINGLE_MM = (3.0, 6.0, 10.0)
"""Full width at half maximum of what is looked for in single outputs."""

SINGLE_DEVIATIONS, SINGLE_HU = 4.5, 5.0
"""A blob of a single output lies so many standard deviations of the input off the truth, and so much."""

FWHM = float(np.sqrt(8 * np.log(2)))

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def invention(phantom: Phantom, name: str, before_hu: Volume, after_hu: Volume) -> InventionFigures:
    """Blobs against the truth in flat parts inside the object and away from signals: in the mean, and in each output.

    Those of the input are counted, too: where few photons arrive, the scan itself is wrong. A shift of everything is
    seen in the rods and is no blob.

    Args:
        phantom: what was scanned.
        name: of the module.
        before_hu: input, HU (realisation, row, column).
        after_hu: output, likewise.
    """
    module = phantom.modules[name]
    flat = flat_parts(phantom, name)
    shifted = [_without_shift(scans_hu, module.truth_hu, flat) for scans_hu in (before_hu, after_hu)]
    before, after = (
        hallucinations(
            scans_hu[:, None],
            module.truth_hu[None],
            pixel_spacing_mm=phantom.pixel_spacing_mm,
            blob_mm=BLOB_MM,
            flat=flat[None],
        )
        for scans_hu in shifted
    )
    singles = _singles([scans_hu - module.truth_hu for scans_hu in shifted], flat, phantom.spacing_mm)
    return InventionFigures(
        module=name,
        before=len(before.blobs),
        after=len(after.blobs),
        low=after.low,
        high=after.high,
        single_before=singles[0],
        single_after=singles[1],
    )


def _without_shift(scans_hu: Volume, truth_hu: npt.NDArray[np.float32], flat: Mask) -> Volume:
    shifted: Volume = scans_hu - np.float32(np.median(scans_hu.mean(axis=0)[flat] - truth_hu[flat]))
    return shifted


def _singles(errors: Sequence[Volume], flat: Mask, spacing_mm: float) -> list[float]:
    """Blobs per scan that the noise of the input would hardly ever show, mean over scans; of input and output.

    The errors are smoothed to the size of what is looked for, and compared with how much the input's errors, smoothed
    alike, scatter at that place.
    """
    found = [np.zeros(one.shape, np.bool_) for one in errors]
    for blob_mm in SINGLE_MM:
        sigma_px = blob_mm / FWHM / spacing_mm
        smooth = [ndimage.gaussian_filter(one, (0, sigma_px, sigma_px)) for one in errors]
        scatter = np.sqrt(ndimage.gaussian_filter(smooth[0].var(axis=0, ddof=1), 3 * sigma_px))
        for blobs, one in zip(found, smooth, strict=True):
            blobs |= (np.abs(one) > np.maximum(SINGLE_DEVIATIONS * scatter, SINGLE_HU)) & flat
    return [float(np.mean([ndimage.label(scan)[1] for scan in blobs])) for blobs in found]
