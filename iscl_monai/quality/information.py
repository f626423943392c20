"""Visual information fidelity (VIF): the share of a scene's information that an image still holds.

H. R. Sheikh and A. C. Bovik, "Image information and visual quality", IEEE Trans. Image Processing 15(2), 2006, in its
pixel domain, over four scales, as torchmetrics has it and LDCT-Bench calls it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.hu import HUWindow

VISUAL_NOISE_HU2 = 2.0
"""``sigma_n_sq`` of LDCT-Bench: the variance of the noise of the eye, in HU^2."""

SMALLEST_PX = 41
"""Below, the coarsest of the four scales has no pixel."""


def visual_information(image_hu: NDArray[Any], scene_hu: NDArray[Any], *, window: HUWindow) -> float:
    """How much of the information of ``scene_hu`` is in ``image_hu``. Not symmetric.

    In float64: in float32 the variances are differences of squares near 4e6 HU^2, and lose up to 0.5 HU^2 beside the
    2 HU^2 of ``sigma_n_sq``. On slices of patients LDCT-Bench's float32 gives the same within 1e-5.

    Args:
        image_hu: HU (row, column), finite.
        scene_hu: HU of the same shape.
        window: HU both are clipped to.

    Returns:
        1 for the scene itself, 0 for nothing of it; more than 1 if contrast is enhanced. NaN if the scene is one flat
        value.

    Raises:
        ImageRefusal: if the shapes differ, or a side has fewer than 41 pixels.
        ConfigRefusal: if torchmetrics is not installed.
    """
    if np.shape(image_hu) != np.shape(scene_hu) or np.ndim(image_hu) != 2 or min(np.shape(image_hu)) < SMALLEST_PX:
        raise ImageRefusal(
            f"slices of shapes {np.shape(image_hu)} and {np.shape(scene_hu)} for VIF",
            allowed=f"two slices of one shape, at least {SMALLEST_PX} pixels each way",
            cure="measure whole slices, or use a protocol without VIF, such as hu-frame",
        )
    import torch

    # Counted from black up, as grey levels do.
    image, scene = (
        torch.from_numpy(np.clip(np.asarray(hu, np.float64), window.lower, window.upper) - window.lower)[None, None]
        for hu in (image_hu, scene_hu)
    )
    return float(_torchmetrics()(image, scene, sigma_n_sq=VISUAL_NOISE_HU2))


def _torchmetrics() -> Any:
    """Imported late: an extra, and slow to import."""
    try:
        from torchmetrics.functional.image import visual_information_fidelity
    except ImportError as error:
        raise ConfigRefusal(
            f"VIF without torchmetrics ({error})",
            allowed="torchmetrics 1.4 or newer",
            cure='pip install "iscl-monai[evaluate]", or choose a protocol without VIF, such as hu-body',
        ) from error
    return visual_information_fidelity
