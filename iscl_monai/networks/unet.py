"""F, G and H as U-Nets that a CPU can train and run; what they answer is in units of the noise around each pixel."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.blocks import leaky_relu, symmetric_pad
from iscl_monai.networks.description import UNetDescription, UNetExtractorDescription
from iscl_monai.networks.local import local_mean, quiet_deviation, quiet_deviation_reach_px

LEVEL_PX = 9
PHASE_MEAN_CELLS = 5
SOFT_LIMIT = 10.0
LOUDEST = 5.0
"""Noise is hardly ever so many times the noise around: what is larger is an edge."""
LEAST_NOISE = 5e-4


class NoiseEstimator(nn.Module):
    """The noise of an image, or as much of it as does not belong there.

    Works on pixels unshuffled into channels, so that most of it happens at half the resolution and less. Its input is
    the image without its local mean, over the noise around (:func:`iscl_monai.networks.local.quiet_deviation`), its
    output is multiplied by that noise again. So scans of all doses look alike to it (scaling what varies in an image
    scales the answer), a flat image comes out unchanged, and so does one without noise.

    No checkerboard: each of the positions that share a cell of the unshuffled grid has its own local mean taken away
    from the answer, so that no pattern with the period of the grid can stay; inside, resolution grows by
    interpolation. What is called noise has therefore no local mean either; and it is a few times the noise around
    at most, so that an edge sharper than any that was learnt from is not taken for noise.

    **How much noise is too much.** The network itself says all noise it sees. Of that, as much is taken as leaves the
    noise that is wanted: a share ``1 - wanted / noise``, and none where the image is no louder. What is wanted is given
    in the units of the image, or as a dose (an image of a quarter of the wanted dose has twice the wanted noise), and
    travels with the weights.

    In training, where the clean twin has a noise of its own, a network is told it and answers for the rest alone. The
    expectation of the rest is ``1 - part`` times that of all noise, ``part`` being the twin's share of the variance,
    for noise of one texture (Moran et al., Noisier2Noise, CVPR 2020).

    Args:
        width: channels at the highest resolution, doubled by each further level.
        levels: resolutions, each half of the one before.
        blocks: residual blocks at each level, on the way down and on the way up.
        unshuffle: side of the squares of pixels that become channels.
        wanted_noise: as ``noise`` of :meth:`want`.

    Shape:
        (batch, 1, rows, columns) in [-1, 1], any size from 16 pixels up; its noise, same shape, same units, out.
    """

    wanted_noise: Tensor
    dose: Tensor

    def __init__(
        self, *, width: int = 16, levels: int = 3, blocks: int = 1, unshuffle: int = 2, wanted_noise: float = 0.0
    ) -> None:
        super().__init__()
        if width < 1 or levels < 1 or blocks < 0 or unshuffle < 1:
            raise ConfigRefusal(
                f"U-Net width={width}, levels={levels}, blocks={blocks}, unshuffle={unshuffle}",
                allowed="width, levels and unshuffle >= 1, blocks >= 0",
                cure="the defaults are 16, 3, 1 and 2",
            )
        self.width, self.levels, self.blocks, self.unshuffle = width, levels, blocks, unshuffle
        self.stride = int(unshuffle * 2 ** (levels - 1))
        self.level_px, self.mean_cells = LEVEL_PX, PHASE_MEAN_CELLS  # TorchScript knows no globals
        self.soft_limit, self.least_noise, self.most = SOFT_LIMIT, LEAST_NOISE, LOUDEST
        widths = [width * 2**level for level in range(levels)]
        self.first = nn.Conv2d(unshuffle**2, width, 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(channels, blocks) for channels in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(narrow, wide, 2, stride=2) for narrow, wide in pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for narrow, wide in reversed(list(pairwise(widths))))
        self.decoder = nn.ModuleList(_blocks(channels, blocks) for channels in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # the first answer is "no noise"
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.register_buffer("wanted_noise", torch.tensor(0.0))
        self.register_buffer("dose", torch.tensor(0.0))
        self.want(noise=wanted_noise)

    def want(self, *, noise: float = 0.0, dose: float = 0.0) -> None:
        """Say how much noise an image shall keep; goes with the weights.

        Args:
            noise: to be left, as :func:`iscl_monai.networks.local.quiet_deviation` sees it, in units of [-1, 1]; 0:
                none. Places that are no louder are left alone.
            dose: of the images, as a share of the dose that is wanted; 0: go by the noise.
        """
        if not 0 <= noise < float("inf") or not 0 <= dose <= 1:
            raise ConfigRefusal(f"noise={noise}, dose={dose}", allowed="noise >= 0, dose 0 to 1", cure="0 for neither")
        self.wanted_noise.fill_(noise)
        self.dose.fill_(dose)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        cells: list[int] = [self.unshuffle * 2**level for level in range(self.levels)]
        down = sum(2 * self.blocks * cell for cell in cells) + sum(cells[1:])
        up = sum(2 * self.blocks * cell for cell in cells[:-1]) + sum(cells[1:])
        own: int = cells[0] + down + up + cells[0] + 2 * (PHASE_MEAN_CELLS // 2) * cells[0]
        return own + self.stride - 1 + max(quiet_deviation_reach_px(), 2 * (LEVEL_PX // 2))

    def excess(self, x: Tensor, belongs: Tensor | None, noise: Tensor | None) -> Tensor:
        """What is noise in each image, as far as it is not wanted there.

        Args:
            x: the images.
            belongs: noise of each place that belongs to the image (a map, or what broadcasts to one), in training;
                None: as :meth:`want` said.
            noise: of each place, of the shape of ``x``, where more is known of it than can be seen nearby; None:
                what can be seen nearby.
        """
        rows, columns = x.shape[-2], x.shape[-1]
        noise = quiet_deviation(x).detach() if noise is None else noise
        strength = self._share(noise, belongs) * noise
        down, right = -rows % self.stride, -columns % self.stride
        answer = self.in_units(symmetric_pad(x, down, right), symmetric_pad(noise, down, right))
        return strength * answer[..., :rows, :columns]

    def in_units(self, x: Tensor, noise: Tensor) -> Tensor:
        """All noise of the images, in units of the noise around; sizes are multiples of the stride."""
        varying = (x - local_mean(x, self.level_px)) / noise.clamp_min(self.least_noise)
        # Edges are hundreds of times louder than noise: what is large is told by its logarithm.
        h = self.first(pixel_unshuffle(self.soft_limit * torch.asinh(varying / self.soft_limit), self.unshuffle))
        passed: list[Tensor] = []
        for blocks, shrink in zip(self.encoder, self.shrink):  # noqa: B905 - TorchScript; the last level has no shrink
            h = blocks(h)
            passed.append(h)
            h = shrink(h)
        h = self.encoder[-1](h)
        for grow, blocks in zip(self.grow, self.decoder):  # noqa: B905 - as above
            h = interpolate(grow(h), scale_factor=2.0, mode="bilinear") + passed.pop()
            h = blocks(h)
        cells = self.most * torch.tanh(self.last(h) / self.most)
        cells = cells - local_mean(cells, self.mean_cells)
        return pixel_shuffle(cells, self.unshuffle)

    def _share(self, noise: Tensor, belongs: Tensor | None) -> Tensor:
        """Share of the noise that is taken away, 0 to 1."""
        loud = noise.clamp_min(self.least_noise)
        if belongs is not None:
            return (1 - (belongs / loud).square()).clamp_min(0.0)
        wanted = torch.where(self.dose > 0, self.dose.sqrt() * noise, self.wanted_noise.expand_as(noise))
        return (1 - wanted / loud).clamp_min(0.0)


class NoiseUNet(NoiseEstimator):
    """H: the noise of each image.

    Args:
        sizes: as of :class:`NoiseEstimator`.
    """

    __jit_unused_properties__ = ("description", "reach_px")

    @property
    def description(self) -> UNetExtractorDescription:
        """Its arguments, to travel with the weights."""
        return UNetExtractorDescription(
            width=self.width, levels=self.levels, blocks=self.blocks, unshuffle=self.unshuffle
        )

    def forward(self, x: Tensor, belongs: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """See :meth:`NoiseEstimator.excess`."""
        return self.excess(x, belongs, noise)


class UNetGenerator(NoiseEstimator):
    """F, the image without its noise; or G, the image with more of it.

    Args:
        adds: False for F, ``x - noise``; True for G, ``x + noise``.
        sizes: as of :class:`NoiseEstimator`.
    """

    __jit_unused_properties__ = ("description", "reach_px")

    def __init__(
        self,
        *,
        adds: bool = False,
        width: int = 16,
        levels: int = 3,
        blocks: int = 1,
        unshuffle: int = 2,
        wanted_noise: float = 0.0,
    ) -> None:
        super().__init__(width=width, levels=levels, blocks=blocks, unshuffle=unshuffle, wanted_noise=wanted_noise)
        self.sign = 1.0 if adds else -1.0

    @property
    def description(self) -> UNetDescription:
        """Its arguments, to travel with the weights."""
        return UNetDescription(width=self.width, levels=self.levels, blocks=self.blocks, unshuffle=self.unshuffle)

    def forward(self, x: Tensor, belongs: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """The image translated into the other domain; arguments as of :meth:`NoiseEstimator.excess`."""
        return x + self.sign * self.excess(x, belongs, noise)


class ResidualPair(nn.Module):
    """``x + conv(lrelu(conv(x)))`` with two 3x3 convolutions, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = leaky_relu()
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) in and out."""
        residual: Tensor = self.second(self.activation(self.first(x)))
        return x + residual


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualPair(channels) for _ in range(count)))
