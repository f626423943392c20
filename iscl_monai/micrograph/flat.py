"""Places where nothing was measured: padding of aligned stacks, masked and saturated areas."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_monai.micrograph.grey import Grey

FLAT_PX = 15
"""Side of the smallest square of one value that counts: noise makes no two of its pixels alike for long."""


def flat_places(grey: Grey) -> npt.NDArray[np.bool_]:
    """Which pixels lie in a square of :data:`FLAT_PX` that holds a single value.

    It looks no further than :data:`FLAT_PX`, so parts of an image answer as the whole does.

    Args:
        grey: (row, column).

    Returns:
        bool of the same shape.
    """
    even = ndimage.maximum_filter(grey, FLAT_PX) == ndimage.minimum_filter(grey, FLAT_PX)
    places: npt.NDArray[np.bool_] = ndimage.binary_dilation(even, np.ones((FLAT_PX, 1), bool))
    return np.asarray(ndimage.binary_dilation(places, np.ones((1, FLAT_PX), bool)))
