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

    def shown(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """What noise is put on: the clean patch, or what images show and patches of them rarely do.

        Args:
            clean: (1, rows, columns), in the domain's unit.
            rng: decides everything; not asked where there is nothing to decide.
        """
        return clean

    @abstractmethod
    def put_on(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """A clean patch with noise like that of the noisy pool.

        Args:
            clean: (1, rows, columns), in the domain's unit.
            rng: decides everything.

        Returns:
            The same shape and unit, not clipped.
        """


def images_of(pool: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
    """All images of a cached pool, (row, column) each, in the domain's unit."""
    scans = [torch.as_tensor(scan["image"])[0] for scan in pool]
    return [scan[..., place].numpy().astype(np.float32) for scan in scans for place in range(scan.shape[-1])]
