"""Whole slices, or tiles that leave no seam."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.blocks import symmetric_pad

HARDLY = 1e-6
"""Weight of a pixel that saw too little around it: nothing beside one that saw enough, all where only it exists."""


class SeamlessInferer(SlidingWindowInferer):
    """MONAI's sliding window over slices, with tiles whose answer is that of the whole slice.

    A pixel counts only in tiles that hold everything it can see: ``reach_px`` around it, or the border of the slice.
    So tiles overlap by twice the reach, lie evenly, begin where the network's strides do, and what is left is float
    rounding. It holds for networks that look at nothing but neighbourhoods (frozen statistics), and at the ``loudest``
    noise of the whole slice: a module that has such a method, itself or in what it wraps, is given it with each tile.

    Args:
        tile_px: largest side of a tile; None: whole slices.
        reach_px: how far the network sees, :attr:`iscl_monai.networks.DenoisingNetwork.reach_px`.
        stride_px: what slices and tile positions are multiples of, ``stride_px`` of the same.

    Raises:
        ConfigRefusal: tiles that are too small to hold a pixel that saw enough.
    """

    def __init__(self, *, tile_px: int | None = None, reach_px: int = 0, stride_px: int = 1) -> None:
        self.halo_px = -(-reach_px // stride_px) * stride_px
        self.stride_px = stride_px
        self.tile_px = tile_px
        least = least_tile_px(reach_px, stride_px)
        if tile_px is not None and tile_px < least:
            raise ConfigRefusal(
                f"tiles of {tile_px} pixels",
                allowed=f"{least} or more: the network sees {reach_px} pixels around each pixel",
                cure=f"give {max(256, least)}, or leave tiles out: whole slices are faster",
            )
        super().__init__(roi_size=(-1, -1) if tile_px is None else (tile_px, tile_px), sw_batch_size=1)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the network over (1, 1, rows, columns); same shape out."""
        rows, columns = inputs.shape[-2], inputs.shape[-1]
        if self.tile_px is None or max(rows, columns) <= self.tile_px:
            return super().__call__(inputs, network, *args, **kwargs) if self.tile_px is None else network(inputs)
        # What the network does with a whole slice of such a size, done before the tiles are cut.
        mirrored = symmetric_pad(inputs, -rows % self.stride_px, -columns % self.stride_px)
        layout = [self._layout(length) for length in mirrored.shape[-2:]]
        answer: Any = sliding_window_inference(
            mirrored,
            roi_size=[side for side, _ in layout],
            sw_batch_size=1,
            predictor=_with_slice_noise(network, mirrored),
            # MONAI turns the overlap back into a step with int(); half a pixel keeps it from rounding to the next.
            overlap=[max(0.0, 1 - (step + 0.5) / side) for side, step in layout],
            roi_weight_map=self._weights(layout),
        )
        return answer[..., :rows, :columns]

    def _layout(self, length: int) -> tuple[int, int]:
        """Side and step of tiles that end exactly where the slice does, both multiples of the stride.

        An even step, because a last tile that is pushed back would share its border with one that sees less of it.
        """
        whole, halo, tile = (px // self.stride_px for px in (length, self.halo_px, self.tile_px or length))
        if whole <= tile:
            return length, length
        for tiles in range(2, whole + 1):
            step = (whole - 2 * halo) // tiles
            side = whole - (tiles - 1) * step
            if side <= tile and step >= max(1, halo):
                return side * self.stride_px, step * self.stride_px
        raise ConfigRefusal(
            f"tiles of {self.tile_px} pixels for slices of {length}",
            allowed=f"tiles that overlap by {2 * self.halo_px} pixels and end with the slice",
            cure=f"give tiles of {2 * (self.tile_px or 0)} pixels",
        )

    def _weights(self, layout: list[tuple[int, int]]) -> Tensor:
        """A product of both axes, so that at a border of the slice the other axis still decides."""
        rows, columns = (self._ramp(side, self.halo_px if side > step else 0) for side, step in layout)
        return (rows[:, None] * columns[None, :])[None, None]

    @staticmethod
    def _ramp(side: int, halo: int) -> Tensor:
        weights = torch.full([side], HARDLY)
        weights[halo : side - halo] = 1.0
        return weights


def least_tile_px(reach_px: int, stride_px: int) -> int:
    """Side of the smallest tiles that hold a pixel which sees enough; arguments as of :class:`SeamlessInferer`."""
    halo_px = -(-reach_px // stride_px) * stride_px
    return -(-4 * halo_px // 16) * 16 + 16


def _with_slice_noise(network: Callable[..., Any], whole: Tensor) -> Callable[..., Any]:
    """A network that is given, beside each tile, what :meth:`iscl_monai.networks.DenoisingNetwork.loudest` sees.

    Whatever module wraps such a network, or method of it is called, is given it, too: one that passes it on answers
    right, one that does not take it fails at once. Unknown to it, each tile would bound its noise by its own tissue.
    """
    owner = getattr(network, "__self__", network)
    parts = owner.modules() if isinstance(owner, torch.nn.Module) else [owner]
    loudest = next((part.loudest for part in parts if hasattr(part, "loudest")), None)
    return network if loudest is None else partial(network, loudest=loudest(whole))
