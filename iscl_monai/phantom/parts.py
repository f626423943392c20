"""A dataset made part by part: interrupted, it goes on where it stopped, and ends with the same bytes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from iscl_monai.durable import PARTIAL, sync_folder, whole_file, whole_folder
from iscl_monai.errors import ConfigRefusal
from iscl_monai.parallel import in_order, useful_workers
from iscl_monai.phantom.canvas import Floats
from iscl_monai.spoken import progress_disabled

MANIFEST = "manifest.json"

TRUTH_STEP_HU = 0.1

Writer = Callable[[Path], None]
Part = Callable[[], Writer]
"""Computes, in a thread beside others, and gives what writes the result into a folder."""


def make_parts(
    directory: Path,
    manifest: Mapping[str, Any],
    parts: Mapping[str, Part],
    *,
    last: tuple[str, Mapping[str, Any]],
    unit: str,
) -> Path:
    """Make what is missing of a dataset.

    Args:
        directory: new, empty, or a phantom dataset: one of the same manifest is completed, another replaced.
        manifest: all that decides the bytes.
        parts: folders inside, each with what makes it; each appears whole or not at all.
        last: name and content of the JSON file that is written when all parts are there.
        unit: what the progress bar counts.

    Returns:
        The file written last.

    Raises:
        ConfigRefusal: if ``directory`` holds something else.
        OutputRefusal: if it cannot be written.
    """
    refuse_foreign(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        for unfinished in directory.glob(f".*{PARTIAL}"):  # of a file that a killed run was writing
            unfinished.unlink()
        if read_manifest(directory) != manifest:
            _clear(directory)
            write_json(directory / MANIFEST, manifest)
        missing = [name for name in parts if not (directory / name).exists()]
        workers = useful_workers("cpu", len(missing), (1, 1))
        writers = in_order(missing, lambda name: parts[name](), workers=workers)
        # disable=None: no bar where nobody looks (not a terminal).
        steps = tqdm(missing, desc="phantom", unit=f" {unit}", disable=progress_disabled())
        for name, write in zip(steps, writers, strict=True):
            with whole_folder(directory / name) as folder:
                write(folder)
        write_json(directory / last[0], last[1])
    return directory / last[0]


def read_manifest(directory: Path) -> Any:
    """What the manifest says, or None."""
    try:
        return json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def refuse_foreign(directory: Path) -> None:
    """Never remove what the phantom did not make.

    Raises:
        ConfigRefusal: if ``directory`` is a file, or a folder with other things in it.
    """
    found = read_manifest(directory)
    if directory.exists() and not (isinstance(found, dict) and {"recipe", "seed"} <= found.keys()):
        left = [] if directory.is_file() else [file for file in directory.iterdir() if not _unfinished(file)]
        if directory.is_file() or left:
            raise ConfigRefusal(
                f"{directory} exists and is no phantom dataset",
                allowed="a new folder, an empty one, or a phantom dataset to complete or replace",
                cure="give another folder",
            )


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file that appears whole."""
    with whole_file(file) as opened:
        opened.write((json.dumps(content, indent=2) + "\n").encode())


def write_volume(file: Path, values: Floats | NDArray[np.uint8], *, spacing_mm: float, slice_mm: float) -> None:
    """Write NIfTI, uncompressed (gzip would write the time of day into its header).

    Args:
        file: to make.
        values: (slice, row, column); whole numbers of a mask, or HU, kept to a tenth.
        spacing_mm: distance of pixels.
        slice_mm: distance of slices.
    """
    # NIfTI's x and y run to the patient's right and front; columns and rows run to the left and back.
    affine = np.diag([-spacing_mm, -spacing_mm, slice_mm, 1.0])
    slices, rows, columns = values.shape
    middle = np.array([columns - 1, rows - 1, slices - 1]) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    stored = values if values.dtype == np.uint8 else np.rint(values / TRUTH_STEP_HU).astype(np.int16)
    image = nibabel.Nifti1Image(stored.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    if stored is not values:  # nibabel writes the numbers as they are, once there is a slope
        image.header.set_slope_inter(TRUTH_STEP_HU, 0)  # type: ignore[no-untyped-call]
    nibabel.save(image, file)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """A second process that wants the same dataset waits until the first has made it."""
    if sys.platform == "win32":
        yield
        return
    import fcntl
    import os

    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear(directory: Path) -> None:
    """Remove an outdated dataset; its manifest last, so that a half-removed one is still known as ours."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == MANIFEST):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    sync_folder(directory)


def _unfinished(file: Path) -> bool:
    """Left by a process that was killed while it wrote the very first file."""
    return file.name.startswith(f".{MANIFEST}.") and file.name.endswith(PARTIAL)
