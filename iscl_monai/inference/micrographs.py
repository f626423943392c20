"""Micrographs in, micrographs out: the change applied to the stored numbers of the same container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.places import check_places
from iscl_monai.inference.slice_denoiser import check_sides
from iscl_monai.micrograph import GreyScale, Piece, Written, read_micrographs, write_micrographs
from iscl_monai.micrograph.flat import FLAT_PX, flat_places


def denoise_micrographs(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: Denoiser,
    grey_range: tuple[float, float] | None = None,
    allow_holes: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Written:
    """Denoise one file, or a folder of images of one kind, section by section.

    Sections of more than 4096 x 4096 pixels pass in bands of rows, and what is larger than
    :data:`iscl_monai.inference.denoiser.MOSAIC_TILE_PX` in seamless tiles, so memory is bounded.
    What is flat stays as it is (:func:`iscl_monai.micrograph.flat.flat_places`): networks make grey of black padding.

    Args:
        source: see :func:`iscl_monai.micrograph.read_micrographs`.
        destination: absent; a file of the same container for a file, a folder for a folder.
        denoiser: of weights for the domain ``micrograph``.
        grey_range: stored numbers of black and white, see :meth:`iscl_monai.micrograph.GreyScale.of`.
        allow_holes: of a folder: a number may be missing in its names.
        progress: called with the number of sections finished since the last call.

    Raises:
        Refusal: what is no micrograph, or cannot be written; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    stack = read_micrographs(source, allow_holes=allow_holes)
    check_sides(stack.path, stack.rows, stack.columns, largest=None)
    scale = GreyScale.of(stack, grey_range)

    def change(piece: Piece, grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        changed = scale.stored_change(denoiser.change_mosaic(scale.to_grey8(grey)))
        return np.where(flat_places(grey), np.float32(0), changed)

    margin = max(denoiser.reach_px, FLAT_PX)
    return write_micrographs(stack, destination, change, margin=margin, align=denoiser.stride_px, progress=progress)
