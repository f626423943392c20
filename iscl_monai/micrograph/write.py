"""Micrographs written back: the change applied to the stored numbers, the same container, read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from iscl_monai.durable import move_into_place, whole_folder, workshop
from iscl_monai.errors import ImageRefusal, OutputRefusal
from iscl_monai.micrograph.file import NOTE, MicrographFile
from iscl_monai.micrograph.grey import Clipped, Grey, Stored, apply_change
from iscl_monai.micrograph.stack import CONTAINERS, MicrographStack, open_micrograph

WHOLE_PIXELS = 4096 * 4096
"""Sections up to this size are given to the change as a whole."""

BAND_PIXELS = 1 << 22
"""Pixels of the bands of rows in which larger ones are."""


@dataclass(frozen=True)
class Piece:
    """Which rows of the stack an image shows.

    Attributes:
        section: from 0.
        number: of the section, see :attr:`MicrographStack.numbers`.
        top: first row whose change is wanted.
        bottom: row behind the last one.
        first: first row of the image, at or above ``top``: the rows between are there as surroundings.
        rows: of the whole section.
    """

    section: int
    number: int
    top: int
    bottom: int
    first: int
    rows: int


Change: TypeAlias = Callable[[Piece, Grey], npt.NDArray[np.floating]]
"""Takes an image (row, column), float32 grey levels, and gives what to add to it, of the same shape."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the file or folder.
        sections: number of them.
        pixels: of all of them.
        changed: pixels whose stored number is another one now.
        clipped: pixels whose change did not fit their type.
        left_aside: files and folders of the source that are no images, and are not here.
    """

    path: Path
    sections: int
    pixels: int
    changed: int
    clipped: Clipped
    left_aside: tuple[Path, ...] = ()


def write_micrographs(
    stack: MicrographStack,
    destination: Path | str,
    change: Change,
    *,
    margin: int = 0,
    align: int = 1,
    whole_pixels: int | None = WHOLE_PIXELS,
    note: str = NOTE,
    progress: Callable[[int], object] | None = None,
    before_named: Callable[[Clipped], object] | None = None,
) -> Written:
    """Write a stack with a change applied to its stored numbers.

    Container, type, byte order, compression, resolution and all other tags stay; the description (TIFF), a comment
    (PNG) or a label (MRC) says that the image is derived. Numbers are rounded, and clipped to the range of their type;
    where the change is 0 they stay bit for bit. Everything is flushed, read again and compared before it gets its name.

    Args:
        stack: what to change.
        destination: absent; a file of the same kind for a file, a folder for a folder.
        change: called once per piece, in order.
        margin: rows of surroundings that the change gets above and below a band, where the section has them. A change
            of tiles is seamless if this is the reach of what is computed.
        align: bands and their surroundings begin at multiples of it, as the strides of a network want.
        whole_pixels: sections of more pixels are worked on in bands of rows of about 4 million pixels, and memory is
            bounded (of PNG, by the decoded image); None: always whole.
        note: what the file says of itself, ASCII.
        progress: called with the number of sections finished since the last call.
        before_named: called when all is written and compared, and before it takes its name: what must never be missing
            beside it is written then.

    Raises:
        OutputRefusal: a destination that is taken, of another kind, cannot be written, or reads back differently.
        ImageRefusal: a file that is damaged, or was changed meanwhile.
        ValueError: a change of another shape, or not finite.
    """
    destination = Path(destination)
    work = _Work(stack, change, -(-margin // align) * align, align, whole_pixels, note, progress)
    if stack.path.is_dir():
        with whole_folder(destination) as folder:
            for file in stack.files:
                work.write(file, folder / file.path.name)
            if before_named is not None:
                before_named(work.clipped)
    else:
        _check_kind(stack, destination)
        with workshop(destination) as folder:
            made = folder / destination.name
            work.write(stack.files[0], made)
            if before_named is not None:
                before_named(work.clipped)
            move_into_place({made: destination})
    pixels = len(stack) * stack.rows * stack.columns
    return Written(destination, len(stack), pixels, work.changed, work.clipped, stack.left_aside)


def _check_kind(stack: MicrographStack, destination: Path) -> None:
    if CONTAINERS.get(destination.suffix.lower()) != stack.kind:
        raise OutputRefusal(
            f"{destination} for the {stack.kind} file {stack.path}",
            allowed=f"a name of a {stack.kind} file",
            cure=f"give e.g. {destination.with_suffix(stack.path.suffix)}",
        )


class _Work:
    """One writing, file after file."""

    def __init__(
        self,
        stack: MicrographStack,
        change: Change,
        margin: int,
        align: int,
        whole_pixels: int | None,
        note: str,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._stack, self._change, self._margin = stack, change, margin
        self._note, self._progress = note, progress
        whole = whole_pixels is None or stack.rows * stack.columns <= whole_pixels
        self._band = stack.rows if whole else max(1, BAND_PIXELS // stack.columns // align) * align
        self._section = 0
        self._numbers = stack.numbers
        self.changed, self.clipped = 0, Clipped()

    def write(self, file: MicrographFile, destination: Path) -> None:
        """One file, read again and compared."""
        digest = hashlib.blake2b()
        with closing(file.copy(destination, self._note)) as copy:
            for section in range(file.sections):
                for top in range(0, file.rows, self._band):
                    after = self._changed(file, section, top, min(top + self._band, file.rows))
                    copy.write(section, top, after)
                    digest.update(_native(after))
                self._section += 1
                if self._progress is not None:
                    self._progress(1)
            copy.finish()
        _check_same(file, destination, digest.digest())

    def _changed(self, file: MicrographFile, section: int, top: int, bottom: int) -> Stored:
        first, last = max(0, top - self._margin), min(file.rows, bottom + self._margin)
        read = file.read(section, first, last)
        piece = Piece(self._section, self._numbers[self._section], top, bottom, first, file.rows)
        change = self._change(piece, read.astype(np.float32))
        if change.shape != read.shape:
            raise ValueError(f"a change of shape {change.shape} for an image of {read.shape}")
        inside = slice(top - first, bottom - first)
        after, clipped = apply_change(read[inside], change[inside])
        self.changed += int(np.count_nonzero(after != read[inside]))
        self.clipped += clipped
        return after


def _check_same(source: MicrographFile, destination: Path, digest: bytes) -> None:
    """Read a finished file as any other one, and compare.

    Raises:
        OutputRefusal: it is another image than was meant.
    """
    try:
        made = open_micrograph(destination)
        alike = all(
            getattr(made, name) == getattr(source, name)
            for name in ("sections", "rows", "columns", "dtype", "pixel_size_nm", "spacing_nm")
        )
        same = alike and _digest(made) == digest
    except (ImageRefusal, OSError):
        same = False
    if not same:
        raise OutputRefusal(f"{destination} reads back differently", allowed="what was written", cure="check the disk")


def _digest(file: MicrographFile) -> bytes:
    digest = hashlib.blake2b()
    for block in _blocks(file):
        digest.update(_native(block))
    return digest.digest()


def _blocks(file: MicrographFile) -> Iterator[Stored]:
    band = max(1, BAND_PIXELS // file.columns)
    for section in range(file.sections):
        for top in range(0, file.rows, band):
            yield file.read(section, top, min(top + band, file.rows))


def _native(stored: Stored) -> bytes:
    return np.ascontiguousarray(stored, stored.dtype.newbyteorder("=")).tobytes()
