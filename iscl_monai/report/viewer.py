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
from iscl_monai.report.levels import difference_greys, difference_levels, greys, levels, noise_greys, noise_levels
from iscl_monai.report.numbers import with_minus_signs
from iscl_monai.scanner.texture import local_mean_and_sigma

Kind = Literal["hu", "difference", "noise"]
LEAST_BONE_PERCENT = 12.0
"""The skull makes that of a head, and no slice of a trunk reaches it."""
LEAST_LUNG_PERCENT = 20.0
MOST_COLUMNS = 5
PIXEL_MM = 0.75
"""Where the size of pixels is not known: shares of tissues hardly depend on it."""
NOISE_EVERY_PX = 3
"""Local noise is that of 9x9 pixels: a third of the rows and columns shows all of it."""


@dataclass(frozen=True)
class Window:
    """A window that the reader may choose.

    Args:
        key: in the page.
        name: on its button.
        window: of images, in HU.
        difference_hu: differences are shown from minus to plus so many HU, local noise from 0 to as many.
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
    def reach(self) -> str:
        """The largest difference, and the largest local noise, that is told from larger ones."""
        return f"{self.difference_hu:g} HU"

    @property
    def difference_caption(self) -> str:
        """Both ends."""
        return f"±{self.reach}"

    @property
    def noise_caption(self) -> str:
        """Both ends."""
        return f"0 to {self.reach}"

    @property
    def greys(self) -> NDArray[np.float32]:
        """Grey, 0 to 1, of each level of a picture."""
        return greys(self.window)

    def caption(self, kind: Kind) -> str:
        """Of a picture of that kind."""
        return {"hu": self.image_caption, "difference": self.difference_caption, "noise": self.noise_caption}[kind]


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
        kind: whether its levels are HU, a difference, or local noise.
        address: the picture, as a ``data:`` address.
        choice: a button's name; of the pictures with one, those of one button are shown at a time.
    """

    label: str
    kind: Kind
    address: str
    choice: str = ""


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
        windows: that the reader may choose.
        word: what one step is: ``Slice``.
    """

    name: str
    slices: Sequence[ViewedSlice]
    window: Window = SOFT
    windows: Sequence[Window] = WINDOWS
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
        """Pictures beside each other; those that are chosen from take one place."""
        places = max(sum(not pane.choice for pane in one.panes) for one in self.slices)
        return min(MOST_COLUMNS, places + bool(self.choices))

    @property
    def choices(self) -> list[str]:
        """Names of the buttons that choose a picture, the first one pressed; none if there is no choice."""
        found = list(dict.fromkeys(pane.choice for one in self.slices for pane in one.panes if pane.choice))
        return found if len(found) > 1 else []

    def keeping(self, indices: Sequence[int]) -> Viewer:
        """Only some of its slices."""
        return replace(self, slices=[self.slices[index] for index in indices])


def hu_pane(label: str, image_hu: NDArray[Any]) -> Pane:
    """A picture of HU (row, column)."""
    return Pane(label=label, kind="hu", address=address_of(levels(image_hu)))


def difference_pane(label: str, difference_hu: NDArray[Any], choice: str = "") -> Pane:
    """A picture of a difference in HU (row, column)."""
    return Pane(label=label, kind="difference", address=address_of(difference_levels(difference_hu)), choice=choice)


def noise_pane(label: str, image_hu: NDArray[Any], choice: str = "") -> Pane:
    """A map of the local noise of HU (row, column): the standard deviation within 9x9 pixels."""
    sigma_hu = local_mean_and_sigma(np.asarray(image_hu, np.float32))[1]
    coarse_hu = sigma_hu[::NOISE_EVERY_PX, ::NOISE_EVERY_PX]
    return Pane(label=label, kind="noise", address=address_of(noise_levels(coarse_hu)), choice=choice)


def window_of_body(slices_hu: Sequence[NDArray[np.float32]]) -> Window:
    """The window for the part of the body that slices show: brain, lung or soft tissue, by their tissues.

    Args:
        slices_hu: HU (row, column) each.
    """
    tissues = composition_of(slices_hu, PIXEL_MM)
    if tissues.get("bone_percent", 0) >= LEAST_BONE_PERCENT:
        return BRAIN
    return LUNG if tissues.get("lung_percent", 0) >= LEAST_LUNG_PERCENT else SOFT


def filter_tables(windows: Sequence[Window] = WINDOWS) -> list[tuple[str, str]]:
    """The filters of a page: id, and the grey of each level as SVG lists it.

    Args:
        windows: that the page has buttons for.
    """
    images = [(f"hu-{one.key}", one.greys) for one in windows]
    reaches = sorted({one.difference_hu for one in windows})
    differences = [(f"difference-{reach:g}", difference_greys(reach)) for reach in reaches]
    noise = [(f"noise-{reach:g}", noise_greys(reach)) for reach in reaches]
    return [(name, " ".join(f"{grey:.3g}" for grey in table)) for name, table in (*images, *differences, *noise)]


def address_of(picture: NDArray[np.uint8]) -> str:
    """A grey picture as a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
