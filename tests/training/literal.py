"""The literal method: every network called anew for each loss, in the order of the paper; and small networks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from iscl_monai.networks import Discriminator, Generator, NoiseExtractor
from iscl_monai.networks.normalization import normalisations
from iscl_monai.training import ISCLTrainer
from iscl_monai.training.batches import Batch

NAMES = ("denoiser", "degrader", "noise_extractor", "noisy_discriminator", "clean_discriminator")
Networks = dict[str, nn.Module]


def networks(dtype: torch.dtype = torch.float64) -> Networks:
    torch.manual_seed(7)
    made = (
        Generator(width=2, downsamplings=1, residual_blocks=1),
        Generator(width=2, downsamplings=1, residual_blocks=1),
        NoiseExtractor(width=2, layers=4),
        Discriminator(width=2),
        Discriminator(width=2),
    )
    for network in made:
        for norm in normalisations(network):
            nn.init.uniform_(norm.rho, 0.3, 1)
    return {name: network.to(dtype) for name, network in zip(NAMES, made, strict=True)}


def batches(count: int, dtype: torch.dtype = torch.float64) -> list[Batch]:
    source = torch.Generator().manual_seed(11)
    pictures = [torch.rand(2, 2, 1, 64, 64, generator=source, dtype=dtype) * 2 - 1 for _ in range(count)]
    return [{"noisy": noisy, "clean": clean} for noisy, clean in pictures]


def optimizers(made: Networks, kind: Callable[..., Optimizer], lr: float) -> tuple[Optimizer, Optimizer, Optimizer]:
    """Of F and G, of D_X and D_Y, of H."""
    f, g, h, d_x, d_y = made.values()
    return (
        kind([*f.parameters(), *g.parameters()], lr=lr),
        kind([*d_x.parameters(), *d_y.parameters()], lr=lr),
        kind(h.parameters(), lr=lr),
    )


def trainer(
    made: Networks,
    data: list[Batch],
    *,
    kind: Callable[..., Optimizer] = torch.optim.SGD,
    lr: float = 1e-2,
    **arguments: Any,
) -> ISCLTrainer:
    generator_optimizer, discriminator_optimizer, extractor_optimizer = optimizers(made, kind, lr)
    return ISCLTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=data,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        extractor_optimizer=extractor_optimizer,
        **made,  # type: ignore[arg-type]
        **arguments,
    )


@dataclass
class Literal:
    """The method as the paper has it: three updates one after the other, every forward pass anew."""

    f: nn.Module
    g: nn.Module
    h: nn.Module
    d_x: nn.Module
    d_y: nn.Module
    cycle: float = 1.0
    bypass: float = 1.0
    boosting: float = 1.0
    pseudo_noise: float = 1.0
    noise_consistency: float = 1.0
    zero_mean: float = 0.0
    nested: float = 30.0

    def iterate(self, x: Tensor, y: Tensor, of_generators: Any, of_discriminators: Any, of_extractor: Any) -> None:
        self.update(of_discriminators, self.discriminators(x, y))
        self.update(of_generators, self.generators(x, y))
        self.update(of_extractor, self.extractor(x, y))

    def update(self, optimizer: Optimizer, loss: Any) -> None:
        for network in (self.f, self.g, self.h, self.d_x, self.d_y):
            network.zero_grad()
        loss.backward()
        optimizer.step()
        for network in (self.f, self.g, self.h, self.d_x, self.d_y):
            for name, parameter in network.named_parameters():
                if name.endswith(".rho"):
                    parameter.data = parameter.data.clip(0, 1)

    def discriminators(self, x: Tensor, y: Tensor) -> Any:
        y_hat, x_hat, n_hat = self.f(x), self.g(y), self.h(x)
        zero = torch.zeros((), dtype=x.dtype)
        loss = torch.maximum(1 - self.d_x(x), zero).mean() + torch.maximum(self.d_x(x_hat), zero).mean()
        loss = loss + torch.maximum(1 - self.d_y(y), zero).mean() + torch.maximum(self.d_y(y_hat), zero).mean()
        boosting = torch.maximum(self.d_x(y + n_hat), zero).mean()
        boosting = boosting + torch.maximum(self.d_y(x - n_hat), zero).mean()
        return loss + self.boosting * boosting

    def generators(self, x: Tensor, y: Tensor) -> Any:
        y_hat, x_hat = self.f(x), self.g(y)
        n_hat = self.h(x).detach()
        adversarial = -(self.d_x(x_hat).mean() + self.d_y(y_hat).mean())
        cycle = (x - self.g(self.f(x))).abs().mean() + (y - self.f(self.g(y))).abs().mean()
        bypass = (self.f(x) - (x - n_hat)).abs().mean() + (y - self.f(y + n_hat)).abs().mean()
        zero_mean = squares(x - y_hat) + squares(x_hat - y)
        return adversarial + self.nested * (self.cycle * cycle + self.bypass * bypass + self.zero_mean * zero_mean)

    def extractor(self, x: Tensor, y: Tensor) -> Any:
        n_bar = (x - self.f(x)).detach()
        x_hat = self.g(y).detach()
        loss = self.pseudo_noise * (self.h(x) - n_bar).abs().mean() + self.zero_mean * squares(self.h(x))
        return loss + self.noise_consistency * (x_hat - y - self.h(x_hat)).abs().mean()


def squares(noise: Tensor) -> Tensor:
    return noise.unfold(2, 16, 16).unfold(3, 16, 16).mean(dim=(-1, -2)).abs().mean()


def literally(
    made: Networks, data: list[Batch], *, kind: Callable[..., Optimizer], lr: float, **weights: float
) -> Networks:
    f, g, h, d_x, d_y = made.values()
    method = Literal(f, g, h, d_x, d_y, **weights)
    three = optimizers(made, kind, lr)
    for batch in data:
        method.iterate(batch["noisy"], batch["clean"], *three)
    return made


def parameters(made: Networks) -> dict[str, Tensor]:
    return {f"{owner}.{name}": p.detach() for owner, net in made.items() for name, p in net.named_parameters()}


def largest_difference(ours: Networks, theirs: Networks) -> float:
    a, b = parameters(ours), parameters(theirs)
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)
