"""Steps on harvested noise: from the first step on, and as the literal order has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from training.literal import (
    Literal,
    batches,
    largest_difference,
    networks,
    optimizers,
    trainer,
)

from iscl_monai.losses import LossWeights
from iscl_monai.networks import UNetGenerator
from iscl_monai.networks.local import quiet_deviation
from iscl_monai.networks.normalization import normalisations
from iscl_monai.networks.unet import LEAST_NOISE
from iscl_monai.training.trainer import Batch

# --- harvested noise ---------------------------------------------------------------------------------


def harvested_batches(count: int) -> list[Batch]:
    source = torch.Generator().manual_seed(13)
    return [
        {**batch, "harvested": batch["clean"] + 0.1 * torch.randn(2, 1, 64, 64, generator=source, dtype=torch.float64)}
        for batch in batches(count)
    ]


def test_harvested_noise_is_x_bar_and_teaches_the_extractor() -> None:
    data, ours, theirs = harvested_batches(1), networks(), networks()
    trainer(ours, data, weights=LossWeights(harvest=0.7)).run()

    x, y, x_bar = data[0]["noisy"], data[0]["clean"], data[0]["harvested"]
    f, g, h, d_x, d_y = theirs.values()
    of_generators, of_discriminators, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    method = Literal(f, g, h, d_x, d_y)
    hinge = method.discriminators(x, y) - torch.relu(d_x(y + h(x))).mean() + torch.relu(d_x(x_bar)).mean()
    method.update(of_discriminators, hinge)
    n_hat = h(x).detach()
    second_half = (y - f(x_bar)).abs().mean() - (y - f(y + n_hat)).abs().mean()
    method.update(of_generators, method.generators(x, y) + method.nested * second_half)
    method.update(of_extractor, method.extractor(x, y) + 0.7 * (x_bar - y - h(x_bar)).abs().mean())

    assert largest_difference(ours, theirs) < 1e-9
    without = networks()
    trainer(without, batches(1)).run()
    assert largest_difference(ours, without) > 1e-5


def test_during_the_warm_up_harvested_noise_teaches_denoiser_and_extractor_alone() -> None:
    data, ours, theirs = harvested_batches(2), networks(), networks()
    engine = trainer(ours, data, warm_up_steps=2, weights=LossWeights(squared=0.25))
    engine.run()
    f, h = theirs["denoiser"], theirs["noise_extractor"]
    of_generators, _, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    for batch in data:
        y, x_bar = batch["clean"], batch["harvested"]
        noise = quiet_deviation(x_bar).clamp_min(LEAST_NOISE)
        for network, wanted, optimizer in ((f, y, of_generators), (h, x_bar - y, of_extractor)):
            error = network(x_bar) - wanted
            optimizer.zero_grad()
            (0.75 * error.abs().mean() + 0.25 * (error.square() / noise).mean()).backward()
            optimizer.step()
            for norm in normalisations(network):
                norm.rho.data = norm.rho.data.clip(0, 1)
    assert largest_difference(ours, theirs) < 1e-9
    output: Any = engine.state.output
    assert set(output) == {"harvest", "harvested_noise", "x", "y_hat", "n_hat"}


def test_networks_that_can_be_told_learn_what_noise_belongs_to_the_clean_image() -> None:
    """Where nothing was added there is nothing to remove, whatever noise the clean image has."""
    made = networks(torch.float32)
    made["denoiser"] = UNetGenerator(width=2, levels=2)
    nn.init.normal_(made["denoiser"].last.weight)
    engine = trainer(made, [], epoch_length=1)
    y = batches(1, torch.float32)[0]["clean"]
    loud = y + 0.5 * torch.randn(y.shape)
    assert engine._harvest_loss(made["denoiser"], y, y, y) == 0
    assert engine._harvest_loss(made["denoiser"], y, loud, y) > 0.1


def test_the_cycle_may_be_the_clean_half_alone() -> None:
    data, ours, theirs = batches(1), networks(), networks()
    trainer(ours, data, weights=LossWeights(noisy_cycle=0.0, adversarial=0.5)).run()
    f, g, h, d_x, d_y = theirs.values()
    of_generators, of_discriminators, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    method, (x, y) = Literal(f, g, h, d_x, d_y, cycle=0), (data[0]["noisy"], data[0]["clean"])
    method.update(of_discriminators, method.discriminators(x, y))
    adversarial = -(d_x(g(y)).mean() + d_y(f(x)).mean())
    clean_half = method.nested * (y - f(g(y))).abs().mean()
    method.update(of_generators, method.generators(x, y) - 0.5 * adversarial + clean_half)
    method.update(of_extractor, method.extractor(x, y))
    assert largest_difference(ours, theirs) < 1e-9
