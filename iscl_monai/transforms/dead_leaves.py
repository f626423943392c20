"""Clean patches of no patient: sharp edges without any noise, which no scan can show."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.transform import RandomizableTransform
from numpy.typing import NDArray

from iscl_monai.errors import ConfigRefusal
from iscl_monai.transforms.volumes import Item

LEAVES = 80
RADII_PX = (1.0, 40.0)
SOFTNESS_PX = (0.02, 0.8)
"""Of an edge, evenly in the logarithm: from stairs of whole pixels, which no scanner draws, to what most make of it."""
CORNERS = (2.0, 2.0, 8.0)
"""Exponents of the outlines: two thirds are ellipses, a third has corners."""
FADED = 14.0
"""Softnesses beyond an outline where a leaf covers less than a millionth: of bone in air, 0.002 HU."""
STEEPEST_HU = 4.0
"""Largest change within a leaf, in HU per pixel: some organs are shaded."""


class RandDeadLeavesd(RandomizableTransform, MapTransform):
    """Shapes that lie on each other as fallen leaves do, painted in the Hounsfield units of the patch they replace.

    A clean pool has noise of its own, and no edge sharper than its scanner draws. Of these pictures all is known:
    whatever is added to them is noise, and every edge has to stay. Sizes are drawn so that a picture has about as many
    small shapes as photographs and organs have (density of the radius ``r^-2``).

    A. B. Lee, D. Mumford, J. Huang, International Journal of Computer Vision 41:35-59, 2001, for the model;
    R. Achddou, Y. Gousseau, S. Ladjal, SSVM 2021, for denoisers that learn from it.

    Args:
        keys: patches in HU (1, row, column).
        share: of the patches that are replaced, 0 to 1.

    Raises:
        ConfigRefusal: a share that is none.
    """

    def __init__(self, keys: KeysCollection, *, share: float) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=share)
        if not 0 <= share <= 1:
            raise ConfigRefusal(f"dead_leaves_share={share}", allowed="0 to 1", cure="0.2 is a good start")

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Replace the patches of this draw; float32 HU of the same shape."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            if self.R.random_sample() < self.prob:
                changed[key] = torch.from_numpy(self._picture(changed[key][0].numpy()))[None]
        return changed

    def _picture(self, patch_hu: NDArray[np.float32]) -> NDArray[np.float32]:
        picture = np.full(patch_hu.shape, self._level(patch_hu), np.float32)
        for _ in range(LEAVES):
            self._drop_leaf(picture, self._level(patch_hu))
        return picture

    def _level(self, patch_hu: NDArray[np.float32]) -> float:
        """HU of some place of the patch; two of one organ differ by its noise, and that is a faint edge."""
        return float(self.R.choice(patch_hu.ravel()))

    def _drop_leaf(self, picture: NDArray[np.float32], level_hu: float) -> None:
        size = len(picture)
        radius = self._radius()
        row, column = self.R.uniform(-radius / 2, size + radius / 2, 2)
        stretch, turn = self.R.uniform(0.6, 1.0), self.R.uniform(0, np.pi)
        softness, corners = np.exp(self.R.uniform(*np.log(SOFTNESS_PX))), self.R.choice(CORNERS)
        steep, uphill = self.R.uniform(0, STEEPEST_HU) * (self.R.random_sample() < 0.3), self.R.uniform(0, 2 * np.pi)
        # Corners reach further than the radius, and a soft edge fades for long: what the box cuts off is no HU.
        reach = np.sqrt(2) * (radius + FADED * softness / stretch)
        rows, columns = (slice(max(0, int(at - reach)), int(max(0, at + reach)) + 2) for at in (row, column))
        below = picture[rows, columns]
        if below.size == 0:
            return
        down, right = np.ogrid[: below.shape[0], : below.shape[1]]
        down, right = down + rows.start - row, right + columns.start - column
        along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
        outline = (np.abs(along / radius) ** corners + np.abs(across / (stretch * radius)) ** corners) ** (1 / corners)
        cover = 1 / (1 + np.exp(np.clip((outline - 1) * stretch * radius / softness, -30, 30)))
        shade = steep * (np.cos(uphill) * right + np.sin(uphill) * down)
        below += cover * (level_hu + shade - below)

    def _radius(self) -> float:
        """Of density ``r^-2`` between the least and the largest."""
        least, largest = RADII_PX
        return float(1 / self.R.uniform(1 / largest, 1 / least))
