"""What makes noisy patches of clean ones by a rule that is measured on the two pools.

Noise of CT is added (:class:`iscl_monai.data.harvest.NoiseSource`). A film multiplies, and the magnitude of MR has no
negative values: there a patch has to be known before its noise is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Degradation(ABC):
    """The face of all rules."""

    @abstractmethod
    def pair(self, clean: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A clean patch, and the same with noise like that of the noisy pool.

        Args:
            clean: (1, rows, columns), in the domain's unit.
            rng: decides everything.

        Returns:
            The patch as noisy scans would show it without their noise: as it came, or what images show and patches of
            them rarely do, or without detail that noisy scans do not have; and with noise, not clipped. Both of the
            same shape and unit.
        """


def images_of(pool: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
    """All images of a cached pool, (row, column) each, in the domain's unit."""
    scans = [torch.as_tensor(scan["image"])[0] for scan in pool]
    return [scan[..., place].numpy().astype(np.float32) for scan in scans for place in range(scan.shape[-1])]
