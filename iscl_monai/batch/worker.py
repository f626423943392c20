"""What one worker does: looks at folders, plans units, denoises series, one call after the other.

Its model is loaded once. On a CPU it works on one slice at a time, with one thread, so that as many workers as cores
fill the machine; neither their number nor their order can change a result.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from iscl_monai.batch.outcome import Outcome, failure
from iscl_monai.batch.planning import PlannedSeries, PlannedUnit, plan_unit
from iscl_monai.batch.prints import digest_of, fingerprint_of
from iscl_monai.batch.units import Folder, Unit, look_at
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.durable import whole_folder
from iscl_monai.errors import ConfigRefusal, DicomRefusal
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.series import derivation_of
from iscl_monai.inference.stream import stream
from iscl_monai.version import __version__


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every series is denoised with; see :meth:`iscl_monai.inference.denoiser.Denoiser.from_bundle`.

    Attributes:
        save_residual: see :func:`iscl_monai.inference.series.denoise_series`.
        keep_private: likewise.
        slices_at_once: None: one on a CPU, else as many as feed the device.
    """

    bundle: Path
    device: str = "auto"
    mode: str = "ensemble"
    strength: float = 1.0
    tile_px: int | None = None
    weights: str | None = None
    target_noise_hu: float | None = None
    target_dose: float | None = None
    save_residual: bool = False
    keep_private: Sequence[str] = ()
    slices_at_once: int | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """A worker that is ready.

    Attributes:
        host: its machine.
        process: its number there.
        settings: by name, whatever makes other images or other UIDs.
        model: name and version, for people.
    """

    host: str
    process: int
    settings: Mapping[str, str]
    model: str

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}"


class Worker:
    """Loads the model once, and then does what it is told.

    Args:
        settings: of every series.
        root: the archive's folder.
        out: the folder of results.

    Raises:
        Refusal: settings or weights that do not fit, or folders that are not seen from here.
    """

    def __init__(self, settings: Settings, root: Path, out: Path) -> None:
        for folder in (root, out):
            if not folder.is_dir():
                raise ConfigRefusal(
                    f"{folder} is not seen from {socket.gethostname()}",
                    allowed="SOURCE and OUT that all machines see under the same names",
                    cure="give a shared file system",
                )
        self.settings, self.root, self.out = settings, root, out
        self.denoiser = Denoiser.from_bundle(
            settings.bundle,
            device=settings.device,
            mode=settings.mode,
            strength=settings.strength,
            tile_px=settings.tile_px,
            weights=settings.weights,
            target_noise_hu=settings.target_noise_hu,
            target_dose=settings.target_dose,
        )
        self.training = TrainingRecord.of_bundle(settings.bundle, settings.weights)
        self.on_cpu = self.denoiser.device.type == "cpu"
        if self.on_cpu:
            torch.set_num_threads(1)

    def describe(self) -> Description:
        """What is ready, and where."""
        identity = self.denoiser.identity
        return Description(
            host=socket.gethostname(),
            process=os.getpid(),
            settings={
                "iscl-monai": __version__,
                "model": f"{identity.name} {identity.version}",
                "weights sha256": identity.weights_digest,
                "save-residual": str(self.settings.save_residual),
                "keep-private": ", ".join(sorted(self.settings.keep_private)),
                **self.denoiser.parameters,
            },
            model=f"{identity.name} {identity.version}",
        )

    def look(self, folder: Path, known: Folder | None) -> Folder:
        """See :func:`iscl_monai.batch.units.look_at`."""
        return look_at(folder, known)

    def plan(self, unit: Unit, fingerprints: Mapping[str, str]) -> PlannedUnit:
        """See :func:`iscl_monai.batch.planning.plan_unit`."""
        return plan_unit(unit, self.root, training=self.training, fingerprints=fingerprints)

    def denoise(self, series: PlannedSeries, destination: Path) -> Outcome:
        """Denoise one series into a folder that appears whole or not at all.

        Args:
            series: that can be denoised.
            destination: absolute.

        Returns:
            How it ended: whatever happens in Python comes back as an outcome.
        """
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            digest, result_bytes = self._denoise(series, destination)
        except Exception as error:
            return failure(error)
        return Outcome(
            digest=digest,
            wall_s=time.perf_counter() - wall_s,
            cpu_s=time.process_time() - cpu_s,
            result_bytes=result_bytes,
        )

    def _denoise(self, series: PlannedSeries, destination: Path) -> tuple[str, int]:
        assert series.source is not None
        digest = digest_of(series.files)
        derivation = derivation_of(self.denoiser, self.settings.keep_private)
        workers = self.settings.slices_at_once or (1 if self.on_cpu else None)
        with without_warnings(), whole_folder(destination) as folder:
            for _ in stream(
                series.source,
                folder,
                self.denoiser,
                derivation,
                save_residual=self.settings.save_residual,
                workers=workers,
            ):
                pass
            # Before the result gets its name: what the ledger says it is made of is what it was made of.
            if fingerprint_of(series.files) != series.fingerprint:
                raise DicomRefusal(
                    series.folder,
                    tag="SeriesInstanceUID",
                    found=f"{series.series_uid or 'absent'} of files that were changed since they were planned",
                    needed="files that stay as they are",
                    cure="give the same command again when nobody writes there",
                )
            written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return digest, written
