"""A way around the bottleneck that edges can take and noise cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad

NEIGHBOURHOOD_PX = 9
QUIET_PX = 25
CLIPPED = 0.95


class EdgeSkip(nn.Module):
    """The sigma filter with its threshold taken from the noise around each pixel.

    With a threshold of about three times the noise, noise is averaged away and stronger edges stay where they are. As a
    skip of F it spares the bottleneck the edges, and cannot carry the noise that must not pass. Noise differs from scan
    to scan, and within a slice from the shoulders to the neck, so one threshold for all would blur the quiet ones.

    Args:
        strength: threshold over :func:`quiet_deviation`, which lies below the noise where structure is rare.
        radius: of the sigma filter's square neighbourhood, in pixels.

    Shape:
        (batch, 1, rows, columns) in and out.
    """

    __jit_unused_properties__ = ("reach_px",)

    def __init__(self, *, strength: float = 3.0, radius: int = 2) -> None:
        super().__init__()
        self.strength = strength
        self.radius = radius

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output."""
        return NEIGHBOURHOOD_PX // 2 + 2 * (QUIET_PX // 2) + self.radius

    def threshold(self, x: Tensor) -> Tensor:
        """Up to which difference neighbours count as noise, (batch, 1, rows, columns), in network units."""
        return self.strength * quiet_deviation(x)

    def forward(self, x: Tensor) -> Tensor:
        """Smooth everything but edges."""
        return sigma_filter(x, self.threshold(x), self.radius)


def sigma_filter(x: Tensor, threshold: Tensor, radius: int = 2) -> Tensor:
    """The mean of those neighbours that differ by no more than a threshold.

    J.-S. Lee, Computer Vision, Graphics and Image Processing 24:255-269, 1983.

    Args:
        x: (batch, 1, rows, columns).
        threshold: in the units of ``x``, of a shape that goes with it.
        radius: of the square neighbourhood, in pixels.

    Returns:
        The shape of ``x``.
    """
    rows, columns = x.shape[-2], x.shape[-1]
    padded = pad(x, [radius, radius, radius, radius], mode="reflect")
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    for row in range(2 * radius + 1):
        for column in range(2 * radius + 1):
            neighbour = padded[:, :, row : row + rows, column : column + columns]
            near = ((neighbour - x).abs() <= threshold).to(x.dtype)
            total = total + near * neighbour
            count = count + near
    return total / count


def quiet_deviation(x: Tensor, side: int = NEIGHBOURHOOD_PX, quiet: int = QUIET_PX, clipped: float = CLIPPED) -> Tensor:
    """The noise around each pixel: the standard deviation of the quietest 9x9 pixels nearby, smoothed.

    Structure only adds to a deviation, so the least of a neighbourhood is the noise; being the least of many it lies
    below the mean by a share that does not depend on the noise. Where the window clips (air), noise is cut off and
    tells nothing: such places do not count.

    Args:
        x: (batch, 1, rows, columns) in [-1, 1].
        side: of the neighbourhood of a deviation, in pixels; odd.
        quiet: of the square whose least deviation counts, and of the smoothing; odd.
        clipped: local means beyond this are cut off by the window.

    Returns:
        The same shape and units; 0 where everything around is clipped.
    """
    mean = _box(x, side)
    # Of differences to a local level: squares of bright tissue would lose small deviations to rounding.
    variance = (_box((x - mean).square(), side) - _box(x - mean, side).square()).clamp_min(0.0)
    deviation = torch.where(mean.abs() > clipped, torch.full_like(x, 2.0), variance.sqrt())
    half = quiet // 2
    least = -max_pool2d(max_pool2d(-deviation, [quiet, 1], 1, [half, 0]), [1, quiet], 1, [0, half])
    known = (least < 2.0).to(x.dtype)
    return _box(least * known, quiet) / _box(known, quiet).clamp_min(1e-6)


def _box(image: Tensor, side: int) -> Tensor:
    """Moving average; at the border over what is there."""
    image = avg_pool2d(image, [side, 1], stride=1, padding=[side // 2, 0], count_include_pad=False)
    return avg_pool2d(image, [1, side], stride=1, padding=[0, side // 2], count_include_pad=False)
