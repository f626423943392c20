"""Small micrographs in every container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

Stored = npt.NDArray[Any]
ROWS, COLUMNS = 50, 70


def pixels(dtype: str = "u1", sections: int = 1, seed: int = 0) -> Stored:
    """Grey levels over the whole range of a type, and an even part, which compresses well: (section, row, column)."""
    rng = np.random.default_rng(seed)
    shape = (sections, ROWS, COLUMNS)
    if dtype == "f4":
        return rng.normal(0, 50, shape).astype("f4")
    limits = np.iinfo(dtype)
    made = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    made[:, :20] = 7
    return made


def save_tiff(path: Path, stored: Stored, **options: Any) -> Path:
    """By tifffile: ``photometric`` minisblack, a page per section."""
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, stored[0] if len(stored) == 1 else stored, **options)
    return path


def save_png(path: Path, stored: Stored, **options: Any) -> Path:
    Image.fromarray(stored[0]).save(path, **options)
    return path


def save_mrc(path: Path, stored: Stored, *, volume: bool = False, angstrom: float = 40.0) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(stored if len(stored) > 1 else stored[0])
        if volume:
            file.set_volume()
        file.voxel_size = angstrom
    return path


def save_folder(folder: Path, stored: Stored, name: str = "z{:05}.tif", first: int = 0, step: int = 1) -> Path:
    """Single images, numbered in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    save = save_png if name.endswith("png") else save_tiff
    for index, section in enumerate(stored):
        save(folder / name.format(first + step * index), section[None])
    return folder


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
