"""The method on one screen: discriminators, then both generators, then the extractor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim import Optimizer

from iscl_monai import losses
from iscl_monai.losses import LossWeights
from iscl_monai.networks import project_rho
from iscl_monai.networks.local import quiet_deviation
from iscl_monai.networks.unet import LEAST_NOISE
from iscl_monai.training.batches import Batch, Harvested, harvested_of, prepare_unpaired_batch
from iscl_monai.training.learning import descend, frozen, plain, told_answer, unwrapped


class ISCLTrainer(Trainer):
    """Trains the five networks of ISCL (Lee & Jeong, IEEE TMI 2021) on unpaired patches.

    ``F(x)``, ``G(y)`` and ``H(x)`` are computed once per iteration, with their graphs: no step before the extractor's
    own changes what they depend on, so the discriminators are served detached copies. The result is that of the
    literal order, which recomputes them (a test holds the two side by side).

    Args:
        device: where the networks live.
        max_epochs: epochs of the whole run.
        train_data_loader: yields batches ``{"noisy", "clean"}`` of (batch, 1, rows, columns) in [-1, 1], and
            ``harvested`` with the map ``belongs`` or not (:class:`iscl_monai.data.UnpairedPatches`).
        denoiser: F, noisy to clean.
        degrader: G, clean to noisy.
        noise_extractor: H, noisy to noise.
        noisy_discriminator: D_X.
        clean_discriminator: D_Y.
        generator_optimizer: over F and G.
        discriminator_optimizer: over D_X and D_Y.
        extractor_optimizer: over H.
        weights: how much each loss term counts.
        warm_up_steps: iterations in which F and G only learn to reproduce their own domain through their bottleneck,
            and H what F leaves out; 0 is the paper's start.
        warm_up_generators: False leaves F and G as they are during the warm-up (they start as their skips).
        clip_fakes: show the discriminators fakes clipped to [-1, 1], as all real patches are; else values beyond the
            window give a fake away before its texture does. False is the paper's.
        epoch_length: iterations per epoch; the length of the loader by default.
        non_blocking: of the copy to the device.
        cooperating_share: share of a batch with harvested noise in which the networks teach each other as well; what
            they learn of each other needs fewer images than what harvested noise teaches, and each costs more.
        amp: run the networks in bfloat16 autocast (no gradient scaler is needed with it).
        train_handlers: handlers with ``attach(engine)``.

    Batches may hold ``harvested`` as well: the clean images with real noise (:class:`iscl_monai.data.HarvestedNoise`),
    another ``x_bar`` whose clean twin is known. F learns to take this noise away, and H to name it; during the warm-up
    they learn from it alone.

    ``state.output`` holds one float per loss term, plus ``x``, ``y_hat`` and ``n_hat`` for pictures and guards.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Batch],
        denoiser: nn.Module,
        degrader: nn.Module,
        noise_extractor: nn.Module,
        noisy_discriminator: nn.Module,
        clean_discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        extractor_optimizer: Optimizer,
        weights: LossWeights | None = None,
        warm_up_steps: int = 0,
        warm_up_generators: bool = True,
        clip_fakes: bool = False,
        cooperating_share: float = 1.0,
        epoch_length: int | None = None,
        non_blocking: bool = False,
        amp: bool = False,
        prepare_batch: Callable[..., tuple[Tensor, Tensor]] = prepare_unpaired_batch,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            non_blocking=non_blocking,
            prepare_batch=prepare_batch,
            handlers=train_handlers,
            decollate=False,
        )
        self.autocast = amp
        self.denoiser = denoiser
        self.degrader = degrader
        self.noise_extractor = noise_extractor
        self.noisy_discriminator = noisy_discriminator
        self.clean_discriminator = clean_discriminator
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.extractor_optimizer = extractor_optimizer
        self.weights = weights or LossWeights()
        self.warm_up_steps = warm_up_steps
        self.warm_up_generators = warm_up_generators
        self.clip_fakes = clip_fakes
        self.cooperating_share = cooperating_share

    def _iteration(self, engine: Engine, batch: Batch) -> dict[str, Any]:
        x, y = self.prepare_batch(batch, self.state.device, self.non_blocking)
        taught = harvested_of(batch, y, non_blocking=self.non_blocking)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            if self.state.iteration > self.warm_up_steps:
                output = self._iscl_step(x, y, taught)
            elif taught is None:
                output = self._warm_up_step(x, y)
            else:
                output = self._harvest_step(x, taught)
        project_rho(*map(unwrapped, self._networks()))
        terms = {name: plain(value) for name, value in output.items()}
        engine.state.output = terms  # type: ignore[assignment]  # ignite says int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return terms

    def _networks(self) -> tuple[nn.Module, ...]:
        return (
            self.denoiser,
            self.degrader,
            self.noise_extractor,
            self.noisy_discriminator,
            self.clean_discriminator,
        )

    def _iscl_step(self, x: Tensor, y: Tensor, taught: Harvested | None = None) -> dict[str, Tensor]:
        x, y = (images[: self._cooperating(len(images), taught)] for images in (x, y))
        y_hat, x_hat = self.denoiser(x), self.degrader(y) if self.weights.use_degrader else y
        n_hat = self.noise_extractor(x) if self.weights.use_extractor else torch.zeros_like(x)
        x_bar, y_bar = y + n_hat.detach(), x - n_hat.detach()
        return {
            **self._update_discriminators(x, y, x_hat.detach(), y_hat.detach(), x_bar, y_bar),
            **self._update_generators(x, y, x_hat, y_hat, x_bar, y_bar, taught),
            **self._update_extractor(x, y, n_hat, taught),
            "x": x,
            "y_hat": y_hat,
            "n_hat": n_hat,
        }

    def _cooperating(self, images: int, taught: Harvested | None) -> int:
        """How many images of a batch the networks teach each other with; all of them where nothing else teaches."""
        return images if taught is None else max(1, round(self.cooperating_share * images))

    def _in_range(self, fake: Tensor) -> Tensor:
        """A fake within the range of real patches, which the HU window clips."""
        return fake.clamp(-1, 1) if self.clip_fakes else fake

    def _update_discriminators(
        self, x: Tensor, y: Tensor, x_hat: Tensor, y_hat: Tensor, x_bar: Tensor, y_bar: Tensor
    ) -> dict[str, Tensor]:
        if not self.weights.use_discriminators:
            return {}
        d_x, d_y = self.noisy_discriminator, self.clean_discriminator
        noisy = losses.discriminator_loss(d_x(x), d_x(self._in_range(x_hat)))
        clean = losses.discriminator_loss(d_y(y), d_y(self._in_range(y_hat)))
        loss = noisy + clean
        terms = {"noisy_discriminator": noisy, "clean_discriminator": clean}
        if self.weights.boosting:
            terms["boosting"] = losses.boosting_loss(d_x(self._in_range(x_bar)), d_y(self._in_range(y_bar)))
            loss = loss + self.weights.boosting * terms["boosting"]
        descend(self.discriminator_optimizer, loss)
        return terms

    def _update_generators(
        self,
        x: Tensor,
        y: Tensor,
        x_hat: Tensor,
        y_hat: Tensor,
        x_bar: Tensor,
        y_bar: Tensor,
        taught: Harvested | None,
    ) -> dict[str, Tensor]:
        adversarial, terms = self._adversarial(x_hat, y_hat)
        nested = x.new_zeros(())
        if self.weights.cycle:
            x_tilde = self.degrader(y_hat) if self.weights.noisy_cycle else x
            noisy = self.weights.noisy_cycle
            terms["cycle"] = losses.cycle_loss(x, x_tilde, y, self.denoiser(x_hat), noisy=noisy)
            nested = nested + self.weights.cycle * terms["cycle"]
        if self.weights.bypass:
            belongs = quiet_deviation(y) if taught is None else taught.belongs[: len(y)]
            terms["bypass"] = losses.bypass_loss(y_hat, y_bar, y, told_answer(self.denoiser, x_bar, belongs))
            nested = nested + self.weights.bypass * terms["bypass"]
        if taught is not None and self.weights.harvest:
            terms["harvest"] = self._harvest_loss(self.denoiser, taught, taught.clean)
            nested = nested + self.weights.harvest * terms["harvest"]
        if self.weights.zero_mean:
            terms["zero_mean"] = losses.zero_mean_loss(x - y_hat) + losses.zero_mean_loss(x_hat - y)
            nested = nested + self.weights.zero_mean * terms["zero_mean"]
        descend(self.generator_optimizer, self.weights.adversarial * adversarial + self.weights.nested * nested)
        return terms

    def _adversarial(self, x_hat: Tensor, y_hat: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.weights.use_discriminators:
            return x_hat.new_zeros(()), {}
        d_x, d_y = unwrapped(self.noisy_discriminator), unwrapped(self.clean_discriminator)
        with frozen(d_x, d_y):
            adversarial = losses.adversarial_loss(d_x(self._in_range(x_hat)), d_y(self._in_range(y_hat)))
        return adversarial, {"adversarial": adversarial}

    def _update_extractor(self, x: Tensor, y: Tensor, n_hat: Tensor, taught: Harvested | None) -> dict[str, Tensor]:
        if not self.weights.use_extractor:
            return {}
        with torch.no_grad():  # F and G as step 2 left them
            n_bar = x - unwrapped(self.denoiser)(x)
            x_hat = unwrapped(self.degrader)(y) if self.weights.noise_consistency else y
        terms = {"pseudo_noise": losses.pseudo_noise_loss(n_hat, n_bar)}
        loss = self.weights.pseudo_noise * terms["pseudo_noise"]
        if self.weights.noise_consistency:
            terms["noise_consistency"] = losses.noise_consistency_loss(x_hat, y, self.noise_extractor(x_hat))
            loss = loss + self.weights.noise_consistency * terms["noise_consistency"]
        if self.weights.zero_mean:
            loss = loss + self.weights.zero_mean * losses.zero_mean_loss(n_hat)
        if taught is not None and self.weights.harvest:
            terms["harvested_noise"] = self._harvest_loss(self.noise_extractor, taught, taught.noisy - taught.clean)
            loss = loss + self.weights.harvest * terms["harvested_noise"]
        descend(self.extractor_optimizer, loss)
        return terms

    def _harvest_loss(self, network: nn.Module, taught: Harvested, wanted: Tensor) -> Tensor:
        """How far a network is from the wanted answer to clean images with harvested noise."""
        answer = told_answer(network, taught.noisy, taught.belongs)
        if self.weights.squared == 0:
            return losses.reconstruction_loss(wanted, answer)
        noise = quiet_deviation(taught.noisy).clamp_min(LEAST_NOISE)
        return losses.harvest_loss(answer, wanted, noise, squared=self.weights.squared)

    def _harvest_step(self, x: Tensor, taught: Harvested) -> dict[str, Tensor]:
        terms = {"harvest": self._harvest_loss(self.denoiser, taught, taught.clean)}
        descend(self.generator_optimizer, terms["harvest"])
        if self.weights.use_extractor:
            noise = taught.noisy - taught.clean
            terms["harvested_noise"] = self._harvest_loss(self.noise_extractor, taught, noise)
            descend(self.extractor_optimizer, terms["harvested_noise"])
        with torch.no_grad():
            y_hat = unwrapped(self.denoiser)(x[:1])
        # One image is enough for pictures and guards.
        return {**terms, "x": x[:1], "y_hat": y_hat, "n_hat": x[:1] - y_hat}

    def _warm_up_step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        with torch.set_grad_enabled(self.warm_up_generators):
            y_hat = self.denoiser(x)
        if self.warm_up_generators:
            own = losses.reconstruction_loss(x, y_hat) + losses.reconstruction_loss(y, self.degrader(y))
            terms["reconstruction"] = own
            descend(self.generator_optimizer, own)
        n_hat = torch.zeros_like(x)
        if self.weights.use_extractor:
            n_hat = self.noise_extractor(x)
            terms["pseudo_noise"] = losses.pseudo_noise_loss(n_hat, x - y_hat.detach())
            descend(self.extractor_optimizer, terms["pseudo_noise"])
        return {**terms, "x": x, "y_hat": y_hat, "n_hat": n_hat}
