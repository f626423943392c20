"""What ``denoise --report`` shows of images without Hounsfield units: micrographs, and MR magnitude."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from iscl_monai.domain import Domain
from iscl_monai.errors import Refusal
from iscl_monai.hu import HUWindow
from iscl_monai.report.case import NO_REFERENCE, MetricRow
from iscl_monai.report.content import page_content, write_content
from iscl_monai.report.levels import REACH_HU, difference_levels, noise_levels
from iscl_monai.report.pages import write_page
from iscl_monai.report.report_page import ReportPage, ShownCase, with_room
from iscl_monai.report.series import TITLE
from iscl_monai.report.viewer import NOISE_EVERY_PX, Pane, ViewedSlice, Viewer, Window, address_of
from iscl_monai.scanner.texture import local_mean_and_sigma

Image = NDArray[np.float32]

PICTURED = "pictures"
"""Protocol of numbers that are over the pictures of the page."""
WHITE = 255.0
QUIETEST_PERCENT = 10
FLAT = 0.05
"""In the unit of the images: what varies less is flat, as padding is, but for rounding."""


@dataclass(frozen=True)
class PlainWindow(Window):
    """A window of images without Hounsfield units, whose pictures hold 0 (black) to 255 (white).

    Args:
        unit: of the images.
        per_level: of that unit, one level of a picture.
        per_step: likewise, one step of a picture of a difference or of local noise.
    """

    unit: str
    per_level: float
    per_step: float

    @property
    def image_caption(self) -> str:
        """Both ends."""
        return f"{self.window.lower * self.per_level:.0f} to {self.window.upper * self.per_level:.0f} {self.unit}"

    @property
    def reach(self) -> str:
        """As of :class:`Window`, in the unit of the images."""
        return f"{self.difference_hu * self.per_step:g} {self.unit}"

    @property
    def greys(self) -> NDArray[np.float32]:
        """Grey, 0 to 1, of each level of a picture."""
        return np.asarray((self.window.to_network(np.arange(256, dtype=np.float32)) + 1) / 2, np.float32)


def windows_of(domain: Domain) -> tuple[PlainWindow, ...]:
    """All of the range of a kind of images, and its halves."""
    per_level, per_step = float(domain.required["hu_upper"]) / WHITE, domain.residual_range / REACH_HU
    ends = {"all": (0, 255), "dark": (0, 128), "bright": (127, 255)}
    return tuple(
        PlainWindow(f"{domain.name}-{name}", name, HUWindow(*one), REACH_HU, domain.unit, per_level, per_step)
        for name, one in ends.items()
    )


def write_plain_report(
    path: Path,
    *,
    name: str,
    domain: Domain,
    images: Iterable[tuple[str, Image, Image]],
    count: int,
    made_with: Mapping[str, str],
    summary: str = "",
) -> Path:
    """Write one self-contained HTML file, and beside it its numbers as JSON.

    Args:
        path: the HTML file to write; the other has its name and ends with ``.json``.
        name: heading.
        domain: of the images.
        images: of those to show what each is called, before and after, (row, column) in the domain's unit.
        count: how many images there are, shown or not.
        made_with: see :func:`iscl_monai.report.write.provenance`.
        summary: a paragraph under the heading.

    Raises:
        Refusal: no image to show.
    """
    windows = windows_of(domain)
    slices, befores, afters = [], [], []
    for title, before, after in images:
        slices.append(ViewedSlice(name=title, panes=_panes(before, after, windows[0])))
        befores.append(before)
        afters.append(after)
    if not slices:
        raise Refusal("a report without images", allowed="one or more", cure="denoise something first")
    shown = ShownCase(
        name=name,
        note=f"The table below is over the {len(slices)} shown of {count}.",
        viewer=Viewer(name=name, slices=slices, window=windows[0], windows=windows, word="Image"),
        rows=_rows(domain, np.stack(befores), np.stack(afters)),
    )
    page = ReportPage(
        title=TITLE,
        paragraphs=[text for text in (summary, _how_measured(domain)) if text],
        cases=with_room([shown]),
        made_with=made_with,
    )
    write_content(path.with_suffix(".json"), page_content(page))
    return write_page(path, "report.html", page)


def _panes(before: Image, after: Image, window: PlainWindow) -> list[Pane]:
    removed = address_of(difference_levels((before - after) / window.per_step))
    return [
        *(_image_pane(label, image, window) for label, image in (("Before", before), ("After", after))),
        Pane(label="Removed", kind="difference", address=removed, choice="removed"),
        *(_noise_pane(which, image, window) for which, image in (("before", before), ("after", after))),
    ]


def _image_pane(label: str, image: Image, window: PlainWindow) -> Pane:
    picture = np.rint(np.clip(image / window.per_level, 0, WHITE)).astype(np.uint8)
    return Pane(label=label, kind="hu", address=address_of(picture))


def _noise_pane(which: str, image: Image, window: PlainWindow) -> Pane:
    sigma = local_mean_and_sigma(image)[1][::NOISE_EVERY_PX, ::NOISE_EVERY_PX]
    picture = address_of(noise_levels(sigma / window.per_step))
    return Pane(label=f"Local noise {which}", kind="noise", address=picture, choice=f"noise {which}")


def _rows(domain: Domain, before: Image, after: Image) -> tuple[MetricRow, ...]:
    """Of images (image, row, column)."""
    removed = float(np.sqrt(np.mean(np.square(before - after))))
    panel = domain.panel(torch.from_numpy(before), torch.from_numpy(after))
    lost = (("Image in residual", panel["residual_correlation"]), ("Edges in residual", panel["residual_edges"]))
    return (
        MetricRow("Local noise, quietest tenth", domain.unit, *_local_noise(before, after), PICTURED, "lower"),
        MetricRow("Mean", domain.unit, float(before.mean()), float(after.mean()), PICTURED, ""),
        MetricRow("Removed, root mean square", domain.unit, None, removed, PICTURED, ""),
        *(MetricRow(name, "", None, one, NO_REFERENCE, "near 0", 3) for name, one in lost),  # CT's verdicts are CT's
    )


def _local_noise(before: Image, after: Image) -> tuple[float, float]:
    """Median of the local standard deviation, where it is least before; what is flat there does not count."""
    old, new = (np.stack([local_mean_and_sigma(image)[1] for image in images]) for images in (before, after))
    varying = old > FLAT
    if not varying.any():
        return 0.0, float(np.median(new))
    quietest = varying & (old <= np.percentile(old[varying], QUIETEST_PERCENT))
    return float(np.median(old[quietest])), float(np.median(new[quietest]))


def _how_measured(domain: Domain) -> str:
    return (
        f"Values are {domain.unit}. Local noise is the standard deviation within 9x9 pixels, in the tenth of the "
        "places where it is least before. Image and edges in residual: how far what was removed looks like the image, "
        "and is louder at its edges, 0 to 1. Look at Removed: edges in it were taken from the image. Nothing here says "
        "whether the image is right."
    )
