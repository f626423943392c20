"""Single pictures in one window, such as maps and spectra; slices are for :mod:`iscl_monai.report.viewer`."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iscl_monai.hu import HUWindow


@dataclass(frozen=True)
class View:
    """A named Hounsfield window for pictures, level/width."""

    name: str
    window: HUWindow


SOFT_TISSUE = View("soft tissue 40/400", HUWindow(-160, 240))
LUNG = View("lung -600/1500", HUWindow(-1350, 150))
ERROR_LEFT = View("after minus reference, ±100 HU", HUWindow(-100, 100))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with its caption.

    Args:
        label: what it is.
        window: name of the view, after the label; may be empty.
        alt: what readers who cannot see it are told.
        address: the picture itself, as a ``data:`` address.
        kind: style classes, e.g. ``detail``.
        lazy: not to be decoded before it is scrolled to.
    """

    label: str
    window: str
    alt: str
    address: str
    kind: str = ""
    lazy: bool = False


def png_address(image_hu: NDArray[np.float32], view: View) -> str:
    """A grey PNG of the window as a ``data:`` address.

    Args:
        image_hu: HU (row, column).
        view: what is black and what is white.
    """
    grey = np.rint((view.window.to_network(image_hu) + 1) * 127.5).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
