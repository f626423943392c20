"""Supervised baselines: one network taught by pairs. What unpaired learning is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim import Optimizer

from iscl_monai.losses import reconstruction_loss
from iscl_monai.networks import project_rho
from iscl_monai.training.batches import Batch, prepare_unpaired_batch
from iscl_monai.training.learning import unwrapped


class SupervisedTwin(Trainer):
    """Trains F, or another network in its place, on pairs: the same patches and the same number of steps as ISCL.

    Args:
        device: where the network lives.
        max_epochs: epochs of the whole run.
        train_data_loader: yields ``{"noisy", "clean"}`` of the same place, (batch, 1, rows, columns) in [-1, 1].
        denoiser: F.
        generator_optimizer: over F.
        epoch_length: iterations per epoch.
        loss: of what should have come out and what did; the mean absolute error, as everywhere in ISCL, by default.
        train_handlers: handlers with ``attach(engine)``.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Batch],
        denoiser: nn.Module,
        generator_optimizer: Optimizer,
        epoch_length: int | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = reconstruction_loss,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            prepare_batch=prepare_unpaired_batch,
            handlers=train_handlers,
            decollate=False,
        )
        self.denoiser = denoiser
        self.generator_optimizer = generator_optimizer
        self.loss = loss

    def _iteration(self, engine: Engine, batch: Batch) -> dict[str, Any]:
        x, y = self.prepare_batch(batch, self.state.device, self.non_blocking)
        y_hat = self.denoiser(x)
        loss = self.loss(y, y_hat)
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.generator_optimizer.step()
        project_rho(unwrapped(self.denoiser))
        output = {"supervised": loss.item(), "x": x, "y_hat": y_hat.detach()}
        engine.state.output = output  # type: ignore[assignment]  # ignite says int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output
