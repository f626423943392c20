"""The bundle's inference: an engine whose every iteration denoises one file or folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Evaluator

from iscl_monai.inference.anything import denoise
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.image import is_nifti


class DenoisingEngine(Evaluator):
    """Denoises scan after scan; slices are streamed inside of an iteration, so memory holds a few of them.

    MONAI's own way, a volume per batch and ``SaveImaged`` behind it, holds whole scans and cannot write DICOM that
    belongs to its study. So an iteration here takes a path and ends when everything of it is safely written.

    Args:
        device: as every MONAI engine; where the denoiser is.
        val_data_loader: gives ``{"image": [path]}`` or ``{"image": [path], "series_uid": [uid]}``.
        denoiser: what denoises.
        output_dir: where ``<name>_denoised`` is made for every path, a folder or a file as the path is.
        save_residual: see :func:`iscl_monai.inference.anything.denoise`.
        trust_hu: likewise, for the NIfTI files among the scans.
        training: likewise.
        val_handlers: ignite handlers; ``engine.state.output`` is the outcome of the scan.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        val_data_loader: Iterable[Any],
        denoiser: Denoiser,
        output_dir: Path | str,
        save_residual: bool = False,
        trust_hu: bool = False,
        training: TrainingRecord | None = None,
        val_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(device=device, val_data_loader=val_data_loader, val_handlers=val_handlers)
        self.denoiser = denoiser
        self.output_dir = Path(output_dir)
        self.save_residual = save_residual
        self.trust_hu = trust_hu
        self.training = training

    def _iteration(self, engine: Engine, batchdata: Any) -> Any:
        """One scan."""
        source = Path(batchdata["image"][0])
        series_uid = batchdata["series_uid"][0] if "series_uid" in batchdata else None
        outcome = denoise(
            source,
            self.output_dir / denoised_name(source),
            denoiser=self.denoiser,
            series_uid=series_uid,
            save_residual=self.save_residual,
            trust_hu=self.trust_hu and is_nifti(source),
            training=self.training,
        )
        for title, sentence in outcome.unlike:
            engine.logger.warning("%s: %s", title, sentence)
        for title, sentence in (*outcome.unmeasured, *outcome.notes):
            engine.logger.info("%s: %s", title, sentence)
        engine.logger.info("%s: %d series, %d files skipped", source, len(outcome.series), len(outcome.skipped))
        return outcome


def denoised_name(source: Path) -> str:
    """``scan_denoised`` for a folder ``scan``, ``chest_denoised.nii.gz`` for a file ``chest.nii.gz``."""
    source = source.resolve()
    ending = (
        "" if source.is_dir() else "".join(source.suffixes[-2:] if source.name.endswith(".gz") else [source.suffix])
    )
    return f"{source.name[: len(source.name) - len(ending)]}_denoised{ending}"
