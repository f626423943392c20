"""A way around the bottleneck that edges can take and noise cannot."""

import torch
from torch import Tensor, nn


class EdgeSkip(nn.Module):
    """The sigma filter (Lee, Computer Vision, Graphics and Image Processing 24:255-269, 1983).

    Each pixel becomes the mean of those neighbours that differ from it by less than a threshold. With a threshold of
    about three times the noise, noise is averaged away and stronger edges stay where they are. As a skip of F it spares
    the bottleneck the edges, and cannot carry the noise that must not pass.

    Args:
        threshold: in network units; kept with the weights.
        radius: of the square neighbourhood, in pixels.

    Shape:
        (batch, 1, rows, columns) in and out.
    """

    threshold: Tensor

    def __init__(self, *, threshold: float, radius: int = 2) -> None:
        super().__init__()
        self.radius = radius
        self.register_buffer("threshold", torch.tensor(float(threshold)))

    def forward(self, x: Tensor) -> Tensor:
        """Smooth everything but edges."""
        rows, columns = x.shape[-2], x.shape[-1]
        r = self.radius
        padded = nn.functional.pad(x, [r, r, r, r], mode="reflect")
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for row in range(2 * r + 1):
            for column in range(2 * r + 1):
                neighbour = padded[:, :, row : row + rows, column : column + columns]
                near = ((neighbour - x).abs() < self.threshold).to(x.dtype)
                total = total + near * neighbour
                count = count + near
        return total / count.clamp_min(1.0)
