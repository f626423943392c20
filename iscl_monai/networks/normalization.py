"""Batch-instance normalisation (Nam & Kim, NeurIPS 2018) with an inference that does not depend on neighbours."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from iscl_monai.errors import ConfigRefusal

STATISTICS = ("frozen", "per_slice")


class BatchInstanceNorm2d(nn.Module):
    """``(rho * batch_norm(x) + (1 - rho) * instance_norm(x)) * gamma + beta``, one ``rho`` per channel.

    Training uses the statistics of the current batch, as the authors do at all times. Inference uses none of the
    neighbours' statistics: either ``frozen`` ones, gathered by :func:`gather_statistics`, which make the layer one
    multiplication and one addition per channel; or ``per_slice`` ones, which make it instance normalisation
    whatever ``rho`` is (with one image per batch both normalisations are the same).

    Args:
        channels: number of feature channels.
        eps: added to every variance.

    Shape:
        (batch, channels, rows, columns) in and out. The instance part of a 1x1 map is 0.
    """

    mean: Tensor
    batch_variance: Tensor
    instance_variance: Tensor
    batches: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.statistics = "frozen"
        self.gathering = False
        self.rho = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("batch_variance", torch.ones(channels))
        self.register_buffer("instance_variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise feature maps of shape (batch, channels, rows, columns)."""
        if self.training or self.gathering:
            return self._normalise_by_batch(x)
        if self.statistics == "per_slice":
            # nn.functional.instance_norm is this with a check that refuses 1x1 maps.
            cudnn = torch.backends.cudnn.enabled
            return torch.instance_norm(x, self.gamma, self.beta, None, None, True, 0.0, self.eps, cudnn)
        scale, shift = self.frozen_affine()
        return x * scale[:, None, None] + shift[:, None, None]

    def frozen_affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift per channel, both (channels,), that the frozen layer amounts to."""
        scale = self.gamma * (
            self.rho * torch.rsqrt(self.batch_variance + self.eps)
            + (1 - self.rho) * torch.rsqrt(self.instance_variance + self.eps)
        )
        return scale, self.beta - scale * self.mean

    def _normalise_by_batch(self, x: Tensor) -> Tensor:
        # Both normalisations are affine in x, so their blend is one affine map per image and channel: two passes over
        # the data instead of the six of the textbook form. Batch moments follow from the instance moments.
        mean = x.mean(dim=(2, 3))
        variance = (x - mean[:, :, None, None]).square().mean(dim=(2, 3))
        batch_mean = mean.mean(dim=0)
        batch_variance = variance.mean(dim=0) + (mean - batch_mean).square().mean(dim=0)
        if self.gathering:
            self._gather(batch_mean, batch_variance, variance.mean(dim=0))
        batch_scale = self.rho * torch.rsqrt(batch_variance + self.eps)
        instance_scale = (1 - self.rho) * torch.rsqrt(variance + self.eps)
        scale = self.gamma * (batch_scale + instance_scale)
        shift = self.beta - self.gamma * (batch_scale * batch_mean + instance_scale * mean)
        return x * scale[:, :, None, None] + shift[:, :, None, None]

    @torch.no_grad()
    def _gather(self, mean: Tensor, batch_variance: Tensor, instance_variance: Tensor) -> None:
        self.batches += 1
        weight = 1.0 / float(self.batches)
        self.mean.lerp_(mean.to(self.mean.dtype), weight)
        self.batch_variance.lerp_(batch_variance.to(self.batch_variance.dtype), weight)
        self.instance_variance.lerp_(instance_variance.to(self.instance_variance.dtype), weight)

    @torch.no_grad()
    def project(self) -> None:
        """Put ``rho`` back into [0, 1]; to be called after every optimiser step."""
        self.rho.clamp_(0.0, 1.0)


def normalisations(network: nn.Module) -> Iterator[BatchInstanceNorm2d]:
    """All batch-instance normalisations inside a network."""
    return (module for module in network.modules() if isinstance(module, BatchInstanceNorm2d))


def project_rho(*networks: nn.Module) -> None:
    """Project every ``rho`` of the networks back into [0, 1]."""
    for network in networks:
        for norm in normalisations(network):
            norm.project()


def set_statistics(network: nn.Module, statistics: str) -> None:
    """Choose what inference normalises with: ``frozen`` or ``per_slice``.

    Raises:
        ConfigRefusal: for any other word.
    """
    if statistics not in STATISTICS:
        raise ConfigRefusal(
            f"statistics={statistics!r}", allowed=" or ".join(STATISTICS), cure="choose one of the two words"
        )
    for norm in normalisations(network):
        norm.statistics = statistics


@contextmanager
def _gathering(network: nn.Module) -> Iterator[None]:
    norms = list(normalisations(network))
    for norm in norms:
        norm.batches.zero_()
        norm.gathering = True
    try:
        yield
    finally:
        for norm in norms:
            norm.gathering = False


@torch.no_grad()
def gather_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute the frozen statistics of a network over batches of its own kind of input.

    Statistics that were gathered while weights changed lag behind them; these do not. Each layer is fed what it was
    fed in training (activations normalised by their own batch), and keeps the average over the batches.

    Args:
        network: any network; its training flag is left as it was.
        batches: images (batch, 1, rows, columns) in [-1, 1], the same patches that training uses.
    """
    if not list(normalisations(network)):
        return  # e.g. the U-Nets: nothing to gather, and a pass over all batches saved
    with _gathering(network):
        for batch in batches:
            network(batch)
