"""What a figure means, in words beside it: as it should be, or to be looked at, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from iscl_monai.report.explained import Topic
from iscl_monai.report.numbers import fixed

Tone = Literal["pass", "look", ""]
SMALLEST_NOISE_REMOVED = 0.1
NEAR_TARGET = 1.15
"""Weights reach the noise that they are to leave to about 15 %."""
LARGEST_DOSE_RATIO = 10.0
"""Ours: denoising a quarter of the dose to the noise of all of it is 4."""
SHIFT_BY_NOISE_HU = 2.0
SHIFT_BY_STANDARDS_HU = 4.0
"""As the limits of ``qa``: what chance may do, and what IEC 61223-3-5 and the ACR programme allow, in order."""
LARGEST_FREQUENCY_SHIFT = 0.2
"""As the limits of ``qa``."""
FAINT, CLEAR = 0.1, 0.3
"""Ours, of a correlation between 0 and 1."""


@dataclass(frozen=True)
class Verdict:
    """A figure's meaning.

    Args:
        words: short, as printed in bold; empty: none.
        reason: one sentence without its full stop.
        tone: its colour: ``pass``, ``look`` (look at the images), or none.
        topic: what explains it, see :mod:`iscl_monai.report.explained`; empty: nothing.
    """

    words: str = ""
    reason: str = ""
    tone: Tone = ""
    topic: Topic | Literal[""] = ""


NONE = Verdict()


def of_noise(before_hu: float, after_hu: float, *, uniform: bool = True, target_hu: float = 0.0) -> Verdict:
    """Of local noise that was removed.

    Args:
        before_hu: standard deviation.
        after_hu: the same after denoising.
        uniform: whether the tissue itself is uniform, so that what varies is noise.
        target_hu: noise that the weights leave on purpose; 0: none, or not known.
    """
    if not (before_hu > 0 and math.isfinite(before_hu) and math.isfinite(after_hu)):
        return NONE
    if not uniform:
        reason = "structure of this tissue, or a scanner's cut-off, counts as noise here"
        return Verdict("not judged", reason, topic="noise")
    removed = 1 - after_hu / before_hu
    if removed < SMALLEST_NOISE_REMOVED and before_hu <= NEAR_TARGET * target_hu:
        reason = f"no louder than the {fixed(target_hu, 1)} HU that these weights leave; --target-noise asks for less"
        return Verdict("left alone on purpose", reason, topic="noise")
    if removed < SMALLEST_NOISE_REMOVED:
        return Verdict(
            "hardly anything removed",
            f"{100 * removed:.0f} % of the noise is less than any filter takes",
            "look",
            "noise",
        )
    ratio = (before_hu / after_hu) ** 2 if after_hu > 0 else math.inf
    if ratio > LARGEST_DOSE_RATIO:
        times = f"{ratio:.0f} times" if math.isfinite(ratio) else "any"
        return Verdict(
            "more than dose would take",
            f"so quiet a scan takes {times} the dose; above {LARGEST_DOSE_RATIO:g} times tissue looks like plastic; "
            "--target-noise or --target-dose leaves more",
            "look",
            "noise",
        )
    reason = f"noise falls as 1/√dose: this is that of {ratio:.1f} times the dose"
    return Verdict("as more dose would", reason, "pass", "noise")


def of_shift(shift_hu: float) -> Verdict:
    """Of a mean that should have stayed."""
    if not math.isfinite(shift_hu):
        return NONE
    moved = f"moved by {fixed(shift_hu, 1, signed=True)} HU"
    if abs(shift_hu) <= SHIFT_BY_NOISE_HU:
        return Verdict("kept", f"noise has no mean; chance may do {SHIFT_BY_NOISE_HU:g} HU", "pass", "shift")
    if abs(shift_hu) <= SHIFT_BY_STANDARDS_HU:
        reason = f"{moved}; standards allow the order of {SHIFT_BY_STANDARDS_HU:g} HU of water"
        return Verdict("kept", reason, "pass", "shift")
    return Verdict(moved, "noise has no mean, so the denoiser changed tissue: compare the images", "look", "shift")


def of_residual(correlation: float) -> Verdict:
    """Of how much anatomy shows in what was removed."""
    if not math.isfinite(correlation):
        return NONE
    scale = "0 is noise alone, 1 is anatomy alone"
    if correlation <= FAINT:
        return Verdict("noise alone", scale, "pass", "residual")
    if correlation <= CLEAR:
        return Verdict(
            "a little anatomy", f"{scale}; noise itself varies with anatomy: look at Removed", "", "residual"
        )
    return Verdict("anatomy was removed", f"{scale}; look at Removed for edges and organs", "look", "residual")


def of_frequency(before_per_mm: float, after_per_mm: float) -> Verdict:
    """Of the noise's frequency, which its grain is seen by."""
    if not (before_per_mm > 0 and math.isfinite(after_per_mm)):
        return NONE
    shift = after_per_mm / before_per_mm - 1
    limit = f"{100 * LARGEST_FREQUENCY_SHIFT:.0f} % is the wish of qa"
    if abs(shift) <= LARGEST_FREQUENCY_SHIFT:
        return Verdict("grain kept", f"{fixed(100 * shift, 0, signed=True)} %; {limit}", "pass", "frequency")
    looks = "coarser: looks blotchy" if shift < 0 else "finer: edges may be enhanced"
    return Verdict(looks, f"{fixed(100 * shift, 0, signed=True)} %; {limit}", "look", "frequency")


def of_score(before: float | None, after: float, *, higher: bool, digits: int) -> Verdict:
    """Of a score against a reference, beside that of the input."""
    if before is None or not (math.isfinite(before) and math.isfinite(after)):
        return NONE
    change = fixed(after - before, digits, signed=True)
    if (after > before) == higher and after != before:
        return Verdict("better than the input", change, "pass", "score")
    return Verdict("not better than the input", change, "look", "score")
