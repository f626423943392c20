"""The self-check of dose simulation on every CT series below some folders, as a table in Markdown.

    python benchmarks/check_calibration.py ~/.cache/iscl-monai-data ../shared/data/test > table.md
    python benchmarks/check_calibration.py ARCHIVE --single   # single slices, too

Prints for each series: iterative reconstruction, own noise over the scan's, mean frequency of the virtual scanner's
noise and between which that of such a kernel lies, share of rays starved at a quarter of the dose, correlation of the
noise of neighbouring slices, and whether it is refused. Series that cannot be read are told on standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from data_prep.dose.simulation import Acceptance, Simulation
from iscl_monai.dicom.find import SeriesFiles, find_series
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.series import read_series
from iscl_monai.errors import Refusal

HEADS = ("series", "kernel", "iterative", "slices", "own noise", "mean 1/mm", "plausible", "starved %", "shared", "")
ALL = Acceptance(calibration=True, iterative=True)


def line_of(root: Path, one: SeriesFiles) -> tuple[str, ...]:
    folder = Path(os.path.commonpath([path.parent for path in one.files]))
    series = read_series(folder, series_uid=one.uid or None, geometry="slices")
    simulation = Simulation(series, fraction=0.25, accepted=ALL)
    check, scanner = simulation.check, simulation.scanner
    assert check is not None
    assert scanner is not None
    refused = "; ".join([*(["iterative"] if simulation.reconstruction else []), *check.problems])
    return (
        str(folder.relative_to(root.parent)),
        "/".join(series.headers[0].kernel),
        simulation.reconstruction,
        str(len(series.files)),
        f"{check.own_over_scan:.2f}",
        f"{check.frequency_per_mm:.2f}",
        "{:.2f} to {:.2f}".format(*check.plausible_per_mm),
        f"{100 * check.starved:.1f}",
        f"{scanner.neighbour_correlation:.2f}",
        f"refused: {refused}" if refused else "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--single", action="store_true", help="single slices, too")
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    unread = []
    with without_warnings():
        for root in options.roots:
            for one in find_series(root).series:
                if len(one.files) == 1 and not options.single:
                    continue
                try:
                    print(f"| {' | '.join(line_of(root, one))} |", flush=True)
                except Refusal as refusal:
                    unread.append(f"{one.files[0].parent.name}: {refusal}")
    print("\n".join(["", *unread]), file=sys.stderr)


if __name__ == "__main__":
    main()
