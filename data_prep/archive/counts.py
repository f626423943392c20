"""How often each verdict was given, and each reason for skipping a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from data_prep.table import FIT, SeriesRow


def verdict_group(verdict: str) -> str:
    """A verdict without its particulars, so that like ones are counted together: ``gap: 1 slice missing`` is a gap."""
    return verdict.split(":")[0].split(" (")[0]


def verdict_counts(rows: Sequence[SeriesRow]) -> list[tuple[str, int]]:
    """How many series have each kind of verdict: fit first, then the most frequent."""
    counts = Counter(verdict_group(row.verdict) for row in rows)
    return sorted(counts.items(), key=lambda item: (item[0] != FIT, -item[1], item[0]))


def reason_counts(skipped: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """How many files were skipped for each reason, most frequent first."""
    return sorted(Counter(reason for _, reason in skipped).items(), key=lambda item: (-item[1], item[0]))
