"""F, G and H as plain residual U-Nets, for noise that is wide, or multiplies, or has a mean.

The U-Nets of :mod:`iscl_monai.networks.unet` are for CT: they take nothing that has a local mean, and answer in units
of the noise around. Clouds of film are 20 to 60 pixels wide and charging brightens whole bodies, so nothing of the kind
stands between input and answer here.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.blocks import SymmetricConv2d, leaky_relu, symmetric_pad
from iscl_monai.networks.description import ResidualUNetDescription, ResidualUNetExtractorDescription

WIDEST = 4
"""Channels of the coarse levels over those of the finest: more of them cost weights, and brought nothing here."""
BLACK = -1.0
"""Of magnitudes: where nothing is."""
AROUND = 4
"""Unshuffled pixels on each side that the mean and the spread of magnitudes are taken over."""
LEAST = 1e-8
"""Variance that is taken for none: a root has no gradient at 0."""


class ResidualUNet(nn.Module):
    """What an image holds that it should not; at first nothing.

    Works on pixels unshuffled into channels, without normalisation: how bright a place is, is part of the question. The
    second convolution of every block and the last one start at 0, or the first steps of a training blow up.

    Args:
        width: channels at the highest resolution, doubled by each further level up to four times.
        levels: resolutions, each half of the one before.
        unshuffle: side of the squares of pixels that become channels.
        magnitude: for noise of magnitudes, whose mean depends on what is under it. The network is then told mean and
            standard deviation around each place, of which the ratio is 1.91 where nothing is, however loud the noise,
            and more where something is. And it says of each place how dark it is, a factor on all that is there: few
            channels cannot pass every pixel on, and what they leave of the dark is brighter than nothing.

    Shape:
        (batch, 1, rows, columns) in [-1, 1], any size from 16 pixels up; the estimate, same shape, same units, out.
    """

    def __init__(self, *, width: int = 16, levels: int = 4, unshuffle: int = 2, magnitude: bool = False) -> None:
        super().__init__()
        if width < 1 or levels < 1 or unshuffle < 1:
            raise ConfigRefusal(
                f"residual U-Net width={width}, levels={levels}, unshuffle={unshuffle}",
                allowed="1 or more each",
                cure="the defaults are 16, 4 and 2",
            )
        self.width, self.levels, self.unshuffle, self.magnitude = width, levels, unshuffle, magnitude
        self.stride = int(unshuffle * 2 ** (levels - 1))
        widths = [width * min(2**level, WIDEST) for level in range(levels)]
        self.first = SymmetricConv2d(unshuffle**2 + (2 if magnitude else 0), width, 3, pad=1)
        self.encoder = nn.ModuleList(_Block(channels) for channels in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in reversed(list(pairwise(widths))))
        self.decoder = nn.ModuleList(_Block(channels) for channels in reversed(widths[:-1]))
        self.last = SymmetricConv2d(width, unshuffle**2 + (1 if magnitude else 0), 3, pad=1)
        _silence(self.last)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        cells: list[int] = [self.unshuffle * 2**level for level in range(self.levels)]
        convolutions = 2 * cells[0] + sum(2 * cell for cell in cells) + sum(2 * cell for cell in cells[:-1])
        resolutions = 2 * sum(cells[1:])  # one cell each way down, one each way up, where resolution is interpolated
        moments = AROUND * self.unshuffle if self.magnitude else 0
        return convolutions + resolutions + moments + self.stride - 1

    def estimate(self, x: Tensor) -> Tensor:
        """See the class."""
        rows, columns = x.shape[-2], x.shape[-1]
        x = symmetric_pad(x, -rows % self.stride, -columns % self.stride)
        seen = pixel_unshuffle(x, self.unshuffle)
        if self.magnitude:
            seen = with_moments(seen)
        h = self.first(seen)
        passed: list[Tensor] = []
        for block, shrink in zip(self.encoder, self.shrink):  # noqa: B905 - TorchScript; the last level has no shrink
            h = block(h)
            passed.append(h)
            h = shrink(h)
        h = self.encoder[-1](h)
        for grow, block in zip(self.grow, self.decoder):  # noqa: B905 - as above
            h = interpolate(grow(h), scale_factor=2.0, mode="bilinear") + passed.pop()
            h = block(h)
        noise = self.last(h)
        if self.magnitude:
            noise = _all_of_the_dark(noise, seen)
        return pixel_shuffle(noise, self.unshuffle)[..., :rows, :columns]


class ResidualUNetExtractor(ResidualUNet):
    """H: the noise of each image. Arguments as of :class:`ResidualUNet`."""

    __jit_unused_properties__ = ("description", "reach_px")

    @property
    def description(self) -> ResidualUNetExtractorDescription:
        """Its arguments, to travel with the weights."""
        return ResidualUNetExtractorDescription(
            width=self.width, levels=self.levels, unshuffle=self.unshuffle, magnitude=self.magnitude
        )

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The noise of each image; that of each place, as other networks are given it, is not asked for."""
        return self.estimate(x)


class ResidualUNetGenerator(ResidualUNet):
    """F, the image without its noise, and G, the image with some: ``x`` and what should change. At first ``x``.

    Arguments as of :class:`ResidualUNet`.
    """

    __jit_unused_properties__ = ("description", "reach_px")

    @property
    def description(self) -> ResidualUNetDescription:
        """Its arguments, to travel with the weights."""
        return ResidualUNetDescription(
            width=self.width, levels=self.levels, unshuffle=self.unshuffle, magnitude=self.magnitude
        )

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The image translated into the other domain; ``noise`` as of :class:`ResidualUNetExtractor`."""
        return x - self.estimate(x)


class _Block(nn.Module):
    """``x + conv(lrelu(conv(x)))`` with two 3x3 convolutions, of which the second starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SymmetricConv2d(channels, channels, 3, pad=1)
        self.activation = leaky_relu()
        self.second = SymmetricConv2d(channels, channels, 3, pad=1)
        _silence(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) in and out."""
        residual: Tensor = self.second(self.activation(self.first(x)))
        return x + residual


def with_moments(pixels: Tensor, black: float = BLACK, around: int = AROUND, least: float = LEAST) -> Tensor:
    """Unshuffled magnitudes above black, and their mean and standard deviation around each place: two channels more."""
    pixels = pixels - black
    both = torch.cat([pixels.mean(1, keepdim=True), pixels.square().mean(1, keepdim=True)], dim=1)
    padded = pad(both, [around, around, around, around], mode="replicate")
    moments = avg_pool2d(padded, 2 * around + 1, stride=1)
    mean, power = moments[:, :1], moments[:, 1:]
    return torch.cat([pixels, mean, (power - mean.square()).clamp_min(least).sqrt()], dim=1)


def _all_of_the_dark(answer: Tensor, seen: Tensor, least: float = LEAST) -> Tensor:
    """The noise of magnitudes: what was found, and of what it leaves the share that a place is dark.

    Args:
        answer: (batch, noise of each pixel and darkness, rows, columns), in units of magnitudes.
        seen: as of :func:`with_moments`.
        least: that a mean is taken for.
    """
    found, darkness = answer[:, :-1], answer[:, -1:]
    pixels, mean = seen[:, :-2], seen[:, -2:-1]
    return found + (pixels - found) * torch.tanh(darkness / (mean + least))


def _silence(convolution: nn.Conv2d) -> None:
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
