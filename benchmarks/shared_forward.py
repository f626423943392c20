"""The iteration with shared forward passes against the literal order of the authors' code.

python benchmarks/shared_forward.py [--width 32] [--batch 4] [--rounds 20]
"""

from __future__ import annotations

import argparse
import copy

import torch
from pairing import in_turns, table
from torch import Tensor

from iscl_monai import losses
from iscl_monai.losses import LossWeights
from iscl_monai.networks import Discriminator, Generator, NoiseExtractor
from iscl_monai.training import ISCLTrainer, LookaheadRAdam
from iscl_monai.training.learning import descend, frozen


class LiteralTrainer(ISCLTrainer):
    """Every step computes what it needs afresh: discriminators, generators, extractor."""

    def _iscl_step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        f, g, h = self.denoiser, self.degrader, self.noise_extractor
        d_x, d_y = self.noisy_discriminator, self.clean_discriminator
        with torch.no_grad():
            y_hat, x_hat, n_hat = f(x), g(y), h(x)
        loss = losses.discriminator_loss(d_x(x), d_x(x_hat)) + losses.discriminator_loss(d_y(y), d_y(y_hat))
        descend(self.discriminator_optimizer, loss + losses.boosting_loss(d_x(y + n_hat), d_y(x - n_hat)))

        with torch.no_grad():
            n_hat = h(x)
        y_hat, x_hat = f(x), g(y)
        with frozen(d_x, d_y):
            adversarial = losses.adversarial_loss(d_x(x_hat), d_y(y_hat))
        nested = losses.cycle_loss(x, g(y_hat), y, f(x_hat)) + losses.bypass_loss(y_hat, x - n_hat, y, f(y + n_hat))
        descend(self.generator_optimizer, adversarial + self.weights.nested * nested)

        with torch.no_grad():
            n_bar, x_hat = x - f(x), g(y)
        n_hat = h(x)
        loss = losses.pseudo_noise_loss(n_hat, n_bar) + losses.noise_consistency_loss(x_hat, y, h(x_hat))
        descend(self.extractor_optimizer, loss)
        return {"x": x, "y_hat": y_hat, "n_hat": n_hat}


def trainer(kind: type[ISCLTrainer], width: int) -> ISCLTrainer:
    """Networks of one seed and their optimisers."""
    torch.manual_seed(0)
    f, g = Generator(width=width), Generator(width=width)
    h = NoiseExtractor(width=width)
    d_x, d_y = Discriminator(width=width), Discriminator(width=width)
    return kind(
        device="cpu",
        max_epochs=1,
        train_data_loader=[],
        epoch_length=1,
        denoiser=f,
        degrader=g,
        noise_extractor=h,
        noisy_discriminator=d_x,
        clean_discriminator=d_y,
        generator_optimizer=torch.optim.RAdam([*f.parameters(), *g.parameters()], lr=1e-4),
        discriminator_optimizer=LookaheadRAdam([*d_x.parameters(), *d_y.parameters()], lr=1e-4),
        extractor_optimizer=LookaheadRAdam(h.parameters(), lr=1e-4),
        weights=LossWeights(),
    )


def main() -> None:
    """Time both orders on the same batches and compare their parameters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    ways = {"literal order": trainer(LiteralTrainer, options.width), "shared": trainer(ISCLTrainer, options.width)}
    batches = [torch.rand(2, options.batch, 1, 64, 64) * 2 - 1 for _ in range(options.rounds)]
    queues = {name: iter(copy.copy(batches)) for name in ways}

    def step(name: str) -> None:
        x, y = next(queues[name])
        ways[name]._iscl_step(x, y)

    seconds = in_turns(
        {name: (lambda name=name: step(name)) for name in ways},  # type: ignore[misc]
        rounds=options.rounds - 2,
        warm_up=2,
    )
    print(f"width {options.width}, batch {options.batch}, {torch.get_num_threads()} threads")
    print(table(seconds, "literal order"))
    for network in ("denoiser", "degrader", "noise_extractor", "noisy_discriminator", "clean_discriminator"):
        literal, shared = (getattr(way, network).state_dict() for way in ways.values())
        worst = max(float((literal[key].float() - shared[key].float()).abs().max()) for key in literal)
        print(f"{network:28s} largest difference after {options.rounds} steps: {worst:.1e}")


if __name__ == "__main__":
    main()
