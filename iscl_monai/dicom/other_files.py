"""Files that are no DICOM: plainly something else, or maybe a slice that was lost.

A copy that failed leaves files of no bytes, of zeros, of garbage or of an error page in the place of slices. None of
them can be read, and an output with one slice less looks as good as a whole one.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

HEAD_BYTES = 4096

SLICE_SUFFIXES = frozenset((".dcm", ".dicom", ".dic", ".dc3", ".ima", ".ct"))
"""Of names under which nothing but an image is expected."""

NOT_SLICES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir", "autorun.inf"))
OTHER_SUFFIXES = frozenset(
    (
        *(".txt", ".md", ".log", ".csv", ".tsv", ".json", ".xml", ".xsl", ".yml", ".yaml", ".toml", ".ini", ".inf"),
        *(".cfg", ".htm", ".html", ".css", ".js", ".url", ".lnk", ".pdf", ".rtf", ".doc", ".docx", ".xls", ".xlsx"),
        *(".ppt", ".pptx", ".py", ".pyc", ".sh", ".bat", ".m", ".r", ".ipynb", ".exe", ".dll", ".so", ".jar"),
        *(".class", ".msi", ".dat", ".bin", ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".ico"),
        *(".webp", ".mp4", ".avi", ".mov", ".wav", ".nii", ".mha", ".mhd", ".raw", ".zraw", ".nrrd", ".nhdr", ".hdr"),
        *(".img", ".npy", ".npz", ".mat", ".h5", ".hdf5", ".stl", ".obj", ".vtk", ".vtp", ".ply", ".pt", ".pth"),
        *(".onnx", ".pkl", ".db", ".sqlite", ".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst", ".iso"),
        *(".md5", ".sha1", ".sha256", ".sig", ".lock", ".done", ".ok", ".tmp"),
    )
)
"""Of names under which no slice is expected, unless its neighbours bear them."""

MAGIC = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a bitmap"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"RIFF", "a recording"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"\xd0\xcf\x11\xe0", "an OLE file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"SQLite format 3", "a database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\0\x05\x16\x07", "an AppleDouble file"),
    (b"\0\0\0\x01Bud1", "a folder's view of macOS"),
)


def kind_of_other_file(path: Path) -> str:
    """What a file that is no DICOM plainly is, by its content, in words; ``""`` when nothing tells.

    Args:
        path: a regular file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"\x1f\x8b"):
        return _kind_of_gzip(path)
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        return "a NIfTI or Analyze header"
    return "text" if head and _is_text(head) else ""


def _kind_of_gzip(path: Path) -> str:
    try:
        with gzip.open(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return ""
    return "" if head[128:132] == b"DICM" else "a gzip file"


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True  # UTF-16
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return control == 0 and b"\x7f" not in head


def claims_to_be_a_slice(path: Path) -> bool:
    """Whether a name is one of images alone, whatever is in the file."""
    return path.suffix.lower() in SLICE_SUFFIXES and not path.name.startswith(".")


class Neighbours:
    """The slices of one folder, as far as they tell what else in it may be one.

    Args:
        paths: of the slices.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self.shapes = frozenset(map(_shape, self._paths))

    @cached_property
    def sizes(self) -> frozenset[int]:
        """Of the files, in bytes."""
        return frozenset(map(_size, self._paths))


def may_be_a_slice(path: Path, kind: str, neighbours: Neighbours) -> bool:
    """Whether a file that is no DICOM may be what is left of a slice.

    That is one with the name of a slice, whatever is in it: of images alone, or that of a neighbour but for its digits;
    and one of no known content, empty ones too, unless its name says that it is something else and its size is not that
    of a neighbour either.

    Args:
        path: the file.
        kind: see :func:`kind_of_other_file`.
        neighbours: slices that were found in the same folder.
    """
    name = path.name.lower()
    if name.startswith(".") or name in NOT_SLICES:
        return False
    if claims_to_be_a_slice(path) or _shape(path) in neighbours.shapes:
        return True
    if kind or not neighbours.shapes:
        return False
    return path.suffix.lower() not in OTHER_SUFFIXES or _size(path) in neighbours.sizes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone meanwhile
        return -1


def _shape(path: Path) -> str:
    """A name without what counts: ``IM0006.dcm`` and ``IM0012.dcm`` have one shape, ``1.2.84`` and ``1.2.85`` too."""
    numbers = re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", path.name.lower())
    return re.sub(r"#([._-]#)+", "#", numbers)
