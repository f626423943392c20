"""The noise extractor H: what is noise in this image?"""

from __future__ import annotations

from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks.blocks import NormedConv, initialise, leaky_relu
from iscl_monai.networks.description import NoiseExtractorDescription


class NoiseExtractor(nn.Module):
    """A plain chain of 3x3 convolutions at full resolution with a linear end (0.17 M parameters at authors' sizes).

    Args:
        width: channels between the convolutions; 32 in the paper.
        layers: number of convolutions; 20 in the paper.
        silent_start: the last convolution starts at 0, so that the first answer is "no noise". Else (as in the paper)
            the first answer is many times louder than the noise of CT, and a short training is spent on unlearning it.

    Shape:
        image (batch, 1, rows, columns) in [-1, 1] in; its noise, same shape, same units, out.
    """

    __jit_unused_properties__ = ("description",)

    stride = 1

    def __init__(self, *, width: int = 32, layers: int = 20, silent_start: bool = False) -> None:
        super().__init__()
        if width < 1 or layers < 2:
            raise ConfigRefusal(
                f"NoiseExtractor width={width}, layers={layers}",
                allowed="width >= 1, layers >= 2",
                cure="the authors use 32 and 20",
            )
        self.width = width
        self.layers = layers
        last = nn.Conv2d(width, 1, 3, padding=1)
        self.steps = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            leaky_relu(),
            *(NormedConv(nn.Conv2d(width, width, 3, padding=1)) for _ in range(layers - 2)),
            last,
        )
        initialise(self)
        if silent_start:
            nn.init.zeros_(last.weight)

    @property
    def description(self) -> NoiseExtractorDescription:
        """Its arguments, to travel with the weights."""
        return NoiseExtractorDescription(width=self.width, layers=self.layers)

    @property
    def reach_px(self) -> int:
        """How far away a pixel of the input can change one of the output (half the receptive field)."""
        return self.layers

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Estimate the noise of each image; that of each place, as other networks are given it, is not asked for."""
        estimated: Tensor = self.steps(x)
        return estimated
