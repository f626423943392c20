"""Whole volumes as they are cached, and the network's range."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from iscl_monai.domain.domain import Foreground
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import body_mask

Item = Mapping[Hashable, Any]
BODY_GRID_PX = 8


class HUWindowd(MapTransform):
    """HU to the network's range; the HU themselves stay beside it as ``<key>_hu``.

    Args:
        keys: images in HU, any shape and real dtype.
        hu_window: what maps to [-1, 1].
    """

    def __init__(self, keys: KeysCollection, hu_window: HUWindow) -> None:
        super().__init__(keys)
        self.hu_window = hu_window

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the window's view of every key, float32 in [-1, 1], and keep the HU, float32."""
        windowed = dict(data)
        for key in self.key_iterator(windowed):
            image_hu = windowed[key].float()
            windowed[f"{key}_hu"] = image_hu
            windowed[key] = self.hu_window.to_network(image_hu)
        return windowed


class CompactHUd(MapTransform):
    """HU as int16 where that loses nothing, as for almost all scanners: half the memory of float32."""

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Replace float images by int16 ones if every value is a whole number that fits."""
        compact = dict(data)
        for key in self.key_iterator(compact):
            image = compact[key]
            stored = image.round().clamp(-32768, 32767).to(torch.int16)
            if torch.equal(stored.to(image.dtype), image):
                compact[key] = stored
        return compact


class BodyFractiond(MapTransform):
    """Beside each image a coarse map of how much body there is, as ``<key>_body``.

    One value in [0, 1] per square of 8x8 pixels and slice, (rows / 8, columns / 8, slices), float32.

    Args:
        keys: images in HU (1, row, column, slice), or in the unit of another domain.
        foreground: what counts as body, of (slice, row, column).
    """

    def __init__(self, keys: KeysCollection, foreground: Foreground = body_mask) -> None:
        super().__init__(keys)
        self.foreground = foreground

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the map of every key; images are HU (1, row, column, slice)."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            mapped[f"{key}_body"] = _coarse(self.foreground(_slices_first(mapped[key])))
        return mapped


def _slices_first(image: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return plain(image)[0].permute(2, 0, 1).float().numpy()


def plain(image: Tensor) -> Tensor:
    """Without MONAI's metadata, which every operation would copy."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _coarse(body: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    slices, rows, columns = (size // grid for size, grid in zip(body.shape, (1, *2 * [BODY_GRID_PX]), strict=True))
    squares = body[:, : rows * BODY_GRID_PX, : columns * BODY_GRID_PX]
    squares = squares.reshape(slices, rows, BODY_GRID_PX, columns, BODY_GRID_PX)
    return np.asarray(squares.mean(axis=(2, 4), dtype=np.float32).transpose(1, 2, 0))
