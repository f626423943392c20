"""What was done to a source, as JSON beside the result: enough to do it again, and to know the source again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iscl_monai.durable import check_free, whole_file
from iscl_monai.errors import OutputRefusal
from iscl_monai.version import __version__


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """A finished degradation.

    Attributes:
        path: the result.
        record: the JSON file beside it.
        psnr_db: of each image against its source; infinite where nothing changed, as in a black section.
        clipped: pixels that left the range and were set to its ends.
    """

    path: Path
    record: Path
    psnr_db: tuple[float, ...]
    clipped: int

    @property
    def sentence(self) -> str:
        """How strong it is, in words."""
        changed = [db for db in self.psnr_db if math.isfinite(db)]
        same = len(self.psnr_db) - len(changed)
        none = f"{same} without any change" if same else ""
        if not changed:
            return none
        count = f"in {len(changed)} image{'s' * (len(changed) != 1)}"
        words = f"{np.mean(changed):.1f} dB, standard deviation {np.std(changed):.1f} dB, {count}"
        return f"{words}, {none}" if none else words


def record_place(destination: Path) -> Path:
    """Where the record of a result goes; refused when it is taken.

    It is written before the result takes its name: one without a result is what a killed run left, and is replaced.

    Raises:
        OutputRefusal: there is a result already, or something else where the record goes.
    """
    check_free(destination)
    place = destination.with_name(f"{destination.name}.json")
    if (place.exists() or place.is_symlink()) and not _is_record(place):
        raise OutputRefusal(
            f"{place} exists", allowed="a name that is free, for the record too", cure="give another name, or remove it"
        )
    return place


def _is_record(place: Path) -> bool:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and str(content.get("by", "")).startswith("iscl_monai ") and "psnr_db" in content


def write_record(
    place: Path,
    *,
    settings: Mapping[str, Any],
    sources: Sequence[Path],
    numbers: Sequence[int],
    psnr_db: Sequence[float],
    clipped: int,
) -> None:
    """Write the record; no date and no folder, so that the same work gives the same bytes.

    Args:
        place: see :func:`record_place`.
        settings: kind, seed, role and all parameters.
        sources: the files that were degraded.
        numbers: of each image, as its noise was drawn by.
        psnr_db: of each image.
        clipped: pixels set to the ends of the range.
    """
    content = {
        "by": f"iscl_monai {__version__}, numpy {np.__version__}",
        **settings,
        "sources": {path.name: _sha256(path) for path in sources},
        "psnr_db": {str(number): _finite(db) for number, db in zip(numbers, psnr_db, strict=True)},
        "clipped_pixels": clipped,
    }
    with whole_file(place) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def _finite(db: float) -> float | None:
    """JSON knows no infinity."""
    return round(db, 2) if math.isfinite(db) else None


def psnr_db(error: np.floating[Any] | float) -> float:
    """Peak signal to noise ratio of a mean squared error in a range of 1; infinite without an error."""
    return -10 * math.log10(error) if error > 0 else math.inf


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
