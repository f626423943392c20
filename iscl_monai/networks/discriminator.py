"""The discriminators D_X (noisy domain) and D_Y (clean domain)."""

from __future__ import annotations

from torch import Tensor, nn

from iscl_monai.networks.blocks import NormedConv, initialise, leaky_relu


class Discriminator(nn.Module):
    """Four 4x4 stride-2 convolutions, a 4x4 valid one, a 1x1 one (2.8 M parameters at the authors' sizes).

    Args:
        width: channels of the first convolution, doubled by each of the next four; 32 in the paper.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in; logits (batch, 1, r, c) out: one per 64x64 patch, a map for more.
    """

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            leaky_relu(),
            *(
                NormedConv(nn.Conv2d(width * 2**level, width * 2 ** (level + 1), 4, stride=2, padding=1))
                for level in range(3)
            ),
            NormedConv(nn.Conv2d(width * 8, width * 16, 4)),
            nn.Conv2d(width * 16, 1, 1),
        )
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Positive for real, below 0 for fake (hinge)."""
        logits: Tensor = self.steps(image)
        return logits
