"""A denoiser that is loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iscl_monai.inference.slice_denoiser import ModelIdentity, SliceDenoiser

if TYPE_CHECKING:
    import torch


class LateDenoiser:
    """Wears the face of a denoiser (:class:`SliceDenoiser`) that is loaded when something of it is asked for.

    Importing torch and loading weights take seconds; what is wrong with a source is refused before.

    Args:
        load: makes the denoiser; called once, by the thread that plans the work.
    """

    def __init__(self, load: Callable[[], SliceDenoiser]) -> None:
        self._load = load

    @cached_property
    def _loaded(self) -> SliceDenoiser:
        return self._load()

    @property
    def identity(self) -> ModelIdentity:
        """What it is."""
        return self._loaded.identity

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._loaded.device

    @property
    def parameters(self) -> dict[str, str]:
        """Every setting that can change a pixel, in words."""
        return self._loaded.parameters

    def change_hu(self, slice_hu: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """What denoising adds to a slice, float32 HU (row, column)."""
        return self._loaded.change_hu(slice_hu)
