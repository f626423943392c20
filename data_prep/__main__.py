"""``python -m data_prep VERB``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from data_prep.phantom import make_dataset
from data_prep.simulate import simulate_series
from iscl_monai.errors import Refusal

_DOSE = """Simulate a scan at a fraction of its dose, by adding the noise it would have had.

The scan's own noise is measured; the added noise follows from it and from the anatomy: slices through
shoulders get more. The result is a new DICOM series, marked as simulated in ImageType, SeriesDescription and
DerivationDescription. The same arguments give the same files."""

_DOSE_EXAMPLE = """example, a pair of 3 mm series from 1 mm slices:
  python -m data_prep dose scan/ clean/ --fraction 1 --average 3
  python -m data_prep dose scan/ noisy/ --fraction 0.1 --average 3"""

_PHANTOM = """Make a small synthetic dataset: unpaired noisy and clean slices of different made-up patients
for training, pairs for validation and test, and a datalist.json. The same seed gives the same files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after ``python -m data_prep``; None: those of this process.

    Returns:
        0 when done, 2 when the input was refused (one line on standard error says why).
    """
    arguments = _parser().parse_args(argv)
    try:
        result = arguments.run(arguments)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return refusal.exit_code
    print(result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="Make training data.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    raw = argparse.RawDescriptionHelpFormatter
    dose = verbs.add_parser(
        "dose", help="simulate a low-dose scan", description=_DOSE, epilog=_DOSE_EXAMPLE, formatter_class=raw
    )
    dose.add_argument("source", type=Path, metavar="SOURCE", help="folder with one CT series")
    dose.add_argument("destination", type=Path, metavar="DESTINATION", help="folder to make")
    dose.add_argument("--fraction", type=float, required=True, help="dose over the scan's, e.g. 0.25; 1: no noise")
    dose.add_argument(
        "--z-range", type=float, nargs=2, metavar=("LO", "HI"), help="keep slices at these positions (mm)"
    )
    dose.add_argument("--average", type=int, default=1, help="average so many neighbours first (default: 1)")
    dose.add_argument("--seed", type=int, default=0, help="another seed gives another noise (default: 0)")
    dose.add_argument("--series-uid", help="which series, when SOURCE holds several")
    dose.set_defaults(run=_run_dose)
    phantom = verbs.add_parser("phantom", help="make a synthetic dataset", description=_PHANTOM, formatter_class=raw)
    phantom.add_argument("directory", type=Path, metavar="DIR", help="folder to make")
    phantom.add_argument("--seed", type=int, default=0, help="another seed gives other patients (default: 0)")
    phantom.set_defaults(run=_run_phantom)
    return parser


def _run_dose(arguments: argparse.Namespace) -> Path:
    with _bar("slices") as progress:
        return simulate_series(
            arguments.source,
            arguments.destination,
            fraction=arguments.fraction,
            z_range_mm=None if arguments.z_range is None else (arguments.z_range[0], arguments.z_range[1]),
            series_uid=arguments.series_uid,
            seed=arguments.seed,
            average=arguments.average,
            progress=progress,
        )


def _run_phantom(arguments: argparse.Namespace) -> Path:
    return make_dataset(arguments.directory, seed=arguments.seed)


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[int], object]]:
    # disable=None: no bar where nobody looks (not a terminal).
    with tqdm(unit=f" {unit}", disable=None) as bar:
        yield bar.update


if __name__ == "__main__":
    sys.exit(main())
