"""What every update of a network needs: a step, networks that hold still for a while, what a network may be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from iscl_monai.networks.unet import NoiseEstimator


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without the wrapper of distributed training."""
    return network.module if isinstance(network, DistributedDataParallel) else network


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Networks that pass gradients on to their input but collect none themselves, for a while."""
    learning = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def told_answer(network: nn.Module, noisy: Tensor, belongs: Tensor) -> Tensor:
    """A network's answer to noisy images, told what of their noise belongs there if it is one to be told."""
    can_be_told = isinstance(unwrapped(network), NoiseEstimator)
    answer: Tensor = network(noisy, belongs) if can_be_told else network(noisy)
    return answer


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """One step of an optimizer down the gradient of a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def plain(value: Tensor) -> float | Tensor:
    """Loss terms as floats; images detached."""
    return value.item() if value.ndim == 0 else value.detach()
