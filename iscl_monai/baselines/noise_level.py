"""How noisy a slice is, told from this slice alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.noise import FEWEST_VOXELS, NEIGHBOURHOOD_PX, QUIETEST_PERCENT, noise_sigma_hu

QUIETEST_TO_TYPICAL = 1.15
"""The quietest tenth of 9x9 neighbourhoods lies below the noise by chance: by 10 % in white noise, by 10 to 20 % in the
correlated noise of reconstructed slices. In between, so that both are right within 10 %."""


def noise_level_hu(slice_hu: npt.NDArray[np.floating]) -> float:
    """Estimate the noise of one slice.

    :func:`iscl_monai.quality.noise.noise_sigma_hu` looks for the quietest soft tissue; 1.15 times that is the typical
    noise. Where there is no soft tissue (a patch of bone, lung only), the same is looked for in the body, and where
    there is no body, in the whole slice. Noise varies over a slice; this is one number for all of it.

    Args:
        slice_hu: HU (row, column), finite, at least 9 pixels each way.

    Returns:
        Standard deviation in HU; 0 for a constant slice.
    """
    quietest_hu = noise_sigma_hu(slice_hu)
    if np.isnan(quietest_hu):
        quietest_hu = _quietest_anywhere_hu(np.asarray(slice_hu, np.float64))
    return QUIETEST_TO_TYPICAL * quietest_hu


def _quietest_anywhere_hu(slice_hu: npt.NDArray[np.float64]) -> float:
    edge = NEIGHBOURHOOD_PX // 2
    whole = (slice(edge, -edge), slice(edge, -edge))
    mean = ndimage.uniform_filter(slice_hu, NEIGHBOURHOOD_PX)[whole]
    mean_square = ndimage.uniform_filter(slice_hu**2, NEIGHBOURHOOD_PX)[whole]
    variance = np.maximum(mean_square - mean**2, 0)
    body = body_mask(slice_hu)[0][whole]
    inside = body if body.sum() >= FEWEST_VOXELS else np.ones_like(body)
    # uniform_filter keeps running sums: what is left of them in a constant slice is not noise.
    rounding = np.finfo(np.float64).eps * max(1.0, float(np.square(slice_hu).max())) * slice_hu.size
    quietest = float(np.percentile(variance[inside], QUIETEST_PERCENT))
    return float(np.sqrt(quietest)) if quietest > rounding else 0.0
