"""Made-up patients for a benchmark, drawn anew for each: nobody can know them by heart."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from iscl_monai.data import Datalist, ScanPair
from iscl_monai.evaluation.benchmark.kept import read, write
from iscl_monai.phantom import ensure_dataset

SETTINGS: dict[str, Any] = {"size": 256, "spacing_mm": 1.4, "slices": 8, "fraction": 0.25}
"""Quarter dose, as in qa; at full dose the phantom's 12 HU of noise."""
LARGEST_SEED = 2**31


def virtual_pairs(out: Path, count: int, seed: int | None, *, tell: Callable[[str], object]) -> Sequence[ScanPair]:
    """Pairs of made-up patients with their truth.

    Args:
        out: folder of the benchmark; they are made in ``virtual`` below it.
        count: how many; 0: none.
        seed: that draws them; None: a new one, unless ``out`` already has one.
        tell: called with the seed in words, so that the same patients can be asked for.

    Raises:
        Refusal: what the phantom refuses.
    """
    if not count:
        return ()
    kept = out / "virtual.json"
    if seed is None:
        held = (read(kept) or {}).get("seed")
        seed = int(held) if held is not None else secrets.randbelow(LARGEST_SEED)
    write(kept, {"seed": seed, "patients": count})
    tell(f"{count} virtual patients of seed {seed} (--virtual-seed {seed} draws them again)")
    folder = out / "virtual"
    ensure_dataset(folder, seed=seed, noisy=1, clean=1, validation=1, test=count, **SETTINGS)
    return [replace(pair, patient=f"virtual {pair.patient}") for pair in Datalist.load(folder).test]
