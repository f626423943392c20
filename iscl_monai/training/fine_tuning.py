"""Training that starts from trained weights, and never ends with worse ones than it started from."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from iscl_monai.errors import CheckpointRefusal
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.quality.truth_error import root_hu
from iscl_monai.released import record_beside
from iscl_monai.training.export import Export
from iscl_monai.training.handlers import ModelWriter
from iscl_monai.training.learning import unwrapped
from iscl_monai.training.validation import KEY_METRIC, TRUTH_ERROR, Validation, score

log = logging.getLogger(__name__)

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
        writer: keeps the best; the start is one of the candidates. The patients of the start's training are written
            beside those of this one, so that nobody scores the new weights on them.

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
        trained = DenoisingNetwork.from_file(weights, domain=export.network.domain)
        self.pairs = [
            (trained.denoiser, unwrapped(denoiser)),
            (trained.noise_extractor, unwrapped(noise_extractor)),
        ]
        self.export = export
        self.validation = validation
        self.writer = writer
        self.writer.earlier_patients = _patients_of(weights)
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
        entries = {entry["epoch"]: entry for entry in self.validation.history}
        start = entries.get(0.0, {})
        if math.isnan(score(start)):
            engine.logger.warning("without validation pairs nobody knows whether the weights became better")
            return
        if TRUTH_ERROR not in start:
            engine.logger.warning(
                "judged by PSNR against references whose own noise counts as anatomy: "
                "give each validation pair its dose or truth, and the error to the truth decides"
            )
        best = max(entries, key=lambda epoch: score(entries[epoch]))
        if best == 0.0:
            engine.logger.warning("no epoch was better than the weights it started from: model.pt holds those")
        else:
            engine.logger.info("epoch %d, the best: %s", best, _gain(start, entries[best]))


def _patients_of(weights: Path | str) -> tuple[str, ...]:
    """That the record beside weights names; without a record nobody can know them."""
    path = record_beside(weights)
    if not path.is_file():
        log.warning("%s does not exist: whom %s was trained on is not known", path, weights)
        return ()
    try:
        patients = json.loads(path.read_text(encoding="utf-8"))["patients"]
        return tuple(str(patient) for patient in patients)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointRefusal(
            f"{path}: no list of patients ({type(error).__name__})",
            allowed="the record that the training wrote beside its weights",
            cure="copy it again, with the weights",
        ) from None


def _gain(start: Mapping[str, float], best: Mapping[str, float]) -> str:
    if TRUTH_ERROR in start:
        return f"error to the truth {root_hu(start[TRUTH_ERROR]):.2f} -> {root_hu(best[TRUTH_ERROR]):.2f} HU"
    return f"{KEY_METRIC} {best[KEY_METRIC] - start[KEY_METRIC]:+.2f} over the start"
