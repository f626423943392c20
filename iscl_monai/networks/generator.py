"""The generators F (noisy to clean) and G (clean to noisy): one architecture, two sets of weights."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.blocks import NormedConv, ResidualBlock, SymmetricConv2d, initialise, symmetric_pad
from iscl_monai.networks.description import GeneratorDescription
from iscl_monai.networks.local import quiet_deviation
from iscl_monai.networks.skip import NonLocalSkip

SKIPS = ("none", "nonlocal", "identity")


class Generator(nn.Module):
    """Encoder, residual blocks, decoder, tanh (Lee & Jeong 2021; 1.15 M parameters at the authors' sizes).

    A 7x7 convolution; ``downsamplings`` 4x4 stride-2 convolutions, each doubling the channels; residual blocks at the
    narrowest place; as many 3x3 stride-2 transposed convolutions; a 7x7 convolution. In the paper there is no
    skip around the bottleneck: what cannot pass it (noise) is what teaches the extractor.

    Args:
        width: channels of the first convolution.
        downsamplings: how often the resolution is halved; 2 in the paper.
        residual_blocks: at the lowest resolution; 3 in the paper.
        skip: ``none`` as in the paper: tanh of what passed the bottleneck. ``nonlocal``: that is added to
            :class:`~iscl_monai.networks.skip.NonLocalSkip` of the input (for F), and changes it by no more than three
            times the noise around; ``identity``: to the input itself (for G, beside such an F), by no more than
            ``reach``. Both start as their skip; without a bound the first adversarial steps blew both up.
        reach: in network units, about three times the noise that G is to add; for ``identity`` alone.

    Shape:
        (batch, 1, rows, columns) in [-1, 1], any size from 16 pixels up, in and out.
    """

    __jit_unused_properties__ = ("description", "reach_px")

    def __init__(
        self,
        *,
        width: int = 32,
        downsamplings: int = 2,
        residual_blocks: int = 3,
        skip: str = "none",
        reach: float = 0.0,
    ) -> None:
        super().__init__()
        if width < 1 or downsamplings < 0 or residual_blocks < 0:
            raise ConfigRefusal(
                f"Generator width={width}, downsamplings={downsamplings}, residual_blocks={residual_blocks}",
                allowed="width >= 1, downsamplings >= 0, residual_blocks >= 0",
                cure="the authors use 32, 2 and 3",
            )
        if skip not in SKIPS:
            raise ConfigRefusal(f"skip={skip!r}", allowed=", ".join(SKIPS), cure="choose one of these words")
        if skip == "identity" and not reach > 0:
            raise ConfigRefusal(
                f"reach={reach} with skip={skip!r}",
                allowed="above 0",
                cure="give three times the noise",
            )
        self.stride = 2**downsamplings
        self.width = width
        self.downsamplings = downsamplings
        self.residual_blocks = residual_blocks
        widths = [width * 2**level for level in range(downsamplings + 1)]
        steps: list[nn.Module] = [NormedConv(SymmetricConv2d(1, width, 7, pad=3))]
        for narrow, wide in pairwise(widths):
            steps.append(NormedConv(SymmetricConv2d(narrow, wide, 4, stride=2, pad=1)))
        steps.extend(ResidualBlock(widths[-1]) for _ in range(residual_blocks))
        for wide, narrow in pairwise(reversed(widths)):
            steps.append(NormedConv(nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1)))
        last = SymmetricConv2d(width, 1, 7, pad=3)
        steps.append(last)
        self.steps = nn.Sequential(*steps)
        initialise(self)
        self.kind = skip
        self.reach = float(reach)
        self.skip = NonLocalSkip()
        if skip != "none":
            nn.init.zeros_(last.weight)

    @property
    def description(self) -> GeneratorDescription:
        """Its arguments, to travel with the weights."""
        return GeneratorDescription(
            width=self.width,
            downsamplings=self.downsamplings,
            residual_blocks=self.residual_blocks,
            skip=self.kind,
        )

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        levels = [2**level for level in range(self.downsamplings)]
        down, up = sum(2 * step for step in levels), sum(2 * step for step in levels)
        own = int(3 + down + 2 * self.residual_blocks * self.stride + up + 3)
        return max(own, self.skip.reach_px) if self.kind == "nonlocal" else own

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate an image into the other domain; sizes that the strides do not divide are mirrored up to it.

        Args:
            x: the images.
            noise: of each place, of the shape of ``x``, where more is known of it than can be seen nearby; for a
                ``nonlocal`` skip alone.
        """
        rows, columns = x.shape[-2], x.shape[-1]
        padded = symmetric_pad(x, -rows % self.stride, -columns % self.stride)
        translated = torch.tanh(self.steps(padded))[..., :rows, :columns]
        if self.kind == "nonlocal":
            noise = quiet_deviation(x) if noise is None else noise
            return self.skip.averaged(x, noise) + self.skip.bound * noise * translated
        if self.kind == "identity":
            return x + self.reach * translated
        return translated
