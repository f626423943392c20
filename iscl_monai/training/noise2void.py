"""Noise2Void: a denoiser that sees noisy images only, and one pixel at a time not even those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.optim import Optimizer

from iscl_monai.networks import project_rho
from iscl_monai.training.batches import Batch, prepare_unpaired_batch
from iscl_monai.training.learning import unwrapped

MASKED_SHARE = 1 / 64
RADIUS_PX = 2


class Noise2Void(Trainer):
    """Trains x - H(x) to tell hidden pixels from their surroundings (Krull, Buchholz, Jug, CVPR 2019).

    Some pixels are replaced by neighbours; the squared error at these pixels, against what stood there, is the loss.
    Noise that is independent from pixel to pixel cannot be told and is left out. The noise of CT is not: filtered
    backprojection correlates it over a few pixels, and that part stays. The network is ISCL's extractor in place of
    their U-Net, so that both have the same means.

    Args:
        device: where the network lives.
        max_epochs: epochs of the whole run.
        train_data_loader: yields ``{"noisy", "clean"}``, (batch, 1, rows, columns) in [-1, 1]; ``clean`` is not used.
        noise_extractor: H.
        extractor_optimizer: over H.
        epoch_length: iterations per epoch.
        train_handlers: handlers with ``attach(engine)``.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Batch],
        noise_extractor: nn.Module,
        extractor_optimizer: Optimizer,
        epoch_length: int | None = None,
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
        self.noise_extractor = noise_extractor
        self.extractor_optimizer = extractor_optimizer

    def _iteration(self, engine: Engine, batch: Batch) -> dict[str, Any]:
        x, _ = self.prepare_batch(batch, self.state.device, self.non_blocking)
        masked, hidden = with_hidden_pixels(x)
        y_bar = masked - self.noise_extractor(masked)
        loss = ((y_bar - x).square() * hidden).sum() / hidden.sum()
        self.extractor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.extractor_optimizer.step()
        project_rho(unwrapped(self.noise_extractor))
        output = {"blind_spot": loss.item(), "x": x, "y_hat": y_bar.detach()}
        engine.state.output = output  # type: ignore[assignment]  # ignite says int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output


def with_hidden_pixels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images in which a random 1/64 of the pixels hold the value of a neighbour within 5x5 pixels instead.

    Args:
        x: (batch, 1, rows, columns).

    Returns:
        The images, and 1.0 where a pixel was replaced, of the same shape. Random numbers are torch's own, whose state
        a resumed run restores.
    """
    hidden = torch.rand_like(x) < MASKED_SHARE
    steps = torch.randint(1, (2 * RADIUS_PX + 1) ** 2, x.shape, device=x.device)  # never the pixel itself
    side = 2 * RADIUS_PX + 1
    middle = side * RADIUS_PX + RADIUS_PX
    places = (middle + steps) % side**2
    padded = nn.functional.pad(x, [RADIUS_PX] * 4, mode="reflect")
    around = nn.functional.unfold(padded, side).view(x.shape[0], side**2, *x.shape[-2:])
    neighbour = around.gather(1, places)
    return torch.where(hidden, neighbour, x), hidden.to(x.dtype)
