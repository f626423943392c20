"""What all classical filters share: the face of the trained denoiser, the HU window, and the noise of the slice."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from iscl_monai.baselines.noise_level import noise_level_hu
from iscl_monai.errors import ConfigRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.inference.slice_denoiser import ModelIdentity, check_slice
from iscl_monai.version import __version__

Slice = npt.NDArray[np.float32]

HU_WINDOW = HUWindow(-1000, 1000)
"""The window of the trained denoiser: metal and padding come back bit for bit, and do not spread."""


class ClassicalFilter(ABC):
    """A filter that learns nothing but the noise of the slice before it.

    It wears the face of :class:`iscl_monai.inference.Denoiser`, so that whatever denoises, evaluates or reports takes
    it too. Each slice is worked on by itself: neighbours cannot change a result.

    The tuned strengths are those of the highest PSNR (protocol hu-body, mean of slices) on 32 slices of training
    patients, at 30 and 70 % of the height of 16 series (14 of GE labelled EXTREMITY, a Philips chest, an
    ADAC lung; slices of 3 mm, pixels of 0.8 to 1 mm), whose quarter dose was simulated with
    ``python -m data_prep dose``. One strength for all of them.

    Args:
        strength: how hard to filter, relative to the estimated noise; None: as tuned. 0 gives the input back bit for
            bit.

    Raises:
        ConfigRefusal: a strength that is negative or not finite.
    """

    name: ClassVar[str]
    """What :func:`iscl_monai.baselines.classical` calls it."""
    title: ClassVar[str]
    """What reports call it."""
    tuned_strength: ClassVar[float]
    """The best one on training data."""
    settings: ClassVar[dict[str, str]] = {}
    """What else can change a pixel."""

    def __init__(self, *, strength: float | None = None) -> None:
        strength = self.tuned_strength if strength is None else strength
        if not 0 <= strength < math.inf:
            raise ConfigRefusal(
                f"strength={strength} for {self.name}",
                allowed="0 or more, finite",
                cure=f"leave it out for the tuned {self.tuned_strength:g}; 0 changes nothing",
            )
        self.strength = float(strength)
        self.hu_window = HU_WINDOW
        self.device = torch.device("cpu")

    @property
    def parameters(self) -> dict[str, str]:
        """Every setting that can change a stored pixel, in words."""
        return {"filter": self.name, "strength": f"{self.strength!r}", **self.settings}

    @property
    def identity(self) -> ModelIdentity:
        """What it is; a filter has no weights, so the digest is that of its settings."""
        digest = hashlib.sha256(repr(sorted(self.parameters.items())).encode()).hexdigest()
        return ModelIdentity(self.title, __version__, digest)

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> Slice:
        """What filtering adds to a slice.

        Args:
            slice_hu: Hounsfield units (row, column), finite, 16 to 4096 pixels each way.

        Returns:
            float32 HU of the same shape; 0 outside -1000 to 1000 HU.

        Raises:
            ImageRefusal: another shape, or values that are not finite.
        """
        check_slice(slice_hu)
        original_hu = np.array(slice_hu, np.float32)
        shown_hu = original_hu.clip(self.hu_window.lower, self.hu_window.upper)
        noise_hu = noise_level_hu(original_hu) if self.strength > 0 else 0.0
        if noise_hu == 0:
            return np.zeros_like(original_hu)
        change_hu = (self.smooth(shown_hu, noise_hu) - shown_hu) * self.hu_window.contains(original_hu)
        return np.asarray(change_hu, np.float32)

    @abstractmethod
    def smooth(self, image_hu: Slice, noise_hu: float) -> npt.NDArray[np.floating]:
        """Filter an image.

        Args:
            image_hu: HU (row, column), within -1000 to 1000.
            noise_hu: its noise, above 0.

        Returns:
            HU, same shape.
        """
