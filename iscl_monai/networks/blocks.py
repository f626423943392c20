"""The pieces all ISCL networks are made of."""

import torch
from torch import Tensor, nn

from iscl_monai.networks.normalization import BatchInstanceNorm2d


def leaky_relu() -> nn.LeakyReLU:
    """The activation of all networks; in place, since nothing before it needs its own output for the gradient."""
    return nn.LeakyReLU(0.2, inplace=True)


def symmetric_pad(x: Tensor, bottom: int, right: int, top: int = 0, left: int = 0) -> Tensor:
    """Pad by mirroring, the border pixel included (NumPy's ``symmetric``, TensorFlow's ``SYMMETRIC``).

    Args:
        x: (..., rows, columns).
        bottom: rows added below.
        right: columns added on the right.
        top: rows added above.
        left: columns added on the left.
    """
    rows, columns = x.shape[-2], x.shape[-1]
    if top or bottom:
        x = torch.cat([x[..., :top, :].flip(-2), x, x[..., rows - bottom :, :].flip(-2)], dim=-2)
    if left or right:
        x = torch.cat([x[..., :left].flip(-1), x, x[..., columns - right :].flip(-1)], dim=-1)
    return x


class SymmetricConv2d(nn.Conv2d):
    """A convolution over a symmetrically padded image: no dark rim, as in the authors' generators."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, pad: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)
        self.pad = pad

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the method it overrides
        """Pad, then convolve; (batch, channels, rows, columns)."""
        if self.pad == 1:  # mirroring one pixel is repeating it, which torch does in one kernel
            padded = nn.functional.pad(input, [1, 1, 1, 1], mode="replicate")
        else:
            padded = symmetric_pad(input, self.pad, self.pad, self.pad, self.pad)
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride)


class NormedConv(nn.Module):
    """Convolution, batch-instance normalisation, leaky ReLU.

    Args:
        conv: any 2-D convolution or transposed convolution with a bias.
        activate: whether the leaky ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *, activate: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = BatchInstanceNorm2d(conv.out_channels)
        self.activation: nn.Module = leaky_relu() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns)."""
        h: Tensor = self.activation(self.norm(self.conv(x)))
        return h

    @torch.no_grad()
    def fold(self) -> None:
        """Write the frozen normalisation into the convolution, which then does both for the price of one."""
        if not isinstance(self.norm, BatchInstanceNorm2d) or self.norm.statistics != "frozen":
            return
        scale, shift = self.norm.frozen_affine()
        transposed = isinstance(self.conv, nn.ConvTranspose2d)
        self.conv.weight.mul_(scale.view(1, -1, 1, 1) if transposed else scale.view(-1, 1, 1, 1))
        if self.conv.bias is not None:
            self.conv.bias.mul_(scale).add_(shift)
        self.norm = nn.Identity()


class ResidualBlock(nn.Module):
    """``x + norm(conv(lrelu(norm(conv(x)))))`` with two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = NormedConv(SymmetricConv2d(channels, channels, 3, pad=1))
        self.second = NormedConv(SymmetricConv2d(channels, channels, 3, pad=1), activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) in and out."""
        residual: Tensor = self.second(self.first(x))
        return x + residual


def fold_normalisation(network: nn.Module) -> nn.Module:
    """Fold every frozen normalisation of a network into its convolution, in place; for inference only."""
    for module in network.modules():
        if isinstance(module, NormedConv):
            module.fold()
    return network


@torch.no_grad()
def initialise(network: nn.Module, *, std: float = 0.05, generator: torch.Generator | None = None) -> None:
    """Truncated normal weights (cut at two standard deviations) and zero biases, as the authors start.

    Args:
        network: initialised in place.
        std: standard deviation before truncation; 0.05 is the authors' (Keras) default.
        generator: source of randomness; the global one by default.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
