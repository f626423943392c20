"""Validation of the exported denoiser in Hounsfield units: against pairs, or against its input alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from iscl_monai.domain import CT
from iscl_monai.domain.domain import Panel
from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.networks.denoising_network import MODES
from iscl_monai.quality.fidelity import fidelity
from iscl_monai.quality.protocol import HU_BODY, Protocol
from iscl_monai.quality.truth_error import estimated_error_hu2, root_hu, truth_error_hu2

KEY_METRIC = "psnr_db"
TRUTH_ERROR = "truth_error_hu2"
"""Mean square of the error to the truth (:mod:`iscl_monai.quality.truth_error`), where it is known of all pairs."""


def score(entry: Mapping[str, float]) -> float:
    """By which of two validations the better one is told: larger is better; NaN where there is nothing to tell it by.

    By the error to the truth, if that is known. PSNR against a reference with noise of its own rewards a denoiser for
    each bit of that noise that it leaves, so it cannot see whether one became better.

    Args:
        entry: of :attr:`Validation.history`.
    """
    error = entry.get(TRUTH_ERROR, math.nan)
    return entry.get(KEY_METRIC, math.nan) if math.isnan(error) else -error


class DenoisingEvaluator(Evaluator):
    """Denoises slices or volumes and measures each of the denoiser's modes beside the noisy input.

    Items with a clean reference are measured on a named protocol (``psnr_db``, ``ssim``, ``rmse_hu``,
    ``mean_shift_hu``); all of them on the domain's panel without reference (``shift_from_input_hu``,
    ``residual_correlation``, of CT also ``noise_hu``). Names: the plain one is the denoiser as deployed,
    ``input_...`` its noisy input, ``generator_...`` F alone and ``extractor_...`` x - H(x) alone.

    Args:
        device: where the network lives.
        val_data_loader: batches of one item ``{"noisy", "noisy_hu"[, "clean_hu"]}``: a slice (1, 1, row,
            column) or a volume (1, 1, row, column, slice); with ``truth_hu`` or ``dose`` also errors to the truth.
        network: the exported denoiser.
        hu_window: the window of the preprocessing.
        inferer: how the network is moved over an item; SliceInferer for volumes.
        protocol: what the numbers with a reference are measured on.
        panel: what is measured without one, see :class:`iscl_monai.domain.Domain`.
        val_handlers: handlers with ``attach(engine)``.
        keep_images: put ``noisy_hu``, ``denoised_hu`` and ``clean_hu`` into ``state.output`` (for pictures).
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        val_data_loader: Iterable[Mapping[str, Any]],
        network: DenoisingNetwork,
        hu_window: HUWindow,
        inferer: Inferer | None = None,
        protocol: Protocol = HU_BODY,
        panel: Panel = CT.panel,
        val_handlers: Sequence[Any] | None = None,
        keep_images: bool = False,
    ) -> None:
        self.network = network
        self.hu_window = hu_window
        self.inferer = inferer or SimpleInferer()
        self.protocol = protocol
        self.panel = panel
        self.keep_images = keep_images
        super().__init__(
            device=torch.device(device),
            val_data_loader=val_data_loader,
            key_val_metric={KEY_METRIC: MeanOfItems(KEY_METRIC)},
            additional_metrics={"all": MeanOfItems(None)},
            val_handlers=val_handlers,
            decollate=False,
        )

    def _iteration(self, engine: Engine, batch: Mapping[str, Any]) -> dict[str, Any]:
        x = batch["noisy"].to(self.state.device)
        noisy_hu = batch["noisy_hu"]
        with torch.inference_mode():
            answers = self.inferer(x, self.network.modes)
        predictions = dict(zip(("generator", "extractor", "ensemble"), answers, strict=True))
        images = {"input": noisy_hu} | {
            mode: self.hu_window.apply_change(noisy_hu, predictions[mode].cpu()) for mode in MODES
        }
        volumes = {name: _slices_first(image) for name, image in images.items()}
        reference, truth = (_slices_first(batch[key]) if key in batch else None for key in ("clean_hu", "truth_hu"))
        measured = self._measure(volumes, reference) | self._truth_errors(volumes, reference, truth, batch.get("dose"))
        output: dict[str, Any] = {"measured": measured}
        if self.keep_images:
            output |= {
                "noisy_hu": volumes["input"],
                "denoised_hu": volumes[self.network.mode],
                "clean_hu": reference,
            }
        engine.state.output = output  # type: ignore[assignment]  # ignite says int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _measure(self, volumes: Mapping[str, Tensor], reference: Tensor | None) -> dict[str, float]:
        measured: dict[str, float] = {}
        for name, volume in volumes.items():
            prefix = "" if name == self.network.mode else f"{name}_"
            if reference is not None:
                mean = fidelity(volume, reference, protocol=self.protocol).mean()
                for quantity in ("psnr_db", "ssim", "rmse_hu", "mean_shift_hu"):
                    measured[prefix + quantity] = getattr(mean, quantity)
            if name == self.network.mode:
                measured |= self.panel(volumes["input"], volume)
        return measured

    def _truth_errors(
        self, volumes: Mapping[str, Tensor], reference: Tensor | None, truth: Tensor | None, dose: Any
    ) -> dict[str, float]:
        """Of each mode and the input, where the truth or the dose is known."""
        errors: dict[str, float] = {}
        for name, volume in volumes.items():
            prefix = "" if name == self.network.mode else f"{name}_"
            if truth is not None:
                errors[prefix + TRUTH_ERROR] = truth_error_hu2(volume, truth)
            elif dose is not None and reference is not None:
                errors[prefix + TRUTH_ERROR] = estimated_error_hu2(volume, volumes["input"], reference, float(dose))
        return errors


def _slices_first(image: Tensor) -> Tensor:
    """(1, 1, row, column[, slice]) to (slice, row, column)."""
    plain = torch.as_tensor(image)[0, 0]
    return plain[None] if plain.ndim == 2 else plain.permute(2, 0, 1)


class MeanOfItems(Metric):
    """The mean over items of one measured quantity, or of all of them (then the result is a dictionary).

    Args:
        quantity: its name; None for all.
    """

    def __init__(self, quantity: str | None) -> None:
        self.quantity = quantity
        # A tuple of one: ignite takes a bare mapping for its own {"y_pred", "y"}.
        super().__init__(output_transform=lambda output: (output["measured"],))

    def reset(self) -> None:
        """Forget all items."""
        self.values: dict[str, list[float]] = {}

    def update(self, output: tuple[Mapping[str, float]]) -> None:
        """Take one item in; what could not be measured on it (NaN) does not count."""
        for name, value in output[0].items():
            if not math.isnan(value):
                self.values.setdefault(name, []).append(value)

    def compute(self) -> float | dict[str, float]:
        """The mean, NaN when nothing was measured, or the means of all quantities."""
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        return means if self.quantity is None else means.get(self.quantity, float("nan"))


class Validation:
    """Runs the evaluator after every so many epochs of the trainer, on the last one too.

    MONAI's ValidationHandler skips the last epoch unless the interval divides it; the denoiser of the last
    epoch is the one that gets deployed.

    Args:
        evaluator: run with the trainer's epoch.
        interval: epochs between two validations.
        history: receives one entry ``{"epoch": ..., metric: value}`` per validation.
    """

    def __init__(self, evaluator: DenoisingEvaluator, *, interval: int = 1) -> None:
        self.evaluator = evaluator
        self.interval = interval
        self.history: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """Validate at the end of epochs."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Validate, if it is time."""
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            self.evaluator.run(epoch)
            metrics = {k: v for k, v in self.evaluator.state.metrics.items() if isinstance(v, float)}
            self.history.append({"epoch": float(epoch), **metrics})
            # The best of these epochs is kept, and its blend was chosen on these slices.
            engine.logger.info("epoch %d, optimistic: %s", epoch, summary(metrics, self.evaluator.protocol))

    def state_dict(self) -> dict[str, Any]:
        """All validations so far."""
        return {"history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue an earlier history."""
        self.history = list(state["history"])


def summary(metrics: Mapping[str, float], protocol: Protocol = HU_BODY) -> str:
    """The few numbers a person looks at, in words, with the protocol they were measured on."""
    parts = []
    if not math.isnan(metrics.get("psnr_db", float("nan"))):
        parts.append(f"PSNR {metrics['input_psnr_db']:.2f} -> {metrics['psnr_db']:.2f} dB ({protocol.name})")
        alone = {"F": "generator_psnr_db", "x - H": "extractor_psnr_db"}  # or one is deployed
        alone_db = [f"{letter} {metrics[name]:.2f}" for letter, name in alone.items() if name in metrics]
        parts.append(", ".join(alone_db) + " dB")
        parts.append(f"mean shift {metrics['mean_shift_hu']:+.1f} {protocol.unit}")
    if TRUTH_ERROR in metrics:
        before, after = (root_hu(metrics[name]) for name in (f"input_{TRUTH_ERROR}", TRUTH_ERROR))
        parts.append(f"error to the truth {before:.2f} -> {after:.2f} HU")
    if "noise_hu" in metrics:
        parts.append(f"local noise {metrics['input_noise_hu']:.1f} -> {metrics['noise_hu']:.1f} HU")
    if "residual_correlation" in metrics:
        parts.append(f"residual correlation {metrics['residual_correlation']:.2f}")
    return ", ".join(parts)
