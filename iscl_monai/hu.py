"""The only intensity map of this project: Hounsfield units to the network's range and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from iscl_monai.errors import ConfigRefusal

if TYPE_CHECKING:
    import numpy as np
    import torch

    Image = TypeVar("Image", np.ndarray, torch.Tensor)
else:
    Image = TypeVar("Image")


@dataclass(frozen=True)
class HUWindow:
    """A Hounsfield window, mapped linearly onto [-1, 1].

    Args:
        lower: HU that becomes -1.
        upper: HU that becomes +1; greater than ``lower``.

    Raises:
        ConfigRefusal: if the window is empty, or not finite.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (-32768 <= self.lower < self.upper <= 65535):
            raise ConfigRefusal(
                f"HU window [{self.lower}, {self.upper}]",
                allowed="lower < upper, both within [-32768, 65535]",
                cure="give the window as two increasing Hounsfield values, e.g. [-1000, 1000]",
            )

    @property
    def half_width(self) -> float:
        """Hounsfield units per unit of network range."""
        return (self.upper - self.lower) / 2

    @property
    def centre(self) -> float:
        """The HU that becomes 0."""
        return (self.upper + self.lower) / 2

    def to_network(self, image_hu: Image) -> Image:
        """Map HU to [-1, 1], clipping what lies outside the window. Floating point in, same shape out."""
        return ((image_hu - self.centre) / self.half_width).clip(-1.0, 1.0)

    def to_hu(self, image: Image) -> Image:
        """The exact inverse of :meth:`to_network` for values inside the window."""
        return image * self.half_width + self.centre

    def contains(self, image_hu: Image) -> Image:
        """True where a voxel lies inside the window (borders included), so that nothing was clipped."""
        return (image_hu >= self.lower) & (image_hu <= self.upper)

    def change_hu(self, original_hu: Image, prediction: Image) -> Image:
        """What the network changed, in HU: ``(prediction - window(in)) * half_width`` inside the window, else 0.

        Args:
            original_hu: HU, any shape, floating point.
            prediction: the network's answer to ``to_network(original_hu)``, same shape, in [-1, 1].

        Returns:
            HU of the same shape, to be added to the original: nothing that the window cut off is lost.
        """
        change = (prediction - self.to_network(original_hu)) * self.half_width
        return change * self.contains(original_hu)

    def apply_change(self, original_hu: Image, prediction: Image) -> Image:
        """The original HU plus :meth:`change_hu`; voxels outside the window come back bit for bit."""
        return original_hu + self.change_hu(original_hu, prediction)
