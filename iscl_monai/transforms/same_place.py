"""Images that belong together, voxel by voxel at the same place.

Files count their axes differently: DICOM slices come as (row, column, slice), a NIfTI file mostly as (column, row,
slice), some from the other end. Of square slices no shape would tell that two of them lie across each other.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation

from iscl_monai.dicom.geometry import ALIGNED_MM, corners_apart_mm
from iscl_monai.errors import DatalistRefusal
from iscl_monai.transforms.volumes import Item


class SamePlaced(MapTransform):
    """All images on the axes of the first; see :func:`on_axes_of`.

    Args:
        keys: of images in HU (1, row, column, slice); the first one's axes stay.
    """

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """Turn the others, or refuse them.

        Raises:
            DatalistRefusal: images of one shape at different places.
        """
        placed = dict(data)
        first, *others = self.key_iterator(placed)
        for key in others:
            placed[key] = on_axes_of(placed[first], placed[key])
        return placed


def on_axes_of(first: Any, other: Any) -> Any:
    """An image with its axes in the order and directions of another's, by the affines of both.

    Args:
        first: a ``MetaTensor``, (1, i, j, k); its affine is RAS.
        other: likewise. Images without affine are given back as they are.

    Returns:
        ``other``, its axes permuted and flipped where needed; other shapes are left to whoever compares them.

    Raises:
        DatalistRefusal: of one shape, but a corner lies more than 0.1 mm away.
    """
    if not isinstance(first, MetaTensor) or not isinstance(other, MetaTensor):
        return other
    codes = _codes(first)
    if _codes(other) != codes:
        other = Orientation(axcodes=codes, labels=None)(other)
    if first.shape == other.shape:
        _check_corners(first, other)
    return other


def _codes(image: MetaTensor) -> str:
    """Where the axes run, such as ``PLS``."""
    return "".join(nib.aff2axcodes(np.asarray(image.affine)))  # type: ignore[no-untyped-call]


def _check_corners(first: MetaTensor, other: MetaTensor) -> None:
    away_mm = corners_apart_mm(np.asarray(first.affine), np.asarray(other.affine), first.shape[1:])
    if away_mm > ALIGNED_MM:
        one, two = (image.meta.get("filename_or_obj", "an image") for image in (first, other))
        raise DatalistRefusal(
            f"{two} lies {away_mm:.1f} mm away from {one}",
            allowed=f"the same places, within {ALIGNED_MM:g} mm",
            cure="pair a scan with its own reference or truth, not resampled and not cropped",
        )
