"""Slices to look through: pictures beside each other, windowed and compared in the browser.

Each picture is stored once (:mod:`iscl_monai.report.levels`); its window is a filter of the page, so the page shows the
pictures without any script, and a script adds buttons.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iscl_monai.hu import HUWindow
from iscl_monai.quality.composition import composition_of
from iscl_monai.report.levels import difference_greys, difference_levels, greys, levels
from iscl_monai.report.numbers import with_minus_signs

Kind = Literal["hu", "difference"]
LEAST_BONE_PERCENT = 12.0
"""The skull makes that of a head, and no slice of a trunk reaches it."""
LEAST_LUNG_PERCENT = 20.0
MOST_COLUMNS = 5
PIXEL_MM = 0.75
"""Where the size of pixels is not known: shares of tissues hardly depend on it."""


@dataclass(frozen=True)
class Window:
    """A window that the reader may choose.

    Args:
        key: in the page.
        name: on its button.
        window: of images, in HU.
        difference_hu: differences are shown from minus to plus so many HU.
    """

    key: str
    name: str
    window: HUWindow
    difference_hu: float

    @property
    def image_caption(self) -> str:
        """Level and width."""
        lower, upper = self.window.lower, self.window.upper
        return with_minus_signs(f"{(lower + upper) / 2:g}/{upper - lower:g} HU")

    @property
    def difference_caption(self) -> str:
        """Both ends."""
        return f"±{self.difference_hu:g} HU"


SOFT = Window("soft", "soft tissue", HUWindow(-160, 240), 50)
BRAIN = Window("brain", "brain", HUWindow(0, 80), 20)
LUNG = Window("lung", "lung", HUWindow(-1350, 150), 100)
BONE = Window("bone", "bone", HUWindow(-600, 1400), 100)
NARROW = Window("narrow", "narrow", HUWindow(-50, 50), 20)
WINDOWS = (SOFT, BRAIN, LUNG, BONE, NARROW)


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One picture of a slice.

    Args:
        label: what it is: ``Before``.
        kind: whether its levels are HU or a difference.
        address: the picture, as a ``data:`` address.
    """

    label: str
    kind: Kind
    address: str


@dataclass(frozen=True, kw_only=True)
class ViewedSlice:
    """Pictures of one slice.

    Args:
        name: which one: ``slice 12 of 50``.
        panes: beside each other, the same ones for each slice of a viewer.
    """

    name: str
    panes: Sequence[Pane]

    @property
    def size(self) -> int:
        """Characters that its pictures take of the page."""
        return sum(len(pane.address) for pane in self.panes)


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Slices to look through.

    Args:
        name: of what they show.
        slices: in their order.
        window: in which the page opens.
        word: what one step is: ``Slice``.
    """

    name: str
    slices: Sequence[ViewedSlice]
    window: Window = SOFT
    word: str = "Slice"

    @property
    def start(self) -> int:
        """Index of the slice that the page opens with: the middle one."""
        return len(self.slices) // 2

    @property
    def comparable(self) -> bool:
        """Whether there is a before and an after to blink and slide between."""
        labels = {pane.label for one in self.slices for pane in one.panes}
        return {"Before", "After"} <= labels

    @property
    def columns(self) -> int:
        """Pictures beside each other."""
        return min(MOST_COLUMNS, max(len(one.panes) for one in self.slices))

    def keeping(self, indices: Sequence[int]) -> Viewer:
        """Only some of its slices."""
        return replace(self, slices=[self.slices[index] for index in indices])


def hu_pane(label: str, image_hu: NDArray[Any]) -> Pane:
    """A picture of HU (row, column)."""
    return Pane(label=label, kind="hu", address=_address(levels(image_hu)))


def difference_pane(label: str, difference_hu: NDArray[Any]) -> Pane:
    """A picture of a difference in HU (row, column)."""
    return Pane(label=label, kind="difference", address=_address(difference_levels(difference_hu)))


def window_of_body(slices_hu: Sequence[NDArray[np.float32]]) -> Window:
    """The window for the part of the body that slices show: brain, lung or soft tissue, by their tissues.

    Args:
        slices_hu: HU (row, column) each.
    """
    tissues = composition_of(slices_hu, PIXEL_MM)
    if tissues.get("bone_percent", 0) >= LEAST_BONE_PERCENT:
        return BRAIN
    return LUNG if tissues.get("lung_percent", 0) >= LEAST_LUNG_PERCENT else SOFT


def filter_tables() -> list[tuple[str, str]]:
    """The filters of a page: id, and the grey of each level as SVG lists it."""
    images = [(f"hu-{one.key}", greys(one.window)) for one in WINDOWS]
    reaches = sorted({one.difference_hu for one in WINDOWS})
    differences = [(f"difference-{reach:g}", difference_greys(reach)) for reach in reaches]
    return [(name, " ".join(f"{grey:.3g}" for grey in table)) for name, table in (*images, *differences)]


def _address(picture: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
