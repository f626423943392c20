"""How often an interval over patients holds the true mean, by the way it is made: why it is Student's.

    python benchmarks/check_coverage.py [--cohorts 2000]

Cohorts of 3, 5, 10 and 20 patients are drawn from values whose true mean is known, and each way is asked
whether its 95 % interval holds it. Skewness 1 is that of the most skewed row of docs/benchmark.md; 2 is
more than any. About a minute.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from iscl_monai.quality.cohort import COVERAGE, mean_over_patients

Values = NDArray[np.float64]
PATIENTS = (3, 5, 10, 20)
RESAMPLES = 1999

DRAWN: Mapping[str, Callable[[np.random.Generator, tuple[int, int]], Values]] = {
    "normal": lambda random, shape: random.normal(0, 1, shape),
    "gamma of shape 4, skewness 1": lambda random, shape: random.gamma(4, 1, shape) - 4,
    "exponential, skewness 2": lambda random, shape: random.exponential(1, shape) - 1,
}
"""Values of true mean 0, (cohort, patient)."""


def held_by_ours(cohorts: Values) -> Values:
    """Whether the package's own interval holds 0, for each cohort."""
    ends = [mean_over_patients(values.tolist()).interval or (np.nan, np.nan) for values in cohorts]
    return np.array([low <= 0 <= high for low, high in ends], float)


def held_by_bootstrap(cohorts: Values, method: str, random: np.random.Generator) -> Values:
    """The same of scipy's bootstrap over patients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three equal values drawn: no BCa interval, which then holds nothing
        found = [
            stats.bootstrap(
                (some,), np.mean, axis=-1, method=method, n_resamples=RESAMPLES, batch=200, rng=random
            ).confidence_interval
            for some in np.array_split(cohorts, max(1, len(cohorts) // 200))
        ]
    return np.concatenate([(one.low <= 0) & (one.high >= 0) for one in found]).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=2000, help="of each size and distribution")
    count = parser.parse_args().cohorts
    random = np.random.default_rng(0)
    print(f"share of {count} cohorts whose {100 * COVERAGE:g} % interval holds the true mean, %\n")
    print(
        "| values | patients | percentile bootstrap | BCa bootstrap | t (ours) |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, drawn in DRAWN.items():
        for patients in PATIENTS:
            cohorts = drawn(random, (count, patients))
            ways = [held_by_bootstrap(cohorts, method, random) for method in ("percentile", "BCa")]
            cells = [f"{100 * held.mean():.1f}" for held in (*ways, held_by_ours(cohorts))]
            print(f"| {name} | {patients} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
