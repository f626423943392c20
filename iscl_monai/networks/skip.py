"""A way around the bottleneck that structure can take and noise cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad

NEIGHBOURHOOD_PX = 9
QUIET_PX = 25
CLIPPED = 0.95


class NonLocalSkip(nn.Module):
    """Non-local means whose strength follows the noise around each pixel.

    As a skip of F it spares the bottleneck what is seen in several places of an image (edges, vessels), and cannot
    carry the noise that must not pass. Noise differs from scan to scan, and within a slice from the shoulders to the
    neck, so one strength for all would blur the quiet ones.

    A. Buades, B. Coll, J.-M. Morel, CVPR 2005, vol. 2, p. 60-65; every displacement is one moving average, as in
    J. Darbon et al., ISBI 2008.

    Args:
        strength: filtering parameter over :func:`quiet_deviation`.
        search_px: farthest displacement, in rows and in columns.
        patch_px: side of the patches that are compared; odd.
        bound: how far a generator may move away from the skip, over :func:`quiet_deviation`.

    Shape:
        (batch, 1, rows, columns) in [-1, 1] in and out.
    """

    __jit_unused_properties__ = ("reach_px",)

    def __init__(self, *, strength: float = 1.35, search_px: int = 4, patch_px: int = 5, bound: float = 3.0) -> None:
        super().__init__()
        self.strength = strength
        self.search_px = search_px
        self.patch_px = patch_px
        self.bound = bound

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output."""
        noise = 2 * (NEIGHBOURHOOD_PX // 2) + 2 * (QUIET_PX // 2)
        return max(noise, self.search_px + self.patch_px // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Average those pixels whose surroundings are alike."""
        return self.averaged(x, quiet_deviation(x))

    def averaged(self, x: Tensor, noise: Tensor) -> Tensor:
        """The same, where the noise around each pixel is known already."""
        return non_local_means(x, self.strength * noise, self.search_px, self.patch_px)


def non_local_means(x: Tensor, h: Tensor, search_px: int, patch_px: int) -> Tensor:
    """``sum w x / sum w`` over displacements, ``w = exp(-d^2 / h^2)``, d^2 the mean squared difference of two patches.

    Args:
        x: (batch, 1, rows, columns).
        h: in the units of ``x``, of the same shape.
        search_px: farthest displacement, in rows and in columns.
        patch_px: side of the patches; odd.

    Returns:
        The shape of ``x``.
    """
    rows, columns = x.shape[-2], x.shape[-1]
    r = search_px
    padded = pad(x, [r, r, r, r], mode="reflect")
    precision = h.clamp_min(1e-4).square().reciprocal()  # flat, noiseless places
    total, weights = x.clone(), torch.ones_like(x)
    for row in range(2 * r + 1):
        for column in range(2 * r + 1):
            if row != r or column != r:
                neighbour = padded[:, :, row : row + rows, column : column + columns]
                weight = torch.exp(-_box((neighbour - x).square(), patch_px) * precision)
                total = total + weight * neighbour
                weights = weights + weight
    return total / weights


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
