"""NIfTI in, NIfTI out: geometry and type of the file kept bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iscl_monai.dicom.derivation import DISCLAIMER
from iscl_monai.dicom.images import NIFTI
from iscl_monai.dicom.nifti import NiftiVolume, NiftiWriter, described, residual_header
from iscl_monai.durable import move_into_place, workshop
from iscl_monai.errors import OutputRefusal
from iscl_monai.inference.classic import DenoisedSlice
from iscl_monai.inference.denoised_before import check_not_denoised
from iscl_monai.inference.familiarity import NOT_COMPARED, Comparison, TrainingRecord
from iscl_monai.inference.places import check_places
from iscl_monai.inference.plan import Plan
from iscl_monai.inference.series import Outcome, Watcher
from iscl_monai.inference.slice_denoiser import SliceDenoiser, check_slice
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.quality.familiarity import geometry_of

Stored = npt.NDArray[Any]


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI)


def denoise_image(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: SliceDenoiser,
    save_residual: bool = False,
    trust_hu: bool = False,
    workers: int | None = None,
    watcher: Watcher | None = None,
    training: TrainingRecord | None = None,
) -> Outcome:
    """Denoise a NIfTI volume, slice by slice along its third axis.

    The header is copied byte for byte except for its free text, which says that the image is AI-processed; values
    are rounded into the file's own type, slope and intercept.

    Args:
        source: ``.nii`` or ``.nii.gz``, CT in Hounsfield units.
        destination: file to make, ``.nii`` or ``.nii.gz``.
        denoiser: what denoises.
        save_residual: also write what was removed, as ``<name>.residual.nii.gz`` (float32).
        trust_hu: see :class:`iscl_monai.dicom.nifti.NiftiVolume`.
        workers: slices worked on at the same time.
        watcher: see :class:`iscl_monai.inference.series.Watcher`.
        training: of the weights; in what the scan is unlike it stands in the outcome: 80 characters in the file are too
            few for it.

    Raises:
        Refusal: no CT volume, or a destination that is taken; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    if not is_nifti(destination):
        raise OutputRefusal(
            f"{destination} for the NIfTI file {source}",
            allowed="a name that ends with .nii or .nii.gz",
            cure=f"give e.g. {destination.with_suffix('.nii.gz')}",
        )
    with workshop(destination) as folder:
        volume = NiftiVolume(source, trust_hu=trust_hu)
        check_not_denoised(source, volume.description)
        check_slice(np.zeros((volume.rows, volume.columns), np.float32))
        made = _Writing(volume, folder, destination, denoiser, save_residual=save_residual)
        compared = _compare(volume, training)
        unlike = [one.sentence for one in compared.unlike]
        if watcher is not None:
            watcher.begins(source.name, volume.count, unlike)
        workers = workers or useful_workers(denoiser.device.type, volume.count, (volume.rows, volume.columns))

        def work(stored: Stored) -> tuple[Stored, Stored]:
            return stored, volume.changed(stored, denoiser.change_hu(volume.hu(stored)))

        with closing(made):
            for index, (before, after) in enumerate(in_order(volume.slices(), work, workers=workers)):
                seen = made.write(index, before, after)
                if watcher is not None:
                    watcher.slice_written(seen)
            made.finish()
        if watcher is not None:
            watcher.ends(folder, Plan((), ()))
        move_into_place(dict(made.places()))
    return Outcome(
        destination,
        ((source.name, volume.count),),
        unlike=tuple((source.name, one) for one in unlike),
        unmeasured=((source.name, compared.unmeasured),) if compared.unmeasured else (),
    )


def _compare(volume: NiftiVolume, training: TrainingRecord | None) -> Comparison:
    return NOT_COMPARED if training is None else training.compare(volume.sampled_hu, geometry_of([volume.spacing_mm]))


class _Writing:
    """The files in the making."""

    def __init__(
        self, volume: NiftiVolume, folder: Path, destination: Path, denoiser: SliceDenoiser, *, save_residual: bool
    ) -> None:
        self.volume = volume
        self.folder = folder
        self.destination = destination
        self.ending = ".nii.gz" if destination.name.lower().endswith(".gz") else ".nii"
        self.path = folder / f"denoised{self.ending}"
        description = f"{DISCLAIMER}; {denoiser.identity.name} {denoiser.identity.weights_digest[:12]}"
        header = described(volume.header, description, header_size=volume.header_size)
        self.writer = NiftiWriter(self.path, header, volume.dtype)
        self.residual: NiftiWriter | None = None
        if save_residual:
            header, dtype = residual_header(volume)
            header = described(header, f"Removed noise. {description}", header_size=volume.header_size)
            self.residual = NiftiWriter(folder / f"residual{self.ending}", header, dtype)

    def write(self, index: int, before: Stored, after: Stored) -> DenoisedSlice:
        """The next slice."""
        self.writer.write(after)
        before_hu, after_hu = self.volume.hu(before), self.volume.hu(after)
        if self.residual is not None:
            self.residual.write(before_hu - after_hu)
        down, right = self.volume.upright
        return DenoisedSlice(index, lambda: before_hu[::down, ::right], lambda: after_hu[::down, ::right], None)

    def finish(self) -> None:
        """Flush, and read again."""
        self.writer.finish()
        if self.residual is not None:
            self.residual.finish()

    def close(self) -> None:
        """Let go of the files, whatever has happened."""
        self.writer.close()
        if self.residual is not None:
            self.residual.close()

    def places(self) -> Iterator[tuple[Path, Path]]:
        """What goes where, the volume itself last."""
        stem = self.destination.name[: -len(self.ending)]
        for path in sorted(self.folder.iterdir()):
            if path != self.path:
                yield path, self.destination.with_name(f"{stem}.{path.name}")
        yield self.path, self.destination
