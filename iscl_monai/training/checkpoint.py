"""Checkpoints from which a run continues bit for bit, written so that a crash never costs a finished one.

MONAI's CheckpointSaver writes in place and keeps only what it is given; a kill in the middle of its write
leaves half a file. So files are written here to a temporary name, flushed to the disk and renamed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from ignite.engine import Engine, Events

from iscl_monai.data import Datalist, RunSampler
from iscl_monai.data.identity import Identity, first_change
from iscl_monai.errors import CheckpointRefusal
from iscl_monai.training.learning import unwrapped
from iscl_monai.weights import load_tensors, save_durably

NAME = re.compile(r"checkpoint_epoch=(\d+)\.pt")


class RunCheckpoint:
    """Saves everything a run consists of after each epoch, and continues from the newest checkpoint.

    Attach after everything that changes at the end of an epoch (statistics, validation).

    Args:
        folder: where ``checkpoint_epoch=N.pt`` go.
        parts: name to network, optimiser or anything with ``state_dict`` and ``load_state_dict``.
        sampler: learns on resume how many samples are used up.
        batch_size: samples per iteration and process.
        settings: plain values that must not change within a run (seed, sizes ...); another value is refused.
        scans: what the run is trained on; other scans, or others under the same names, are refused.
        resume: False starts anew, and refuses a folder that already holds checkpoints.
        every: epochs between two checkpoints; the last epoch is always saved.
        keep: how many to keep.
    """

    def __init__(
        self,
        *,
        folder: Path | str,
        parts: Mapping[str, Any],
        sampler: RunSampler,
        batch_size: int,
        settings: Mapping[str, Any] | None = None,
        scans: Datalist | None = None,
        resume: bool = True,
        every: int = 1,
        keep: int = 2,
    ) -> None:
        self.folder = Path(folder)
        self.parts = dict(parts)
        self.sampler = sampler
        self.batch_size = batch_size
        self.settings = dict(settings or {})
        self.scans = scans
        self.resume = resume
        self.every = every
        self.keep = keep
        self._random: Mapping[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts, save when an epoch ends."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._continue_random)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def finished(self) -> list[Path]:
        """All whole checkpoints, oldest first."""
        found = [(int(match[1]), path) for path in self.folder.glob("*.pt") if (match := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def save(self, engine: Engine) -> None:
        """Write the checkpoint of the epoch that just ended, then drop the oldest ones."""
        epoch = engine.state.epoch
        last = epoch == engine.state.max_epochs
        if not _first_process() or (epoch % self.every and not last):
            return
        content = {
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "settings": self.settings,
            "scans": self._identity(),
            "random": _random_state(),
            "parts": {name: _inner(part).state_dict() for name, part in self.parts.items()},
        }
        save_durably(content, self.folder / f"checkpoint_epoch={epoch}.pt")
        for old in self.finished()[: -self.keep]:
            old.unlink()

    def load(self, engine: Engine) -> None:
        """Put everything back as it was at the end of the newest epoch saved.

        Raises:
            CheckpointRefusal: if the checkpoint is of a run with other settings or scans, or one would be overwritten.
        """
        found = self.finished()
        if not found:
            return
        newest = found[-1]
        if not self.resume:
            raise CheckpointRefusal(
                f"{self.folder} already holds {newest.name}",
                allowed="a folder without checkpoints when resume is False",
                cure="leave out --resume False to continue that run, or give another --output_dir",
            )
        content = load_tensors(newest)
        self._check(newest, content)
        for name, part in self.parts.items():
            _load_part(newest, name, _inner(part), content["parts"])
        self._random = content["random"]
        engine.state.epoch = content["epoch"]
        engine.state.iteration = content["iteration"]
        self.sampler.done = content["iteration"] * self.batch_size
        engine.logger.info("continuing after epoch %s of %s", content["epoch"], newest)

    def _continue_random(self) -> None:
        # Only now: making the loader's iterator, after STARTED, has drawn a random number of its own.
        if self._random is not None:
            _restore_random_state(self._random)
            self._random = None

    def _identity(self) -> Identity:
        return {} if self.scans is None else self.scans.identity

    def _check(self, path: Path, content: Mapping[str, Any]) -> None:
        for name, value in self.settings.items():
            before = content["settings"].get(name)
            if before != value:
                raise CheckpointRefusal(
                    f"{path}: the run began with {name}={before}, now it is {value}",
                    allowed=f"{name}={before}",
                    cure="give the former value, or start another run in another --output_dir",
                )
        change = first_change(content.get("scans") or {}, self._identity())
        if change:
            raise CheckpointRefusal(
                f"{path}: the run began on other scans: {change}",
                allowed="the scans that it began on",
                cure="bring them back, or start another run in another --output_dir",
            )


def _inner(part: Any) -> Any:
    return unwrapped(part) if isinstance(part, torch.nn.Module) else part


def _load_part(path: Path, name: str, part: Any, states: Mapping[str, Any]) -> None:
    try:
        part.load_state_dict(states[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointRefusal(
            f"{path}: {name} does not fit ({' '.join(str(error).split())[:200]})",
            allowed="a checkpoint of networks of the same sizes",
            cure="give the former sizes, or start another run in another --output_dir",
        ) from None


def _first_process() -> bool:
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not spread or torch.distributed.get_rank() == 0


def _random_state() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: Mapping[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
