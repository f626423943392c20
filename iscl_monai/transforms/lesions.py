"""What is put into training patches, so that a denoiser learns to leave it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.transform import RandomizableTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import avg_pool2d

from iscl_monai.transforms.volumes import Item

TISSUE_HU = -200.0
"""Lesions are put into what is denser than this."""
STRUCTURES: dict[str, Any] = {"diameters_px": (2.0, 40.0), "contrasts_hu": (80.0, 900.0), "texture_share": 0.0}
"""As strong as bone, contrast medium and air: edges that must not be taken for noise."""


class RandLesionsd(RandomizableTransform, MapTransform):
    """Faint lesions and patches of texture put into training patches, so that a denoiser learns to leave them.

    Discs and ellipses with soft edges, bright or dark, and fields of fine texture, in tissue alone; the same in every
    key. Small and faint ones are drawn as often as large and strong ones (evenly in the logarithm).

    Args:
        keys: patches in HU (1, row, column).
        most: largest number of them in a patch; 0 to so many, evenly.
        diameters_px: least and largest.
        contrasts_hu: least and largest, either sign.
        texture_share: share of them that are texture instead, whose standard deviation is a quarter of the contrast.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        most: int = 6,
        diameters_px: tuple[float, float] = (1.2, 10.0),
        contrasts_hu: tuple[float, float] = (6.0, 80.0),
        texture_share: float = 0.2,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self)
        self.most = most
        self.diameters_px = diameters_px
        self.contrasts_hu = contrasts_hu
        self.texture_share = texture_share

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Add the lesions of this draw to every key."""
        changed = dict(data)
        keys = list(self.key_iterator(changed))
        size = int(changed[keys[0]].shape[-1])
        added = np.zeros((size, size))
        for _ in range(int(self.R.randint(self.most + 1))):
            self._add_one(added)
        lesions = torch.from_numpy(np.asarray(added, np.float32))[None]
        for key in keys:
            tissue = avg_pool2d(changed[key].mean(0, keepdim=True), 3, 1, 1, count_include_pad=False) > TISSUE_HU
            changed[key] = changed[key] + lesions * tissue
        return changed

    def _add_one(self, patch: NDArray[np.float64]) -> None:
        diameter = self._between(*self.diameters_px)
        contrast = self._between(*self.contrasts_hu) * self.R.choice((-1, 1))
        row, column = self.R.uniform(0, len(patch), 2)
        stretch, turn = self.R.uniform(0.7, 1.4), self.R.uniform(0, np.pi)
        softness = self.R.uniform(0.3, 0.8)  # pixels: about what scanners make of a sharp edge
        texture = self.R.random_sample() < self.texture_share
        radius = 3 * diameter if texture else diameter / 2
        reach = 1.43 * radius + 8 * softness  # 1 / 0.7, and where nothing is left of it
        rows, columns = (slice(max(0, int(at - reach)), int(at + reach) + 2) for at in (row, column))
        window = patch[rows, columns]
        down, right = np.ogrid[: window.shape[0], : window.shape[1]]
        down, right = down + rows.start - row, right + columns.start - column
        along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
        disc = 1 / (1 + np.exp(np.clip((np.hypot(along * stretch, across / stretch) - radius) / softness, -30, 30)))
        if texture:
            field = ndimage.gaussian_filter(self.R.standard_normal(window.shape), diameter / 4)
            disc *= np.sign(contrast) / 4 * field / max(float(field.std()), 1e-9)
        window += contrast * disc

    def _between(self, least: float, largest: float) -> float:
        return float(np.exp(self.R.uniform(np.log(least), np.log(largest))))
