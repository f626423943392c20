"""Micrographs as a stack of sections, whatever holds them: one file, or a folder of single images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from iscl_monai.errors import ImageRefusal
from iscl_monai.extras import check_extra
from iscl_monai.micrograph.file import MicrographFile, PixelSize, check_file
from iscl_monai.micrograph.grey import Grey, Stored, grey_range

CONTAINERS = {
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf8"), "TIFF"),
    ".png": "PNG",
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".st", ".ali", ".rec"), "MRC"),
}
"""By the end of a name in lower case."""

LOSSY = (".jpg", ".jpeg", ".jp2", ".webp")
SIZE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class MicrographStack:
    """Sections of one size, type and pixel size; pixels are read when they are asked for.

    Attributes:
        path: the file or folder.
        files: what holds the sections, in their order.
        left_aside: files of the folder that are no images.
    """

    path: Path
    files: tuple[MicrographFile, ...]
    left_aside: tuple[Path, ...] = ()

    @property
    def rows(self) -> int:
        """Of each section."""
        return self.files[0].rows

    @property
    def columns(self) -> int:
        """Of each section."""
        return self.files[0].columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers, with the byte order of the first file."""
        return self.files[0].dtype

    @property
    def kind(self) -> str:
        """``TIFF``, ``PNG`` or ``MRC``."""
        return self.files[0].kind

    @property
    def pixel_size_nm(self) -> PixelSize | None:
        """Between rows, between columns; None when the files do not say."""
        return self.files[0].pixel_size_nm

    @property
    def spacing_nm(self) -> float | None:
        """Between sections; None when the file does not say, as single images never do."""
        return self.files[0].spacing_nm

    @property
    def grey_range(self) -> tuple[int, int] | None:
        """Lowest and highest grey level the type can hold; None for floats."""
        return grey_range(self.dtype)

    @property
    def numbers(self) -> tuple[int, ...]:
        """A number per section by which it is known: of a folder that of its file's name, else its place from 0."""
        named = _numbers([file.path for file in self.files]) if self.path.is_dir() else ()
        return named if len(named) == len(self) else tuple(range(len(self)))

    def __len__(self) -> int:
        return sum(file.sections for file in self.files)

    def __iter__(self) -> Iterator[Grey]:
        """Each section as float32 grey levels (row, column)."""
        return (self.grey(section) for section in range(len(self)))

    def place(self, section: int) -> tuple[MicrographFile, int]:
        """The file that holds a section, and its number in there.

        Raises:
            IndexError: no such section.
        """
        if not 0 <= section < len(self):
            raise IndexError(f"section {section} of {len(self)}")
        for file in self.files:
            if section < file.sections:
                return file, section
            section -= file.sections
        raise AssertionError("unreachable")

    def stored(self, section: int, top: int = 0, bottom: int | None = None) -> Stored:
        """Rows of a section as the file holds them; only those are read, but for PNG.

        Args:
            section: from 0.
            top: first row.
            bottom: row behind the last one; None: to the end.
        """
        file, within = self.place(section)
        return file.read(within, top, self.rows if bottom is None else bottom)

    def grey(self, section: int, top: int = 0, bottom: int | None = None) -> Grey:
        """As :meth:`stored`, as float32 grey levels, which hold every stored number exactly."""
        return self.stored(section, top, bottom).astype(np.float32)


def is_micrograph(path: Path) -> bool:
    """Whether a name is that of a micrograph file."""
    return path.suffix.lower() in CONTAINERS


def read_micrographs(path: Path | str, *, allow_holes: bool = False) -> MicrographStack:
    """Open one file, or a folder of images of one kind in the natural order of their names.

    Args:
        path: ``.tif``, ``.tiff``, ``.png``, ``.mrc`` (and their kin), or a folder that holds such files; its
            sub-folders are not entered.
        allow_holes: of a folder: take it although a number is missing in a row of evenly counted names.

    Returns:
        The stack; headers are read, and of MRC floats and of PNG all pixels.

    Raises:
        ImageRefusal: colour, palette, alpha, lossy compression, other types, channels or times, NaN, damaged or empty
            files, mixed sizes, types or pixel sizes, or files that may be lost sections.
        ConfigRefusal: the extra ``micrograph`` is not installed.
    """
    path = Path(path)
    check_extra("micrograph", "micrographs")
    if path.is_dir():
        return _read_folder(path, allow_holes=allow_holes)
    return MicrographStack(path, (open_micrograph(path),))


def open_micrograph(path: Path) -> MicrographFile:
    """Open one file by the end of its name.

    Raises:
        ImageRefusal: see :func:`read_micrographs`.
    """
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        check_file(path)
        lossy = path.suffix.lower() in LOSSY
        raise ImageRefusal(
            f"{path}: {'a picture whose compression changes its noise' if lossy else 'a name of no known container'}",
            allowed="TIFF, PNG or MRC (.tif, .tiff, .png, .mrc)",
            cure="give the original of the microscope" if lossy else "convert it to TIFF, without compression",
        )
    if kind == "TIFF":
        from iscl_monai.micrograph.tiff import TiffFile

        return TiffFile(path)
    if kind == "PNG":
        from iscl_monai.micrograph.png import PngFile

        return PngFile(path)
    from iscl_monai.micrograph.mrc import MrcFile

    return MrcFile(path)


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sorts names as people count: ``s9`` before ``s10``."""
    parts = re.split(r"(\d+)", path.name.lower())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def _read_folder(folder: Path, *, allow_holes: bool) -> MicrographStack:
    every = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)
    images = [path for path in every if is_micrograph(path)]
    others = tuple(path for path in every if path not in set(images))
    if not images:
        raise ImageRefusal(
            f"{folder}: none of its {len(every)} files is a micrograph",
            allowed="a folder of .tif, .tiff, .png or .mrc files",
            cure="give the folder that holds the images itself",
        )
    kinds = {CONTAINERS[path.suffix.lower()] for path in images}
    if len(kinds) > 1:
        _refuse(folder, f"{' and '.join(sorted(kinds))} files", "files of one kind", "separate them into two folders")
    _check_lost(images, others)
    if not allow_holes:
        _check_holes(images)
    files = tuple(open_micrograph(path) for path in images)
    _check_single(files)
    _check_alike(files)
    return MicrographStack(folder, files, others)


def _refuse(place: Path, came: str, allowed: str, cure: str) -> NoReturn:
    raise ImageRefusal(f"{place}: {came}", allowed=allowed, cure=cure)


def _shape(path: Path) -> str:
    """A name without its numbers and its endings: what all sections of a folder have in common."""
    return re.sub(r"\d+", "#", path.name.lower().split(".")[0])


def _check_lost(images: list[Path], others: tuple[Path, ...]) -> None:
    """Refuse a file that is named as the sections are and is none: a half copied or converted section, maybe."""
    shapes = {_shape(path) for path in images if "#" in _shape(path)}
    named = {name for path in images for name in (path.stem, path.name)}
    for path in others:
        beside = path.stem in named and path.suffix.lower() not in LOSSY  # notes of a section that is there
        if path.is_file() and _shape(path) in shapes and not beside:
            _refuse(
                path,
                "named as the sections beside it, but no micrograph: maybe a lost section",
                "a folder of whole sections",
                "bring it back, or move it out of the folder",
            )


def _numbers(paths: list[Path]) -> tuple[int, ...]:
    """The one number in which the names of all files differ, of a single file the last; empty when there is none."""
    found = [[int(part) for part in re.findall(r"\d+", path.stem)] for path in paths]
    if len(found) == 1:
        return tuple(found[0][-1:])
    if len({_shape(path) for path in paths}) != 1 or len({len(one) for one in found}) != 1:
        return ()
    differing = [column for column in zip(*found, strict=True) if len(set(column)) > 1]
    return tuple(differing[0]) if len(differing) == 1 else ()


def _check_holes(images: list[Path]) -> None:
    """Refuse a number twice, and a gap in names that else are counted evenly."""
    numbers = _numbers(images)
    gaps = [after - before for before, after in pairwise(numbers)]
    if not gaps:
        return
    for index, gap in enumerate(gaps):
        if gap == 0:
            _refuse(images[index + 1], f"the number of {images[index].name}", "one file per number", "remove one")
    usual = sorted(gaps)[len(gaps) // 2]
    uneven = [index for index, gap in enumerate(gaps) if gap != usual]
    if len(gaps) < 3 or len(uneven) > len(gaps) / 4:
        return  # not counted evenly at all
    for index in uneven:
        _refuse(
            images[index],
            f"number {numbers[index]}, and {numbers[index + 1]} comes next where {numbers[index] + usual} should",
            "sections without holes",
            "bring the missing files back, or say that holes are meant (allow_holes=True, --allow-holes)",
        )


def _check_single(files: tuple[MicrographFile, ...]) -> None:
    """Refuse several stacks: which of their sections lie beside each other is not known."""
    for file in files:
        if len(files) > 1 and file.sections > 1:
            _refuse(file.path, f"{file.sections} sections", "one per file of a folder", "give each stack by itself")


def _check_alike(files: tuple[MicrographFile, ...]) -> None:
    first = files[0]
    for file in files[1:]:
        one, other = _facts(first), _facts(file)
        for name, value in one.items():
            if value != other[name]:
                _refuse(
                    file.path,
                    f"{name} {other[name]}, but {value} in {first.path.name}",
                    "sections alike",
                    "separate them into folders of their own",
                )
        _check_same_pixels(first, file)


def _facts(file: MicrographFile) -> dict[str, object]:
    return {"size": (file.rows, file.columns), "type": file.dtype.name}


def _check_same_pixels(first: MicrographFile, file: MicrographFile) -> None:
    one, other = first.pixel_size_nm, file.pixel_size_nm
    if one is None and other is None:
        return
    if one is None or other is None or not np.allclose(one, other, rtol=SIZE_TOLERANCE):
        _refuse(
            file.path,
            f"pixels of {other or 'unknown size'}, but {one or 'unknown size'} in {first.path.name} (nm)",
            "sections of one resolution",
            "separate them into folders of their own, or mend the resolution tags",
        )
