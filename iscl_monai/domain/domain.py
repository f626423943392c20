"""The one idea of this room: what differs between kinds of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from iscl_monai.domain.extent import Extent
from iscl_monai.quality.protocol import Protocol

Foreground = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
Panel = Callable[[Tensor, Tensor], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A kind of images: how they are read, what their values mean, and what a training on them may do.

    The package's names end in ``_hu`` where values are in the domain's unit, whatever that is.

    Args:
        name: in configs and weights.
        title: of such images, in words.
        unit: of their values once loaded.
        loader: makes the transform that reads them: ``loader(keys, geometry=..., trust_hu=...)``; images become (1,
            row, column, slice), float32, in the unit.
        estimate_shape: (rows, columns, slices) of an item of the datalist, from headers.
        foreground: where there is something to see, of (slice, row, column): bool of that shape.
        panel: what is measured without a reference, of input and output (slice, row, column).
        extent: which part of a patient or specimen an entry of the datalist shows, and how far parts stay apart.
        quarter_turns: whether images may be turned in training; flips always may.
        protocol: what a validation with references is measured on.
        greatest_drift: of F's mean, in the unit; a training that shifts more is stopped.
        residual_range: of pictures of what was taken away, in the unit.
        phantom: whether there is a made-up dataset to train on.
        required: values that settings of the bundle must have: what has no meaning for such images is off.
    """

    name: str
    title: str
    unit: str
    loader: Callable[..., MapTransform]
    estimate_shape: Callable[[Mapping[str, Any]], tuple[int, int, int]]
    foreground: Foreground
    panel: Panel
    extent: Extent
    quarter_turns: bool
    protocol: Protocol
    greatest_drift: float
    residual_range: float
    phantom: bool = False
    required: Mapping[str, Any]
