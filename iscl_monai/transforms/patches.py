"""Training patches, cut from where a body is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.transform import RandomizableTransform
from torch import Tensor
from torch.nn.functional import interpolate

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.transforms.volumes import BODY_GRID_PX, Item, plain

LEAST_COARSER = 1.3
"""Averaging down by less blurs more than it coarsens."""


class RandBodyPatchd(RandomizableTransform, MapTransform):
    """One square patch of one slice, from the body rather than from the air around it.

    A place is drawn evenly over all slices and positions and taken with a chance that grows with its share of
    body, so that skin and air keep their place but do not fill the batches.

    Args:
        keys: images (1, row, column, slice) with ``<key>_body`` beside them.
        patch_size: side in pixels.
        least_body: places with a smaller share of body are drawn again.
        tries: after so many the best place seen is taken.
        coarsest: every second patch is cut up to so many times as large, and averaged down to its size: pixels of
            other scanners and bodies, and images that are quieter and sharper than the scans are. 1: none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        patch_size: int = 64,
        least_body: float = 0.5,
        tries: int = 40,
        coarsest: float = 1.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self)
        if patch_size < 16:
            raise ConfigRefusal(f"patch_size={patch_size}", allowed="16 or more", cure="the authors use 64")
        self.patch_size = patch_size
        self.least_body = least_body
        self.tries = tries
        self.coarsest = coarsest

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Cut the patch out of every key; (1, patch_size, patch_size), HU."""
        cut = dict(data)
        for key in self.key_iterator(cut):
            image = plain(cut[key])
            size = self._size(min(image.shape[1:3]))
            row, column, slice_ = self._place(image.shape, cut.pop(f"{key}_body"), cut.get("image_path", key), size)
            patch = image[:, row : row + size, column : column + size, slice_].float()
            cut[key] = patch if size == self.patch_size else _averaged(patch, self.patch_size)
        return cut

    def _size(self, largest: int) -> int:
        """Side of the square to cut."""
        if self.coarsest <= 1 or self.R.random_sample() < 0.5:
            return self.patch_size
        size = int(self.patch_size * self.R.uniform(min(LEAST_COARSER, self.coarsest), self.coarsest))
        return max(self.patch_size, min(size, largest))

    def _place(self, shape: Sequence[int], body: Any, name: Any, size: int) -> tuple[int, int, int]:
        rows, columns, slices = shape[1:]
        if min(rows, columns) < self.patch_size:
            raise ImageRefusal(
                f"{name}: slices of {rows}x{columns} pixels",
                allowed=f"at least the patch size, {self.patch_size}",
                cure="train with a smaller patch_size or leave this scan out",
            )
        best, best_share = (0, 0, 0), -1.0
        for _ in range(self.tries):
            row = int(self.R.randint(rows - size + 1))
            column = int(self.R.randint(columns - size + 1))
            slice_ = int(self.R.randint(slices))
            share = self._share(body, row, column, slice_, size)
            if share > best_share:
                best, best_share = (row, column, slice_), share
            if share >= max(self.least_body, self.R.random_sample()):
                break
        return best

    def _share(self, body: Any, row: int, column: int, slice_: int, size: int) -> float:
        rows = slice(row // BODY_GRID_PX, -(-(row + size) // BODY_GRID_PX))
        columns = slice(column // BODY_GRID_PX, -(-(column + size) // BODY_GRID_PX))
        return float(body[rows, columns, slice_].mean())


def _averaged(patch: Tensor, size: int) -> Tensor:
    """(1, rows, columns) down to (1, size, size), each pixel the mean of what it covers."""
    return interpolate(patch[None], size=(size, size), mode="bilinear", antialias=True)[0]
