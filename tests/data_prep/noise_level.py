"""How strong inserted noise is, by the definition of ``data_prep.dose``, from one slice of a kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.dose import ray_variance, scanner, soft_tissue
from data_prep.projector import backproject_variance

Volume = NDArray[np.float32]


def noise_level_hu(added_hu: Volume, image_hu: Volume, spacing_mm: float) -> float:
    """The 10th percentile over soft tissue of the standard deviation of the noise added to an image.

    Only the noise's distribution in space comes from the projector (for any number of photons); how strong it
    is, is measured in all of the soft tissue.
    """
    beam = scanner(image_hu.shape[1], image_hu.shape[2], spacing_mm)
    tissue = soft_tissue(image_hu)
    variance = backproject_variance(ray_variance(image_hu.astype(np.float32), beam), beam).numpy()[tissue]
    strength = (added_hu[tissue].astype(np.float64) ** 2 / variance).mean()
    return float(np.sqrt(np.percentile(variance, 10) * strength))
