"""From networks in training to the denoiser deployed: averaged weights, fresh statistics, a chosen blend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset, default_collate

from iscl_monai.errors import ConfigRefusal
from iscl_monai.networks import DenoisingNetwork, gather_statistics
from iscl_monai.training.learning import unwrapped


class WeightAveraging:
    """Stochastic weight averaging (Izmailov et al., UAI 2018) of F, G and H over the end of the run.

    The authors average F and G from 60 % of the steps on, and then predict with the raw weights; we predict
    with the averaged ones.

    Args:
        denoiser: F.
        degrader: G.
        noise_extractor: H; averaged as well, as its raw weights follow every swing of F.
        start: share of the run after which averaging begins.
    """

    def __init__(
        self, *, denoiser: nn.Module, degrader: nn.Module, noise_extractor: nn.Module, start: float = 0.6
    ) -> None:
        if not 0 <= start <= 1:
            raise ConfigRefusal(f"averaging start={start}", allowed="0 to 1", cure="0.6 is the authors'")
        self.start = start
        self.raw = {"denoiser": denoiser, "degrader": degrader, "noise_extractor": noise_extractor}
        self.averaged = {name: AveragedModel(unwrapped(network)) for name, network in self.raw.items()}

    def attach(self, engine: Engine) -> None:
        """Average after every iteration once the share of the run is done."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take the current weights into the average, if it is time."""
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        if engine.state.iteration > self.start * total:
            for name, network in self.raw.items():
                self.averaged[name].update_parameters(unwrapped(network))

    @property
    def begun(self) -> bool:
        """Whether there is an average yet."""
        return bool(self.averaged["denoiser"].n_averaged > 0)

    def best(self, name: str) -> nn.Module:
        """The averaged network if there is one, else the raw one."""
        averaged: nn.Module = self.averaged[name].module
        return averaged if self.begun else unwrapped(self.raw[name])

    def state_dict(self) -> dict[str, Any]:
        """Everything the average consists of."""
        return {name: model.state_dict() for name, model in self.averaged.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an earlier average."""
        for name, model in self.averaged.items():
            model.load_state_dict(state[name])


class Export:
    """Keeps a deployable :class:`DenoisingNetwork` in step with the networks in training.

    Args:
        network: the denoiser that validation, checkpoint and inference see; its weights are overwritten.
        averaging: where the weights come from.
        patches: the training patches; statistics are gathered over a fixed handful of the noisy ones.
        batch_size: that of the training, since statistics belong to it.
        batches: how many are gathered over.
        averaged: False takes the raw weights instead (the authors' prediction).
        blend_slices: validation slices that choose the blend; without clean ones it stays as it is.
    """

    def __init__(
        self,
        *,
        network: DenoisingNetwork,
        averaging: WeightAveraging,
        patches: Dataset[dict[str, Tensor]],
        batch_size: int,
        batches: int = 16,
        averaged: bool = True,
        blend_slices: Sequence[dict[str, Tensor]] = (),
    ) -> None:
        self.network = network
        self.averaging = averaging
        self.patches = patches
        self.batch_size = batch_size
        self.batches = batches
        self.averaged = averaged
        self.blend_slices = blend_slices
        self._noisy: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Refresh after every epoch; attach before validation and checkpoint."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.refresh())

    def refresh(self) -> DenoisingNetwork:
        """Copy weights, gather statistics anew, choose the blend; returns the denoiser in evaluation mode."""
        for name in ("denoiser", "noise_extractor"):
            source = self.averaging.best(name) if self.averaged else unwrapped(self.averaging.raw[name])
            getattr(self.network, name).load_state_dict(source.state_dict())
            gather_statistics(getattr(self.network, name), self._batches())
        self.network.eval()
        blend = best_blend(self.network, self.blend_slices)
        if blend is not None:
            self.network.blend.fill_(blend)
        return self.network

    def _batches(self) -> Sequence[Tensor]:
        if not self._noisy:
            # Far beyond any run's own indices: the same distribution, other patches, always the same.
            first = 2**40
            indices = range(first, first + self.batches * self.batch_size)
            samples = [self.patches[index]["noisy"] for index in indices]
            self._noisy = [
                default_collate(samples[at : at + self.batch_size]) for at in range(0, len(samples), self.batch_size)
            ]
        device = self.network.blend.device
        return [batch.to(device) for batch in self._noisy]


def best_blend(network: DenoisingNetwork, pairs: Sequence[dict[str, Tensor]]) -> float | None:
    """The blend with the least squared error over validation slices, in closed form.

    Args:
        network: the denoiser, in evaluation mode.
        pairs: ``{"noisy", "clean", "body"}`` of (1, rows, columns), images in [-1, 1]; those without
            ``clean`` do not count.

    Returns:
        A number in [0, 1]; None without pairs, or when F and H agree everywhere.
    """
    along, length = 0.0, 0.0
    device = network.blend.device
    with torch.inference_mode():
        for pair in (pair for pair in pairs if "clean" in pair):
            x, y, body = (pair[key].to(device)[None] for key in ("noisy", "clean", "body"))
            y_hat, y_bar, _ = network.modes(x)
            difference = (y_hat - y_bar) * body
            along += float((difference * (y - y_bar)).sum(dtype=torch.float64))
            length += float(difference.square().sum(dtype=torch.float64))
    return min(1.0, max(0.0, along / length)) if length > 0 else None
