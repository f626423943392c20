"""Where the rays of a fan-beam scanner run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from iscl_monai.errors import ConfigRefusal

SOURCE_TO_CENTRE_MM = 595.0
"""Of a common clinical scanner; wider fields of view move the source away (:meth:`FanBeam.around`)."""
VIEWS_PER_PIXEL = 1.92
"""984 views for 512 pixels, as on clinical scanners: fewer, and the noise shows spokes at the border."""


@dataclass(frozen=True, kw_only=True)
class FanBeam:
    """Rays and pixels of a full circular scan with a flat detector.

    The isocentre is the centre of a square of ``size`` x ``size`` pixels, x to the right (columns), y downwards
    (rows), mm. In view ``v`` the source stands at ``D (cos b, sin b)`` with ``b`` the view's angle; the detector is
    described by its shadow at the isocentre, where cell ``d`` lies at ``s (-sin b, cos b)`` with ``s`` from
    :meth:`cells_mm`.

    Args:
        size: rows and columns of the image.
        spacing_mm: distance of pixels.
        views: directions over a full turn; a multiple of 4.
        detectors: cells of the detector; even.
        pitch_mm: distance of cells at the isocentre.
        source_to_centre_mm: ``D``; beyond the image's corners.

    Raises:
        ConfigRefusal: if a number is not as said.
    """

    size: int
    spacing_mm: float
    views: int
    detectors: int
    pitch_mm: float
    source_to_centre_mm: float = SOURCE_TO_CENTRE_MM

    def __post_init__(self) -> None:
        counts = min(self.size, self.views, self.detectors) >= 1 and self.views % 4 == 0 and self.detectors % 2 == 0
        lengths = 0 < self.spacing_mm < math.inf and 0 < self.pitch_mm < math.inf
        if not counts or not lengths or not self.radius_mm < self.source_to_centre_mm < math.inf:
            raise ConfigRefusal(
                f"fan-beam geometry {self}",
                allowed="positive size and pixel spacing, views a multiple of 4, the source outside of the image",
                cure="give the image's shape and its pixel spacing in mm",
            )

    @classmethod
    def around(cls, size: int, spacing_mm: float) -> FanBeam:
        """The scanner for an image: cells as fine as its pixels, and a fan that holds its corners.

        Args:
            size: rows or columns of the image, whichever is more.
            spacing_mm: distance of pixels.

        Raises:
            ConfigRefusal: if one is not positive.
        """
        if size < 1 or not 0 < spacing_mm < math.inf:
            raise ConfigRefusal(
                f"an image of {size} pixels of {spacing_mm} mm",
                allowed="a positive number of pixels and a positive pixel spacing in mm",
                cure="give the image's shape and its PixelSpacing",
            )
        radius_mm = (size / 2 + 1) * math.sqrt(2) * spacing_mm
        source_mm = max(SOURCE_TO_CENTRE_MM, 1.5 * radius_mm)
        # The widest ray touches the circle around the corners; its shadow at the isocentre lies further out.
        shadow_mm = radius_mm / math.sqrt(1 - (radius_mm / source_mm) ** 2)
        return cls(
            size=size,
            spacing_mm=spacing_mm,
            views=4 * math.ceil(max(size, 128) * VIEWS_PER_PIXEL / 4),
            detectors=2 * (math.ceil(shadow_mm / spacing_mm) + 1),
            pitch_mm=spacing_mm,
            source_to_centre_mm=source_mm,
        )

    @property
    def radius_mm(self) -> float:
        """From the isocentre to a corner of the image."""
        return self.size / 2 * math.sqrt(2) * self.spacing_mm

    @property
    def view_step(self) -> float:
        """Angle between views in radians."""
        return 2 * math.pi / self.views

    def angles(self) -> NDArray[np.float64]:
        """Angle of each view in radians, shape (views,), at the middles of equal parts of a turn."""
        return (np.arange(self.views, dtype=np.float64) + 0.5) * self.view_step

    def cells_mm(self) -> NDArray[np.float64]:
        """Where the cells' shadows lie at the isocentre, shape (detectors,)."""
        cells = np.arange(self.detectors, dtype=np.float64) - (self.detectors - 1) / 2
        return cells * self.pitch_mm

    def cosines(self) -> NDArray[np.float64]:
        """Cosine of the angle between each ray and the central one, shape (detectors,)."""
        cosines: NDArray[np.float64] = self.source_to_centre_mm / np.hypot(self.source_to_centre_mm, self.cells_mm())
        return cosines

    def coarser(self, *, pixels: int = 1, views: int = 1) -> FanBeam:
        """The same scanner, seen with less detail.

        Args:
            pixels: so many pixels, and so many cells, become one.
            views: every so many-th view; the number stays a multiple of 4.
        """
        return replace(
            self,
            size=math.ceil(self.size / pixels),
            spacing_mm=self.spacing_mm * pixels,
            views=4 * max(1, round(self.views / views / 4)),
            detectors=2 * math.ceil(self.detectors / pixels / 2),
            pitch_mm=self.pitch_mm * pixels,
        )
