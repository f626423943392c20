"""A slice as one 8-bit picture from which a browser shows every Hounsfield window.

The levels lie densely where windows are narrow and far apart where they are wide, so that no window of
:data:`iscl_monai.report.viewer.WINDOWS` shows a grey more than :data:`LARGEST_GREY_ERROR` off. Differences have steps
of 1 HU, local noise of half a HU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iscl_monai.hu import HUWindow

_PARTS = ((-1024, -160, 27), (-160, -60, 4), (-60, -20, 2), (-20, 100, 1), (100, 240, 4), (240, 1488, 52))
LEVELS_HU: NDArray[np.float32] = np.concatenate([np.arange(*part, dtype=np.float32) for part in _PARTS])
"""HU of each of the 256 grey values of a picture, ascending."""
_BETWEEN_HU = (LEVELS_HU[1:] + LEVELS_HU[:-1]) / 2
REACH_HU = 127
NOISE_STEP_HU = 0.5
LARGEST_GREY_ERROR = 4
"""Of 255, in the windows of the viewer: too little to be seen."""


def levels(image_hu: NDArray[Any]) -> NDArray[np.uint8]:
    """The nearest of :data:`LEVELS_HU` for each pixel, as its index.

    Args:
        image_hu: HU, any shape; what lies beyond the levels becomes the first or the last.
    """
    places = np.searchsorted(_BETWEEN_HU, np.asarray(image_hu, np.float32), side="right")
    return np.asarray(places, np.uint8)


def difference_levels(difference_hu: NDArray[Any]) -> NDArray[np.uint8]:
    """A difference in steps of 1 HU, with 0 HU at 128.

    Args:
        difference_hu: HU, any shape; what lies beyond 127 HU becomes 127 HU.
    """
    return np.asarray(np.rint(np.clip(difference_hu, -REACH_HU, REACH_HU)) + REACH_HU + 1, np.uint8)


def greys(window: HUWindow) -> NDArray[np.float32]:
    """Grey, 0 black to 1 white, of each level of :func:`levels` in a window; shape (256,)."""
    return np.asarray((window.to_network(LEVELS_HU) + 1) / 2, np.float32)


def difference_greys(reach_hu: float) -> NDArray[np.float32]:
    """Grey of each level of :func:`difference_levels`: black at minus ``reach_hu``, white at plus; shape (256,)."""
    difference_hu = np.arange(256, dtype=np.float32) - REACH_HU - 1
    return np.asarray(np.clip((difference_hu + reach_hu) / (2 * reach_hu), 0, 1), np.float32)


def noise_levels(sigma_hu: NDArray[Any]) -> NDArray[np.uint8]:
    """A standard deviation in steps of :data:`NOISE_STEP_HU`.

    Args:
        sigma_hu: HU, any shape; what lies beyond 127.5 HU becomes 127.5 HU.
    """
    return np.asarray(np.rint(np.clip(np.asarray(sigma_hu) / NOISE_STEP_HU, 0, 255)), np.uint8)


def noise_greys(reach_hu: float) -> NDArray[np.float32]:
    """Grey of each level of :func:`noise_levels`: black at 0, white at ``reach_hu``; shape (256,)."""
    return np.asarray(np.clip(np.arange(256, dtype=np.float32) * NOISE_STEP_HU / reach_hu, 0, 1), np.float32)
