"""How strong inserted noise is, as ``iscl_monai.scanner.dose.insert_noise`` defines it, from one slice of a kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iscl_monai.scanner.calibration import with_noise
from iscl_monai.scanner.texture import soft_tissue

Volume = NDArray[np.float32]


def noise_level_hu(added_hu: Volume, image_hu: Volume, spacing_mm: float) -> float:
    """The 10th percentile over soft tissue of the standard deviation of the noise added to an image.

    Only the noise's distribution in space comes from the virtual scanner (of any strength); how strong it is, is
    measured in all of the soft tissue.
    """
    planes = list(image_hu.astype(np.float32))
    scanner = with_noise(planes, spacing_mm=spacing_mm, noise_hu=10)
    tissue = soft_tissue(image_hu)
    variance = np.stack([scanner.expected_sigma_hu(plane) for plane in planes])[tissue] ** 2
    strength = (added_hu[tissue].astype(np.float64) ** 2 / variance).mean()
    return float(np.sqrt(np.percentile(variance, 10) * strength))
