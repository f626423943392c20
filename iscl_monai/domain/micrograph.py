"""Grey images of microscopes, as 0 (black) to 255 (white)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray

from iscl_monai.domain.domain import Domain
from iscl_monai.domain.extent import SectionNumbers
from iscl_monai.domain.plain import CT_ALONE, everything, panel_of
from iscl_monai.errors import DatalistRefusal
from iscl_monai.micrograph import GreyScale, MicrographStack, read_micrographs
from iscl_monai.quality.protocol import GREY8_FRAME

LEAST_GAP_NM = 480.0
"""Sections of the fly's medulla nearer than that show the same cells (correlation 0.16 to 0.2 at 240 nm)."""


class LoadMicrographd(MapTransform):
    """Load stacks named in a dictionary: grey levels 0 to 255, (1, row, column, section), float32.

    ``{"image": "sections/", "sections": [3, 4], "grey_range": [0, 4095]}``: the last two are optional and hold for
    every key.

    Args:
        keys: of the paths.
        geometry: of CT; not used.
        trust_hu: likewise.
    """

    def __init__(self, keys: KeysCollection, *, geometry: str = "slices", trust_hu: bool = False) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key.

        Raises:
            Refusal: see :func:`iscl_monai.micrograph.read_micrographs` and :class:`iscl_monai.micrograph.GreyScale`, or
                a section that is not there.
        """
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            loaded[key] = torch.from_numpy(_load(Path(loaded[key]), data.get("sections"), data.get("grey_range"))[None])
        return loaded


def _load(path: Path, sections: Sequence[int] | None, grey_range: Sequence[float] | None) -> NDArray[np.float32]:
    stack = read_micrographs(path, allow_holes=sections is not None)
    scale = GreyScale.of(stack, grey_range)
    images = [scale.to_grey8(stack.grey(place)) for place in _places(stack, sections)]
    return np.stack(images, axis=-1)


def _places(stack: MicrographStack, sections: Sequence[int] | None) -> list[int]:
    if sections is None:
        return list(range(len(stack)))
    place = {number: index for index, number in enumerate(stack.numbers)}
    for number in sections:
        if number not in place:
            raise DatalistRefusal(
                f"{stack.path} without section {number}",
                allowed=f"{len(stack)} sections, {stack.numbers[0]} to {stack.numbers[-1]}",
                cure="make the datalist anew: python -m data_prep split-stack",
            )
    return [place[number] for number in sections]


def _estimate_shape(item: Mapping[str, Any]) -> tuple[int, int, int]:
    sections = item.get("sections")
    stack = read_micrographs(item["image"], allow_holes=sections is not None)
    return stack.rows, stack.columns, len(stack) if sections is None else len(sections)


MICROGRAPH = Domain(
    name="micrograph",
    title="micrographs",
    unit="grey levels",
    loader=LoadMicrographd,
    estimate_shape=_estimate_shape,
    foreground=everything,
    panel=panel_of(everything),
    extent=SectionNumbers(LEAST_GAP_NM),
    quarter_turns=False,  # charge has a direction, that of the scan
    protocol=GREY8_FRAME,
    greatest_drift=40.0,
    residual_range=64.0,
    required={**CT_ALONE, "hu_lower": 0, "hu_upper": 255},
)
