"""Test objects are made: how large, at which doses, and where they are kept for the next time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iscl_monai.phantom import make_physics
from iscl_monai.phantom.seeds import named_rng

DOSES = (1.0, 0.5, 0.25, 0.1, 0.05)
FIXED_SEED = 0
"""Of the phantom that is always the same: for comparisons, and known to everybody."""

BETWEEN_DOSES = (0.12, 0.7)
"""Above, a denoiser that leaves full dose as it is has next to nothing to remove."""

STEP_APART = 1.25
"""A dose between the steps differs from each of them by this factor at least."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a phantom is made.

    Args:
        pixels: rows and columns.
        spacing_mm: distance of pixels.
        realisations: of the noise, for each object and dose.
        doses: shares of the full dose.
    """

    pixels: int
    spacing_mm: float
    realisations: int
    doses: tuple[float, ...]


FULL = Size(pixels=512, spacing_mm=0.7, realisations=20, doses=DOSES)
QUICK = Size(pixels=256, spacing_mm=1.4, realisations=6, doses=(1.0, 0.25))


def between_dose(seed: int) -> float:
    """A share of the full dose that nobody can have prepared for: between the usual ones, decided by the seed."""
    rng = named_rng(seed, "dose")
    while True:
        dose = round(float(np.exp(rng.uniform(*np.log(BETWEEN_DOSES)))), 3)
        if all(max(dose / step, step / dose) >= STEP_APART for step in DOSES):
            return dose


def make_phantom(folder: Path, size: Size, *, seed: int = FIXED_SEED) -> Path:
    """Make the test objects, or find them made.

    Args:
        folder: of a phantom of this size; another is replaced, anything else refused.
        size: of it. To its doses comes one between them, see :func:`between_dose`.
        seed: decides places, anatomy, lesions, noise, and the dose between.

    Returns:
        ``folder``.

    Raises:
        Refusal: as :func:`iscl_monai.phantom.make_physics`.
    """
    make_physics(
        folder,
        seed=seed,
        size=size.pixels,
        spacing_mm=size.spacing_mm,
        realisations=size.realisations,
        doses=sorted({*size.doses, between_dose(seed)}, reverse=True),
    )
    return folder


def cache_folder(size: Size) -> Path:
    """Where the fixed phantom of this size is kept for the next time: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    doses = "-".join(f"{dose:g}" for dose in size.doses)
    return cache() / f"physics-{size.pixels}-{size.realisations}-{doses}"


def cache() -> Path:
    """What can be made again: ``iscl-monai`` below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iscl-monai"
