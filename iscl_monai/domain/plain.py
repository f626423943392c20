"""What images without Hounsfield units have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iscl_monai.domain.domain import Foreground, Panel
from iscl_monai.quality.noise import mean_shift_hu, residual_correlation

CT_ALONE: Mapping[str, Any] = {
    "skip": "none",  # the other skips go by the noise of soft tissue
    "keep_mean_px": 0,
    "zero_mean_weight": 0,
    "simulated_share": 0,
    "dead_leaves_share": 0,
    "lesions": 0,
    "structures": 0,
    "trust_hu": False,
}
"""Settings that speak of tissue, air, or noise without a mean, switched off."""


def everything(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The foreground where all of an image is one; (slice, row, column)."""
    return np.ones(images.shape, bool)


def panel_of(foreground: Foreground) -> Panel:
    """What is measured without a reference where no tissue says how loud noise is: mean shift, and lost structure.

    Args:
        foreground: where it is measured.
    """

    def panel(before: Tensor, after: Tensor) -> dict[str, float]:
        mask = foreground(before.numpy())
        lost = residual_correlation(before, after, mask=mask)
        return {
            "shift_from_input_hu": mean_shift_hu(after, before, mask=mask),
            "residual_correlation": lost.image,
            "residual_edges": lost.edges,
        }

    return panel
