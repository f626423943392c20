"""Which cheats `iscl-monai qa` catches, by which limits: a Markdown table over phantoms of several seeds.

    python benchmarks/check_cheats.py FOLDER --seeds 1 2 3

The cheats are those of the tests; phantoms are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from evaluation.qa.cheats import CHEATS, HONEST, AveragesNeighbours, Denoised, World, cheating
from evaluation.qa.denoisers import Made, Oracle
from evaluation.qa.judged import DOSE, Judge

from iscl_monai.baselines import CLASSICAL, classical
from iscl_monai.evaluation.qa import QUICK, make_phantom
from iscl_monai.evaluation.qa.making import between_dose
from iscl_monai.evaluation.qa.phantom import read_phantom

SLOW = ("bilateral", "bm3d", "nlm-local")


def main() -> None:
    """Judge every denoiser on every phantom, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    found: dict[str, list[str]] = {}
    for seed in given.seeds:
        for name, faults in judged(given.folder, seed):
            found.setdefault(name, []).append(", ".join(f"`{one}`" for one in sorted(faults)) or "none")
            print(f"{seed} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print("| denoiser |" + "".join(f" faults, seed {seed} |" for seed in given.seeds))
    print("|---|" + "---|" * len(given.seeds))
    for name, by_seed in found.items():
        print(f"| {name} | " + " | ".join(by_seed) + " |")


def judged(folder: Path, seed: int) -> Iterator[tuple[str, set[str]]]:
    """Each denoiser's name and the limits that it fails at a quarter of the dose and at the one between."""
    place = make_phantom(folder / f"phantom_{seed}", QUICK, seed=seed)
    other = make_phantom(folder / f"phantom_{seed + 1}", QUICK, seed=seed + 1)
    judge = Judge(read_phantom(place))
    world = World(judge.phantom, judge.oracle, Oracle(read_phantom(other)).truths)
    for name, denoiser in denoisers(world):
        faults = judge.faults(denoiser, DOSE)
        if "dose only" in name:
            faults |= judge.faults(denoiser, between_dose(seed))
        yield name, faults


def denoisers(world: World) -> Iterator[tuple[str, Any]]:
    """Honest ones, classical filters as tuned, cheats."""
    for name, honest in HONEST.items():
        yield name, lambda image, honest=honest: honest(Denoised(world, image))
    for name in CLASSICAL:
        if name not in SLOW:
            yield f"filter: {name}", Made(_filter(name))
    for name in CHEATS:
        yield name, cheating(world, name)
    yield AveragesNeighbours.NAME, AveragesNeighbours(world)


def _filter(name: str) -> Callable[[Any], Any]:
    method = classical(name)
    return lambda image: image + method.change_hu(image)


if __name__ == "__main__":
    main()
