"""Micrographs in, micrographs out: the change applied to the stored numbers of the same container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_monai.inference.denoised_before import check_not_denoised
from iscl_monai.inference.denoiser import Denoiser
from iscl_monai.inference.familiarity import TrainingRecord
from iscl_monai.inference.places import check_places
from iscl_monai.inference.slice_denoiser import check_sides
from iscl_monai.micrograph import GreyScale, MicrographStack, Piece, Written, read_micrographs, write_micrographs
from iscl_monai.micrograph.flat import FLAT_PX, flat_places
from iscl_monai.quality.appearance import LARGEST_PX
from iscl_monai.quality.familiarity import looked_at

Image = npt.NDArray[np.float32]

MOST_SECTIONS = 8
"""That are looked at before the first is denoised."""


@dataclass(frozen=True)
class DenoisedMicrographs:
    """What became of a stack.

    Args:
        written: what was changed.
        unlike: a sentence for each thing in which the stack is unlike the images of the training.
    """

    written: Written
    unlike: tuple[str, ...]


def denoise_micrographs(
    source: Path | str,
    destination: Path | str,
    *,
    denoiser: Denoiser,
    grey_range: tuple[float, float] | None = None,
    allow_holes: bool = False,
    training: TrainingRecord | None = None,
    begins: Callable[[int], object] | None = None,
    progress: Callable[[int], object] | None = None,
) -> DenoisedMicrographs:
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
        training: of the weights.
        begins: called with the number of sections before the first is denoised.
        progress: called with the number of sections finished since the last call.

    Raises:
        Refusal: what is no micrograph, or cannot be written; then there is no destination.
    """
    source, destination = Path(source), Path(destination)
    check_places(source, destination)
    stack = read_micrographs(source, allow_holes=allow_holes)
    check_sides(stack.path, stack.rows, stack.columns, largest=None)
    for file in stack.files:
        check_not_denoised(file.path, file.description)
    scale = GreyScale.of(stack, grey_range)
    if begins is not None:
        begins(len(stack))

    def change(piece: Piece, grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        changed = scale.stored_change(denoiser.change_mosaic(scale.to_grey8(grey)))
        return np.where(flat_places(grey), np.float32(0), changed)

    unlike = [] if training is None else training.compare_micrographs(_middles(stack, scale))
    margin = max(denoiser.reach_px, FLAT_PX)
    written = write_micrographs(stack, destination, change, margin=margin, align=denoiser.stride_px, progress=progress)
    return DenoisedMicrographs(written, tuple(one.sentence for one in unlike))


def before_and_after(
    source: Path | str,
    destination: Path | str,
    *,
    grey_range: tuple[float, float] | None = None,
    allow_holes: bool = False,
    most: int,
) -> tuple[int, Iterator[tuple[str, Image, Image]]]:
    """The number of sections of a stack, and a few of them as they were and as they were written.

    Args:
        source: as of :func:`denoise_micrographs`.
        destination: what it wrote.
        grey_range: likewise.
        allow_holes: likewise.
        most: how many sections to show, evenly spread; of large ones the middle.

    Returns:
        With the number, what each section is called, before and after, (row, column), grey levels 0 to 255.
    """
    before, after = (read_micrographs(place, allow_holes=allow_holes) for place in (source, destination))
    scale = GreyScale.of(before, grey_range)
    rows, columns = _middle(before.rows), slice(*_middle(before.columns))

    def shown() -> Iterator[tuple[str, Image, Image]]:
        for place in looked_at(len(before), most):
            old, new = (scale.to_grey8(stack.grey(place, *rows))[:, columns] for stack in (before, after))
            yield f"section {before.numbers[place]}", old, new

    return len(before), shown()


def _middle(size: int) -> tuple[int, int]:
    """First and one past the last of the rows or columns in the middle, ``LARGEST_PX`` of them at most."""
    first = max(0, (size - LARGEST_PX) // 2)
    return first, min(size, first + LARGEST_PX)


def _middles(stack: MicrographStack, scale: GreyScale) -> Iterator[npt.NDArray[np.float32]]:
    """The rows in the middle of a few sections, the first and the last among them."""
    rows = _middle(stack.rows)
    return (scale.to_grey8(stack.grey(place, *rows)) for place in looked_at(len(stack), MOST_SECTIONS))
