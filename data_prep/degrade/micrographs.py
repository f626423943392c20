"""Film and charge on a stack of micrographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.degrade.charge import Charge, add_charge
from data_prep.degrade.film import Film, add_film
from data_prep.degrade.record import Degradation, psnr_db, record_place, write_record
from data_prep.degrade.stream import generator
from iscl_monai.inference.places import check_places
from iscl_monai.inference.slice_denoiser import check_sides
from iscl_monai.micrograph import Clipped, GreyScale, Piece, read_micrographs, write_micrographs
from iscl_monai.version import __version__

Image = npt.NDArray[np.float64]
KINDS: dict[str, Film | Charge] = {"film": Film(), "charge": Charge()}


def degrade_micrographs(
    source: Path,
    destination: Path,
    *,
    kind: str,
    seed: int = 0,
    role: str = "",
    grey_range: tuple[float, float] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Degradation:
    """Write micrographs with film or charge on them, and a record beside them.

    Grey levels are taken as 0 to 1 between the ends of the range; the result is clipped to it and rounded to the stored
    type. Each section has a generator of its own, by seed, kind, role and number of the section.

    Args:
        source: as for :func:`iscl_monai.micrograph.read_micrographs`.
        destination: absent; a file of the same container for a file, a folder for a folder.
        kind: ``film`` or ``charge``.
        seed: another seed gives other noise.
        role: another role (clean, noisy, test) gives other noise of the same section.
        grey_range: grey levels of 0 and 1; None: those of the type, of 8 unsigned bits only.
        progress: called with the number of sections finished since the last call.

    Raises:
        ConfigRefusal: a range that is none, or none for other types than 8 bits.
        OutputRefusal: a destination inside of the source, or one that is taken.
        Refusal: see :mod:`iscl_monai.micrograph`; less than 16 pixels.
    """
    check_places(source, destination)
    record = record_place(destination)
    stack = read_micrographs(source)
    check_sides(stack.path, stack.rows, stack.columns, largest=None)
    scale = GreyScale.of(stack, grey_range)
    lowest, highest = scale.black, scale.white
    degrading = _Degrading(kind, seed, role, (lowest, highest), rounded=stack.grey_range is not None)
    note = f"SIMULATED {kind} noise, seed {seed}, not the original image; iscl_monai {__version__}"

    def write_beside(clipped: Clipped) -> None:
        write_record(
            record,
            settings={
                "kind": kind,
                "seed": seed,
                "role": role,
                "grey_range": [lowest, highest],
                "parameters": asdict(KINDS[kind]),
            },
            sources=[file.path for file in stack.files],
            numbers=stack.numbers,
            psnr_db=degrading.decibels,
            clipped=degrading.clipped + clipped.low + clipped.high,
        )

    done = write_micrographs(
        stack,
        destination,
        degrading.change,
        whole_pixels=None,
        note=note,
        progress=progress,
        before_named=write_beside,
    )
    clipped = degrading.clipped + done.clipped.low + done.clipped.high
    return Degradation(path=destination, record=record, psnr_db=tuple(degrading.decibels), clipped=clipped)


class _Degrading:
    """One run: what each section gets, and what came of it."""

    def __init__(self, kind: str, seed: int, role: str, ends: tuple[float, float], *, rounded: bool) -> None:
        self._kind, self._seed, self._role = kind, seed, role
        self._lowest, self._width = ends[0], ends[1] - ends[0]
        self._rounded = rounded
        self.decibels: list[float] = []
        self.clipped = 0

    def change(self, piece: Piece, grey: npt.NDArray[np.float32]) -> Image:
        """What to add to the grey levels of a whole section."""
        image = (grey.astype(np.float64) - self._lowest) / self._width
        degraded = _degraded(self._kind, image, generator(self._seed, self._kind, self._role, piece.number))
        clipped = degraded.clip(0, 1)
        change: Image = clipped * self._width + self._lowest - grey
        stored = np.rint(change) if self._rounded else change
        self.decibels.append(psnr_db(np.mean(np.square(stored / self._width))))
        self.clipped += int(np.count_nonzero(clipped != degraded))
        return change


def _degraded(kind: str, image: Image, rng: np.random.Generator) -> Image:
    parameters = KINDS[kind]
    if isinstance(parameters, Film):
        return add_film(image, parameters, rng)
    return add_charge(image, parameters, rng)
