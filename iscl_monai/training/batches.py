"""What a trainer is given: two unpaired images, and clean ones with harvested noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Harvested(NamedTuple):
    """Clean images and the same with harvested noise; all (batch, 1, rows, columns).

    Attributes:
        clean: without it.
        noisy: with it.
        belongs: the noise of each place that the clean images have themselves.
    """

    clean: Tensor
    noisy: Tensor
    belongs: Tensor


def prepare_unpaired_batch(
    batch: Batch, device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """The two unpaired images of a batch, ``noisy`` and ``clean``, on the device; both (batch, 1, rows, columns)."""
    x, y = (torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking, **kwargs) for key in ("noisy", "clean"))
    return x, y


def harvested_of(batch: Batch, clean: Tensor, *, non_blocking: bool = False) -> Harvested | None:
    """The clean images of a batch with harvested noise, on the device of ``clean``; None where it holds none."""
    if "harvested" not in batch:
        return None
    noisy, belongs = (
        torch.as_tensor(batch[name]).to(clean.device, non_blocking=non_blocking) for name in ("harvested", "belongs")
    )
    return Harvested(clean, noisy, belongs)
