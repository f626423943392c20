"""What a person should look at before training on an archive: series that are read without fault, and still are odd.

A verdict says whether a series can be read as Hounsfield units. That does not make it a scan to learn from: phantoms,
crops and scans of other noise pass, too. Nothing is left out by what is said here.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from data_prep.table import SeriesRow
from iscl_monai.report.numbers import significant

SMALLEST_FIELD_MM = 180.0
"""A head of an adult is wider, and so is a body."""
SMALLEST_TRUNK_MM = 280.0
TRUNK = frozenset(("CHEST", "LUNG", "THORAX", "ABDOMEN", "PELVIS", "LIVER", "PANCREAS"))
NOISE_TIMES = 2.5
"""Ours: thickness, dose and kernel of one protocol differ by less."""
RARE = 0.1
"""A kernel of fewer series than this share is rare."""
FEWEST = 5
"""Of fewer series nothing is usual."""
_PHANTOM = re.compile(r"phantom|catphan|gammex|\bqa\b|quality ?control", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Series with something in common that a person should know.

    Args:
        title: what it is.
        advice: why it matters, and what to do.
        series: index of each row, and what was found there.
    """

    title: str
    advice: str
    series: Sequence[tuple[int, str]]


_ADVICE = {
    "phantom": "a test object or a made-up patient teaches edges and noise that no patient has: leave it out",
    "small field of view": "a crop, or a reconstruction of a part: it has finer pixels, and often no air around it; "
    "train on it only if you denoise such ones",
    "iterative reconstruction": "its noise has another texture than filtered backprojection's: dose and split "
    "leave it out unless they are given --accept-iterative",
    "rare kernel": "a kernel sets the texture of noise: too few series of it to learn from, so look at the images",
    "unusual noise": "look whether thickness, dose or kernel differ: pools must not differ by them alone",
}


def remarks(rows: Sequence[SeriesRow], root: str = "") -> list[Remark]:
    """What stands out among the series that are fit.

    Args:
        rows: of the table.
        root: the archive; names of folders below it may say what a series is.
    """
    found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    fit = [(index, row) for index, row in enumerate(rows) if row.fit]
    usual_hu, kernels = _usual_noise(fit), Counter(row.kernel for _, row in fit if row.kernel)
    for index, row in fit:
        for title, words in _odd(row, root, usual_hu, kernels, len(fit)):
            found[title].append((index, words))
    return [
        Remark(title=title, advice=advice, series=found[title]) for title, advice in _ADVICE.items() if found[title]
    ]


def _odd(
    row: SeriesRow, root: str, usual_hu: float | None, kernels: Counter[str], count: int
) -> Iterator[tuple[str, str]]:
    """What stands out in one series: title, and what was found."""
    named = next((one for one in (row.body_part, row.model, row.path.removeprefix(root)) if _PHANTOM.search(one)), None)
    if named is not None:
        yield "phantom", f"phantom, by {named!r}"
    field_mm = row.field_of_view_mm
    least_mm = SMALLEST_TRUNK_MM if set(row.body_part.split()) & TRUNK else SMALLEST_FIELD_MM
    if field_mm is not None and field_mm < least_mm:
        yield "small field of view", f"field of {significant(field_mm)} mm, below {least_mm:g}"
    if row.reconstruction:
        yield "iterative reconstruction", f"iterative: {row.reconstruction}"
    if row.kernel and count >= FEWEST and kernels[row.kernel] < RARE * count:
        yield "rare kernel", f"kernel {row.kernel}, of {kernels[row.kernel]} in {count}"
    if usual_hu and row.noise_hu and not 1 / NOISE_TIMES <= row.noise_hu / usual_hu <= NOISE_TIMES:
        yield "unusual noise", f"noise of {significant(row.noise_hu)} HU, usual here: {significant(usual_hu)} HU"


def _usual_noise(fit: Sequence[tuple[int, SeriesRow]]) -> float | None:
    known = [row.noise_hu for _, row in fit if row.noise_hu]
    return median(known) if len(known) >= FEWEST else None
