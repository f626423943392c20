"""Scans denoised once, and kept: a check that was killed goes on with what it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.durable import whole_file
from iscl_monai.inference.slice_denoiser import SliceDenoiser, denoise_volume

Volume = npt.NDArray[np.float32]
Progress = Callable[[int], object]


class Denoising:
    """A denoiser at work on named volumes.

    Objects that are scanned several times stand in a volume slice by slice: an object that is the same all along z,
    with independent noise in each slice, as a long phantom. What neighbours bring to a
    :class:`iscl_monai.inference.slice_denoiser.VolumeDenoiser` is so really brought; what it costs where neighbours
    differ is measured on the stack.

    Args:
        denoiser: anything that denoises slices or volumes.
        folder: where denoised volumes are kept and found again; None: nowhere.
        progress: called with the number of slices done.
    """

    def __init__(self, denoiser: SliceDenoiser, folder: Path | None = None, progress: Progress | None = None) -> None:
        self.denoiser, self.folder, self.progress = denoiser, folder, progress

    def __call__(self, name: str, volume_hu: Volume, *, workers: int | None = None) -> Volume:
        """Denoise a volume, or take what an earlier run made of it.

        Args:
            name: of the volume, letters, digits, dots and underlines; one name for one content.
            volume_hu: HU (slice, row, column).
            workers: see :func:`iscl_monai.inference.denoise_volume`.

        Raises:
            ImageRefusal: if the denoiser gives another shape, or what is not finite.
        """
        file = None if self.folder is None else self.folder / f"{name}.npy"
        if file is not None and file.exists():
            kept: Volume = np.load(file)
            self._advance(len(kept))
            return kept
        denoised_hu = denoise_volume(volume_hu, self.denoiser, workers=workers, progress=self.progress)
        if file is not None:
            with whole_file(file) as opened:
                np.save(opened, denoised_hu)
        return denoised_hu

    def _advance(self, slices: int) -> None:
        if self.progress is not None:
            self.progress(slices)
