"""CPU time of inserting low-dose noise into 512x512 slices, and what the two backends and the parts of it cost.

    python benchmarks/simulate_dose.py             # 6 rounds
    python benchmarks/simulate_dose.py --rounds 3 --size 256

Prints CPU-seconds per slice and core of the whole insertion (claim: at most 1.5 at 512x512), and ratios within each
round: torch over numba, exact line integrals over smooth ones, a starved slice over one with plenty of photons.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from iscl_monai.scanner.exposure import Exposure
from iscl_monai.scanner.geometry import FanBeam
from iscl_monai.scanner.kernel import hann
from iscl_monai.scanner.virtual import VirtualScanner


def patient(size: int) -> np.ndarray:
    """An ellipse of water with two dense rods, 360 mm of field of view."""
    axis = np.linspace(-180, 180, size, dtype=np.float32)
    hu = np.where((axis / 160) ** 2 + (axis[:, None] / 110) ** 2 <= 1, 0, -1000).astype(np.float32)
    for x in (-90, 90):
        hu[(axis - x) ** 2 + axis[:, None] ** 2 <= 15**2] = 1500
    return hu


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    image, rng = patient(options.size), np.random.default_rng(0)
    spacing_mm = 360 / options.size
    plenty = VirtualScanner(
        geometry=FanBeam.around(options.size, spacing_mm),
        exposure=Exposure(photons=1e6),
        kernel=hann(0.5 / spacing_mm),
    )
    starved = replace(plenty, exposure=Exposure(photons=3e4))
    torch_scanner = replace(plenty, backend="torch")
    share = starved.added_noise(image, 0.25, rng)[1]
    cases: dict[str, Callable[[], object]] = {
        "insertion": lambda: plenty.added_noise(image, 0.25, rng),
        "starved": lambda: starved.added_noise(image, 0.25, rng),
        "torch": lambda: torch_scanner.added_noise(image, 0.25, rng),
        "smooth integrals": lambda: plenty.smooth_integrals(image),
        "exact integrals": lambda: plenty.line_integrals(image),
    }
    for work in cases.values():  # compiles, and warms up
        work()
    rounds = [{name: cpu_seconds(work) for name, work in cases.items()} for _ in range(options.rounds)]

    def ratio(name: str, over: str) -> str:
        ratios = [one[name] / one[over] for one in rounds]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    seconds = [one["insertion"] for one in rounds]
    print(f"insertion, {options.size}x{options.size}: {statistics.median(seconds):.2f} CPU-seconds per slice", end=" ")
    print(f"({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"torch over numba: {ratio('torch', 'insertion')}")
    print(f"{100 * share:.0f} % of rays starved over none: {ratio('starved', 'insertion')}")
    print(f"exact line integrals over smooth ones: {ratio('exact integrals', 'smooth integrals')}")


if __name__ == "__main__":
    main()
