"""RED-CNN, the supervised network that the field compares itself with."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.description import RedCNNDescription

LAYERS = 5
KERNEL = 5
INITIAL_STD = 0.01


class RedCNN(nn.Module):
    """Five convolutions, five transposed convolutions, and three shortcuts around them.

    H. Chen et al., "Low-dose CT with a residual encoder-decoder convolutional neural network", IEEE TMI 36(12), 2017,
    doi 10.1109/TMI.2017.2715284. All kernels 5x5 without padding, so that the encoder shrinks the image by 20 pixels
    and the decoder grows it again; the input, and what the second and the fourth convolution gave, are added on the
    way back. The last rectifier is left out, since our images run from -1 and not from 0.

    Args:
        width: channels; 96 in the paper, 3 times the width of ISCL's first convolution.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out, 16 pixels or more each way.
    """

    __jit_unused_properties__ = ("description",)

    stride = 1

    def __init__(self, *, width: int = 96) -> None:
        super().__init__()
        if width < 1:
            raise ConfigRefusal(f"RedCNN width={width}", allowed="1 or more", cure="96 is the paper's")
        self.width = width
        channels = [1, *[width] * LAYERS]
        self.encoder = nn.ModuleList(nn.Conv2d(given, made, KERNEL) for given, made in pairwise(channels))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(made, given, KERNEL) for made, given in pairwise(reversed(channels))
        )
        for module in (*self.encoder, *self.decoder):
            nn.init.normal_(module.weight, std=INITIAL_STD)
            nn.init.zeros_(module.bias)

    @property
    def description(self) -> RedCNNDescription:
        """Its argument, to travel with the weights."""
        return RedCNNDescription(width=self.width)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        return 2 * LAYERS * (KERNEL // 2)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Denoise images; the noise of each place, as other networks are given it, is not asked for."""
        edge = LAYERS * (KERNEL // 2)
        # The paper trains and tests on what fits; a mirrored border keeps the image's own rim from turning dark.
        h = nn.functional.pad(x, [edge, edge, edge, edge], mode="reflect")
        shortcuts = []
        for index, convolution in enumerate(self.encoder):
            shortcuts.append(h if index % 2 == 0 else None)
            h = torch.relu(convolution(h))
        for index, transposed in enumerate(self.decoder):
            h = torch.relu(h) if index else h
            h = transposed(h)
            shortcut = shortcuts.pop()
            h = h if shortcut is None else h + shortcut
        return h[..., edge:-edge, edge:-edge]
