"""Steps on harvested noise: from the first step on, and as the literal order has them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
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
from iscl_monai.training.batches import Batch, Harvested

# --- harvested noise ---------------------------------------------------------------------------------


def harvested_batches(count: int) -> list[Batch]:
    source = torch.Generator().manual_seed(13)
    made = []
    for batch in batches(count):
        added = 0.1 * torch.randn(2, 1, 64, 64, generator=source, dtype=torch.float64)
        belongs = quiet_deviation(batch["clean"])
        made.append({**batch, "harvested": batch["clean"] + added, "belongs": belongs})
    return made


@pytest.mark.parametrize(("share", "cooperating"), [(1.0, 2), (0.5, 1), (0.1, 1)])
def test_harvested_noise_teaches_beside_the_cooperation(share: float, cooperating: int) -> None:
    """All images of a batch have harvested noise to teach; the networks teach each other with some of them."""
    data, ours, theirs = harvested_batches(1), networks(), networks()
    trainer(ours, data, weights=LossWeights(harvest=0.7), cooperating_share=share).run()

    y, harvested = data[0]["clean"], data[0]["harvested"]
    some_x, some_y = data[0]["noisy"][:cooperating], y[:cooperating]
    f, g, h, d_x, d_y = theirs.values()
    of_generators, of_discriminators, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    method = Literal(f, g, h, d_x, d_y)
    method.update(of_discriminators, method.discriminators(some_x, some_y))
    taught = 0.7 * (y - f(harvested)).abs().mean()
    method.update(of_generators, method.generators(some_x, some_y) + method.nested * taught)
    method.update(of_extractor, method.extractor(some_x, some_y) + 0.7 * (harvested - y - h(harvested)).abs().mean())

    assert largest_difference(ours, theirs) < 1e-9
    without = networks()
    trainer(without, batches(1)).run()
    assert largest_difference(ours, without) > 1e-5


def test_discriminators_that_nobody_listens_to_are_left_alone() -> None:
    """Without the adversarial loss the others learn what they would learn beside trained discriminators."""
    data, ours, theirs = batches(1), networks(), networks()
    untouched = copy.deepcopy(ours["noisy_discriminator"].state_dict())
    engine = trainer(ours, data, weights=LossWeights(adversarial=0.0))
    engine.run()
    x, y = data[0]["noisy"], data[0]["clean"]
    f, g, h, d_x, d_y = theirs.values()
    of_generators, _, of_extractor = optimizers(theirs, torch.optim.SGD, 1e-2)
    method = Literal(f, g, h, d_x, d_y)
    adversarial = -d_x(g(y)).mean() - d_y(f(x)).mean()
    method.update(of_generators, method.generators(x, y) - adversarial)
    method.update(of_extractor, method.extractor(x, y))
    for name in ("denoiser", "degrader", "noise_extractor"):
        pairs = zip(ours[name].parameters(), theirs[name].parameters(), strict=True)
        assert all(torch.allclose(mine, literal, rtol=0, atol=1e-9) for mine, literal in pairs)
    after = ours["noisy_discriminator"].state_dict()
    assert all(torch.equal(untouched[name], after[name]) for name in untouched)
    assert not {"adversarial", "boosting", "clean_discriminator"} & set(engine.state.output)  # type: ignore[arg-type]


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
    assert len(output["x"]) == len(output["y_hat"]) == len(output["n_hat"]) == 1, "one image is enough for pictures"
    assert torch.equal(output["x"], data[-1]["noisy"][:1])
    assert torch.equal(output["n_hat"], output["x"] - output["y_hat"])


def test_networks_that_can_be_told_learn_what_noise_belongs_to_the_clean_image() -> None:
    """Where nothing was added there is nothing to remove, whatever noise the clean image has."""
    made = networks(torch.float32)
    made["denoiser"] = UNetGenerator(width=2, levels=2)
    nn.init.normal_(made["denoiser"].last.weight)
    engine = trainer(made, [], epoch_length=1)
    y = batches(1, torch.float32)[0]["clean"]
    loud = y + 0.5 * torch.randn(y.shape)
    belongs = quiet_deviation(y)
    assert engine._harvest_loss(made["denoiser"], Harvested(y, y, belongs), y) == 0
    assert engine._harvest_loss(made["denoiser"], Harvested(y, loud, belongs), y) > 0.1
    # Where nothing belongs, all noise is to be taken:
    assert (
        engine._harvest_loss(made["denoiser"], Harvested(y, y, torch.zeros_like(y)), y) > 0.1
    )  # nothing belongs there


class _Hearing(UNetGenerator):
    """Notes what noise it is told to leave."""

    def __init__(self) -> None:
        super().__init__(width=2, levels=2)
        self.heard: list[Tensor] = []

    def forward(self, x: Tensor, belongs: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        if belongs is not None:
            self.heard.append(belongs)
        answer: Tensor = super().forward(x, belongs, noise)
        return answer


@pytest.mark.parametrize("harvested", [True, False])
def test_the_bypass_leaves_the_noise_that_belongs_to_the_clean_image(harvested: bool) -> None:
    """A batch says what belongs (nothing, in painted patches); else it is the clean image's own noise."""
    made = networks(torch.float32)
    made["denoiser"] = _Hearing()
    engine = trainer(made, [], epoch_length=1, weights=LossWeights(harvest=0.0))
    batch = batches(1, torch.float32)[0]
    y, said = batch["clean"], torch.full_like(batch["clean"], 0.25)
    engine._iscl_step(batch["noisy"], y, Harvested(y, y, said) if harvested else None)
    assert len(made["denoiser"].heard) == 1
    assert torch.equal(made["denoiser"].heard[0], said if harvested else quiet_deviation(y))


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
