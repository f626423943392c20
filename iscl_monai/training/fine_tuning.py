"""Training that starts from trained weights, and never ends with worse ones than it started from."""

from __future__ import annotations

import math
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from iscl_monai.errors import CheckpointRefusal
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.training.export import Export
from iscl_monai.training.handlers import ModelWriter
from iscl_monai.training.learning import unwrapped
from iscl_monai.training.validation import KEY_METRIC, Validation

WISHES = ("wanted_noise", "dose")
"""What an image shall keep, by the name of a network's buffers."""


class FineTuning:
    """Starts F and H from trained weights, validates these as epoch 0, and says at the end whether others were better.

    Args:
        weights: a bundle's ``models/model.pt``, or released weights.
        denoiser: F as the configs build it; the noise that it shall leave stays as they say.
        noise_extractor: H, likewise.
        export: brings weights into the deployed denoiser.
        validation: measures it.
        writer: keeps the best; the start is one of the candidates.

    Raises:
        CheckpointRefusal: no such file, or networks of another kind or other sizes.
    """

    def __init__(
        self,
        *,
        weights: Path | str,
        denoiser: nn.Module,
        noise_extractor: nn.Module,
        export: Export,
        validation: Validation,
        writer: ModelWriter,
    ) -> None:
        trained = DenoisingNetwork.from_file(weights)
        self.pairs = [
            (trained.denoiser, unwrapped(denoiser)),
            (trained.noise_extractor, unwrapped(noise_extractor)),
        ]
        self.export = export
        self.validation = validation
        self.writer = writer
        for source, network in self.pairs:
            if source.description != network.description:
                raise CheckpointRefusal(
                    f"{weights}: {source.description}",
                    allowed=f"{network.description}, as the configs build it",
                    cure="give the configs and sizes that the weights were trained with, e.g. fine_tune.json",
                )

    def attach(self, engine: Engine) -> None:
        """Start before the first epoch, unless a run is continued; attach after the checkpoint, which says so."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._compare)

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration > 0:
            return
        for source, network in self.pairs:
            own = {name: value.clone() for name, value in network.named_buffers() if name in WISHES}
            network.load_state_dict(source.state_dict() | own)
        self.export.refresh()
        self.validation(engine)
        if self.writer.enabled:
            self.writer(engine)

    def _compare(self, engine: Engine) -> None:
        scores = {entry["epoch"]: entry.get(KEY_METRIC, math.nan) for entry in self.validation.history}
        if math.isnan(scores.get(0.0, math.nan)):
            engine.logger.warning("without validation pairs nobody knows whether the weights became better")
            return
        best = max(scores, key=lambda epoch: scores[epoch])
        if best == 0.0:
            engine.logger.warning("no epoch was better than the weights it started from: model.pt holds those")
        else:
            engine.logger.info("epoch %d: %s %+.2f over the start", best, KEY_METRIC, scores[best] - scores[0.0])
