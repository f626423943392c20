"""What a person sees of a running training: a bar, scalars and pictures; and the weights that stay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers.tqdm_logger import ProgressBar
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from iscl_monai.data import Datalist, pool_record
from iscl_monai.durable import whole_file
from iscl_monai.hu import HUWindow
from iscl_monai.networks import DenoisingNetwork
from iscl_monai.report.numbers import OPTIMISTIC
from iscl_monai.training.validation import DenoisingEvaluator, Validation, score, summary
from iscl_monai.weights import save_durably


def scalars(output: Mapping[str, Any]) -> dict[str, float]:
    """The loss terms of an iteration's output, without its images."""
    return {name: value for name, value in output.items() if isinstance(value, float)}


class LossBar:
    """A progress bar per epoch with the loss terms beside it.

    Args:
        enabled: False on all but the first process.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Show the bar of this engine."""
        if self.enabled:
            bar = ProgressBar(desc="epoch", persist=True, mininterval=1.0)
            bar.attach(engine, output_transform=lambda output: {k[:12]: v for k, v in scalars(output).items()})


class TensorBoard:
    """Loss terms per iteration, metrics and pictures per validation.

    Args:
        log_dir: folder of the event files.
        hu_window: to turn pictures back into HU.
        validation: whose metrics are written.
        network: the exported denoiser, for the pictures.
        slices: ``{"noisy"}`` (1, rows, columns) in [-1, 1]; the first few are shown.
        pictures: how many.
        every: iterations between two points of the loss curves.
        residual_range: what is black and white in pictures of the residual, in HU.
    """

    def __init__(
        self,
        *,
        log_dir: Path | str,
        hu_window: HUWindow,
        validation: Validation,
        network: DenoisingNetwork,
        slices: Any,
        pictures: int = 2,
        every: int = 10,
        residual_range: float = 200.0,
    ) -> None:
        self.log_dir = str(log_dir)
        self.hu_window = hu_window
        self.validation = validation
        self.network = network
        self.slices = slices
        self.pictures = pictures
        self.every = every
        self.residual_range = residual_range
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Write while this trainer runs; attach after validation."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._losses)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _open(self, engine: Engine) -> None:
        self.writer = SummaryWriter(self.log_dir, purge_step=engine.state.iteration + 1)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self.writer is not None:
            self.writer.close()
        if error is not None:
            raise error

    def _losses(self, engine: Engine) -> None:
        assert self.writer is not None
        output: Any = engine.state.output
        for name, value in scalars(output).items():
            self.writer.add_scalar(f"loss/{name}", value, engine.state.iteration)

    def _epoch(self, engine: Engine) -> None:
        assert self.writer is not None
        history = self.validation.history
        if not history or history[-1]["epoch"] != engine.state.epoch:
            return
        for name, value in history[-1].items():
            self.writer.add_scalar(f"validation/{name}", value, engine.state.iteration)
        for number in range(min(self.pictures, len(self.slices))):
            panel = self.panel(self.slices[number]["noisy"])
            self.writer.add_image(f"slice {number}", panel, engine.state.iteration)

    @torch.inference_mode()
    def panel(self, noisy: Tensor) -> Tensor:
        """x, F(x), x - H(x) and the residual x - denoised side by side, as grey values.

        Args:
            noisy: (1, rows, columns) in [-1, 1].

        Returns:
            (1, rows, 4 * columns) in [0, 1]; images over the window, the residual over +- ``residual_range``.
        """
        x = torch.as_tensor(noisy)[None].to(self.network.blend.device)
        y_hat, y_bar = self.network.denoiser(x), x - self.network.noise_extractor(x)
        residual = (x - self.network(x)) * self.hu_window.half_width / self.residual_range
        return torch.cat([x, y_hat, y_bar, residual], dim=-1).clamp(-1, 1).add(1).div(2)[0].cpu()


class InOrder:
    """Several handlers as one, attached in the order given.

    MONAI's check of a bundle's properties, and its experiment tracking, want ``train#handlers`` to be a list
    of objects with a ``_target_``, so references to components defined elsewhere cannot stand in that list.

    Args:
        handlers: with ``attach(engine)`` each.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self.handlers = list(handlers)

    def attach(self, engine: Engine) -> None:
        """Attach the first, then the second ..."""
        for handler in self.handlers:
            handler.attach(engine)


def training_record(scans: Datalist, pools: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What is said beside weights of the scans that they were trained on.

    Args:
        scans: of the training; patients, so that nobody scores weights on what they have seen, and iterative
            reconstructions.
        pools: the same scans as cached volumes, see :func:`iscl_monai.data.pool_record`.
    """
    both = (*scans.noisy, *scans.clean)
    return {
        "patients": sorted({scan.patient for scan in both} | {pair.patient for pair in scans.validation}),
        "split_protocol": scans.split_protocol,
        "datalist_digest": scans.digest,
        "reconstructions": sorted({scan.reconstruction for scan in both if scan.reconstruction}),
        **pool_record(*pools),
    }


class ModelWriter:
    """Keeps ``model.pt`` (best validation, or newest without pairs) and ``model_last.pt``: tensors only.

    Beside them ``validation.json`` holds all validations so far.

    Args:
        folder: the bundle's ``models`` folder.
        network: the exported denoiser.
        validation: whose :func:`iscl_monai.training.validation.score` decides.
        scans: what is trained on; :func:`training_record` of it is written to ``training.json`` beside the weights.
        pools: cached volumes that are trained on.
        appearance: of micrographs (:func:`iscl_monai.data.appearances`) or of MR magnitude
            (:func:`iscl_monai.data.dark_noise`), which stands there too.
        enabled: False on all but the first process.
    """

    def __init__(
        self,
        *,
        folder: Path | str,
        network: DenoisingNetwork,
        validation: Validation,
        scans: Datalist | None = None,
        pools: Sequence[Sequence[Mapping[str, Any]]] = (),
        appearance: Mapping[str, Sequence[float]] | None = None,
        enabled: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.network = network
        self.validation = validation
        self.scans = scans
        self.pools = pools
        self.appearance = appearance
        self.enabled = enabled
        self.earlier_patients: tuple[str, ...] = ()
        """Whom the weights that a training starts from were trained on."""

    def attach(self, engine: Engine) -> None:
        """Write after validations; attach after :class:`Validation`."""
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)
            engine.add_event_handler(Events.STARTED, lambda _: self._record())

    def _record(self) -> None:
        if self.scans is not None:
            content = training_record(self.scans, self.pools)
            content["patients"] = sorted({*content["patients"], *self.earlier_patients})
            if self.appearance is not None:
                content["appearance"] = self.appearance
            with whole_file(self.folder / "training.json") as file:
                file.write((json.dumps(content, indent=2) + "\n").encode())

    def __call__(self, engine: Engine) -> None:
        """Write what the validation that just ran calls for."""
        history = self.validation.history
        if not history or history[-1]["epoch"] != engine.state.epoch:
            return
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        save_durably(weights, self.folder / "model_last.pt")
        numbers = [{name: value for name, value in entry.items() if math.isfinite(value)} for entry in history]
        with whole_file(self.folder / "validation.json") as file:
            file.write((json.dumps({"note": OPTIMISTIC, "history": numbers}, indent=2) + "\n").encode())
        scores = [score(entry) for entry in history]
        if math.isnan(scores[-1]) or scores[-1] >= max(one for one in scores if not math.isnan(one)):
            save_durably(weights, self.folder / "model.pt")


class MetricsWriter:
    """Writes an evaluation's metrics as JSON, with the protocol of the measurement, and says the main ones.

    Args:
        path: the file to write.
    """

    def __init__(self, *, path: Path | str) -> None:
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Write when the evaluation is complete."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: DenoisingEvaluator) -> None:
        """Write the file, whole or not at all."""
        metrics = {name: value for name, value in engine.state.metrics.items() if isinstance(value, float)}
        # JSON has no NaN and no infinity (the PSNR of two equal images).
        numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        content = {"protocol": engine.protocol.identity, "items": engine.state.iteration, **numbers}
        with whole_file(self.path) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())
        engine.logger.info("%s: %s", self.path, summary(metrics, engine.protocol))
