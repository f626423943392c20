"""The face of one image file, whatever its container: what it holds, rows of it, and a copy with other pixels."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from iscl_monai.errors import ImageRefusal
from iscl_monai.micrograph.grey import Stored
from iscl_monai.version import __version__

NOTE = f"AI-processed, derived, not the original image; iscl_monai {__version__}"
"""Stands in every written file; ASCII, short enough for the 80 characters of an MRC label."""

SCREEN_NM = 10_000.0
"""Pixels larger than this are those of a screen or a printer (72 dpi: 353,000 nm), not of a microscope."""

PixelSize = tuple[float, float]


class MicrographFile(ABC):
    """One file, checked when opened; no file stays open.

    Attributes:
        path: of the file.
        kind: of the container, in words.
        sections: images in it, all of one size and type.
        rows: of each image.
        columns: of each image.
        dtype: of the stored numbers, with the file's byte order.
        pixel_size_nm: between rows, between columns; None when the file does not say.
        spacing_nm: between sections; None when the file does not say.
        description: free text that the file holds about itself.
    """

    path: Path
    kind: str
    sections: int
    rows: int
    columns: int
    dtype: np.dtype[Any]
    pixel_size_nm: PixelSize | None
    spacing_nm: float | None
    description: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the path: another process, as of a data loader, opens the file itself."""
        return type(self), (self.path,)

    @abstractmethod
    def read(self, section: int, top: int, bottom: int) -> Stored:
        """Rows ``top`` to ``bottom`` (exclusive) of one section, as stored: (row, column).

        Raises:
            ImageRefusal: a damaged file, or numbers that are not finite.
        """

    @abstractmethod
    def copy(self, destination: Path, note: str) -> MicrographCopy:
        """Begin a file of the same container, type, byte order, compression and tags.

        Args:
            destination: a name that is free.
            note: what the file is to say of itself, ASCII.
        """


class MicrographCopy(ABC):
    """A file in the making."""

    @abstractmethod
    def write(self, section: int, top: int, stored: Stored) -> None:
        """The next rows: sections in order, rows from the top, every pixel once."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file and make its content durable."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file, whatever has happened."""


def check_file(path: Path) -> None:
    """Refuse what is no readable file with something in it.

    Raises:
        ImageRefusal: absent, no regular file, or empty.
    """
    if not path.is_file():
        raise ImageRefusal(f"{path}: no such file", allowed="an existing file", cure="check the spelling")
    if os.path.getsize(path) == 0:
        raise ImageRefusal(f"{path}: an empty file", allowed="a whole image", cure="copy the file again")


def refuse_unreadable(path: Path, kind: str, error: BaseException) -> NoReturn:
    """Turn what a library raises for a damaged file, which may be nearly anything, into a refusal.

    Raises:
        ImageRefusal: always.
    """
    raise ImageRefusal(
        f"{path}: not readable ({' '.join(str(error).split())[:200] or type(error).__name__})",
        allowed=f"a whole {kind} file",
        cure="copy the file again from its source",
    ) from error


def plausible_pixel_size(row_nm: float, column_nm: float) -> PixelSize | None:
    """A pixel size in nm, or None for what no microscope has."""
    sizes = (row_nm, column_nm)
    return sizes if all(np.isfinite(size) and 0 < size <= SCREEN_NM for size in sizes) else None
