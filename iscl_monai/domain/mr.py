"""MR magnitude, in thousandths of each scan's own window: MR has no units."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from iscl_monai.domain.domain import Domain
from iscl_monai.domain.extent import SliceRange
from iscl_monai.domain.plain import CT_ALONE, everything, panel_of
from iscl_monai.errors import ConfigRefusal
from iscl_monai.magnitude import PERCENTILE, MagnitudeScan, read_magnitude
from iscl_monai.quality.protocol import MR_FRAME

PER_WINDOW = 1000.0
MEAN_PX = 5
"""Side of the squares of a slice whose means the window is a percentile of. Noise of 0.05 of the window moves that of
the single voxels by 0.5 to 2.6 %, that of the means by 0.2 to 0.3 % (3 T and T1w scans, 5 of them): noisy and clean
scans must have one scale."""
HEAD = 250.0
"""Local means above it, in thousandths, are no background, even where its noise is a tenth of the window."""
NEIGHBOURHOOD_PX = 9


class LoadMagnituded(MapTransform):
    """Load MR magnitude scans named in a dictionary: thousandths of the window, (1, row, column, slice), float32.

    Of several keys all are in units of the **first** one's window, so that images of one place stay comparable; with
    ``scaled_like`` in the item, a path, and maybe ``scaled_like_series_uid``, in units of that scan's.

    Args:
        keys: of the paths; ``<key>_series_uid`` or ``series_uid`` and ``z_range_mm`` beside them as for CT.
        geometry: of CT; not used.
        trust_hu: likewise.
    """

    def __init__(self, keys: KeysCollection, *, geometry: str = "slices", trust_hu: bool = False) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key.

        Raises:
            Refusal: see :func:`iscl_monai.magnitude.read_magnitude`, or no slice within ``z_range_mm``.
        """
        loaded = dict(data)
        window = None
        if "scaled_like" in data:
            like = read_magnitude(data["scaled_like"], series_uid=data.get("scaled_like_series_uid"))
            window = window_of(like)
        for key in self.key_iterator(loaded):
            scan = read_magnitude(loaded[key], series_uid=data.get(f"{key}_series_uid", data.get("series_uid")))
            window = window_of(scan) if window is None else window
            values = _part(scan, data.get("z_range_mm")) * np.float32(PER_WINDOW / window)
            loaded[key] = MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(scan.affine_ras))
        return loaded


def window_of(scan: MagnitudeScan) -> float:
    """The :data:`iscl_monai.magnitude.PERCENTILE` of the means over small squares of all slices."""
    means = ndimage.uniform_filter(scan.values, (MEAN_PX, MEAN_PX, 1))
    return float(np.percentile(means, PERCENTILE))


def _part(scan: MagnitudeScan, z_range_mm: tuple[float, float] | None) -> NDArray[np.float32]:
    if z_range_mm is None:
        return scan.values
    lowest, highest = z_range_mm
    inside = [index for index, position in enumerate(scan.positions_mm) if lowest <= position <= highest]
    if not inside:
        raise ConfigRefusal(
            f"{scan.path}: no slice in z_range_mm [{lowest:g}, {highest:g}]",
            allowed=f"within {min(scan.positions_mm):g} to {max(scan.positions_mm):g} mm",
            cure="correct z_range_mm in the datalist",
        )
    return scan.values[..., inside]


def _estimate_shape(item: Mapping[str, Any]) -> tuple[int, int, int]:
    values = _part(read_magnitude(Path(item["image"]), series_uid=item.get("series_uid")), item.get("z_range_mm"))
    rows, columns, slices = values.shape
    return rows, columns, slices


def head(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Everything that is not the dark around, holes filled; (slice, row, column), thousandths."""
    means = [ndimage.uniform_filter(image, NEIGHBOURHOOD_PX) for image in images]
    return np.stack([ndimage.binary_fill_holes(mean > HEAD) for mean in means])


MR = Domain(
    name="mr",
    title="MR magnitude",
    unit="thousandths of the window",
    loader=LoadMagnituded,
    estimate_shape=_estimate_shape,
    foreground=everything,  # the dark around a head has noise that must go, and more bias than anything else
    panel=panel_of(head),
    extent=SliceRange(15.0),
    quarter_turns=False,  # noise of fast scans has a direction, that of the phase encoding
    protocol=MR_FRAME,
    greatest_drift=150.0,
    residual_range=200.0,
    required={**CT_ALONE, "hu_lower": 0, "hu_upper": 1250},
)
